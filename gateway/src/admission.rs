//! Admission: whether the gateway takes one more request.
//!
//! Reasons to refuse, in this order: the gateway shuts down; the replies of the route cannot be received yet; no worker is
//! there; `MAX_IN_FLIGHT` or the bound of the route is reached; replies are too slow to answer in time. Routes without
//! replies have the first reason and the bounds only.

use std::time::Duration;

use tokio::time::Instant;

use crate::{response::GatewayError, topic_admission::TopicAdmission};

/// What admission knows of a route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RouteLimits {
    pub(crate) timeout: Duration,
    pub(crate) max_in_flight: usize,
    /// The index of its request topic with its reply topic; `None` for a route without replies.
    pub(crate) topic: Option<usize>,
}

/// Decides on each request. Does no I/O, and is told the time.
#[derive(Debug)]
pub(crate) struct Admission {
    is_shutting_down: bool,
    in_flight: usize,
    max_in_flight: usize,
    routes: Vec<RouteAdmission>,
    topics: Vec<TopicAdmission>,
}

#[derive(Debug)]
struct RouteAdmission {
    limits: RouteLimits,
    in_flight: usize,
}

// === impl Admission ===

impl Admission {
    pub(crate) fn new(max_in_flight: usize, routes: &[RouteLimits]) -> Self {
        let topics = routes
            .iter()
            .filter_map(|route| route.topic)
            .max()
            .map_or(0, |last| last + 1);
        let of_topic = |topic| {
            let routes = routes.iter().filter(move |route| route.topic == Some(topic));
            TopicAdmission::new(routes.map(|route| route.timeout))
        };
        Self {
            is_shutting_down: false,
            in_flight: 0,
            max_in_flight,
            routes: routes
                .iter()
                .map(|limits| RouteAdmission {
                    limits: *limits,
                    in_flight: 0,
                })
                .collect(),
            topics: (0..topics).map(of_topic).collect(),
        }
    }

    /// Refuses every request from now on.
    pub(crate) fn shut_down(&mut self) {
        self.is_shutting_down = true;
    }

    /// A request topic with its reply topic.
    pub(crate) fn topic(&mut self, topic: usize) -> Option<&mut TopicAdmission> {
        self.topics.get_mut(topic)
    }

    /// The topic of a route with replies.
    pub(crate) fn topic_of(&mut self, route: usize) -> Option<&mut TopicAdmission> {
        let topic = self.limits(route)?.topic?;
        self.topics.get_mut(topic)
    }

    pub(crate) fn has_replies(&self, route: usize) -> bool {
        self.limits(route).is_some_and(|limits| limits.topic.is_some())
    }

    pub(crate) fn limits(&self, route: usize) -> Option<RouteLimits> {
        self.routes.get(route).map(|route| route.limits)
    }

    /// Whether a request with this timeout would be admitted now. Uses up no probe.
    pub(crate) fn check(&mut self, route: usize, timeout: Duration, now: Instant) -> Result<(), GatewayError> {
        if self.is_shutting_down {
            return Err(GatewayError::ShuttingDown);
        }
        if let Some(topic) = self.topic_of(route) {
            topic.check_presence(now)?;
        }
        let is_full = |route: &RouteAdmission| route.in_flight >= route.limits.max_in_flight;
        if self.in_flight >= self.max_in_flight || self.routes.get(route).is_none_or(is_full) {
            return Err(GatewayError::Full);
        }
        match self.topic_of(route) {
            Some(topic) => topic.check_pace(timeout, now),
            None => Ok(()),
        }
    }

    /// Admits a request; returns whether it is a probe.
    pub(crate) fn admit(&mut self, route: usize, timeout: Duration, now: Instant) -> Result<bool, GatewayError> {
        self.check(route, timeout, now)?;
        self.in_flight += 1;
        if let Some(route) = self.routes.get_mut(route) {
            route.in_flight += 1;
        }
        Ok(self.topic_of(route).is_some_and(|topic| topic.enter(now)))
    }

    /// An admitted request ended.
    pub(crate) fn leave(&mut self, route: usize) {
        self.in_flight -= 1;
        if let Some(route) = self.routes.get_mut(route) {
            route.in_flight -= 1;
        }
        if let Some(topic) = self.topic_of(route) {
            topic.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic_admission::{PROBE_INTERVAL, REFUSED_PER_PROBE};

    const TIMEOUT: Duration = Duration::from_secs(10);
    const NO_WORKER: Result<bool, GatewayError> = Err(GatewayError::NoWorker);

    /// The routes: 0 and 1 share topic 0, 2 has topic 1, 3 has no replies.
    fn admission() -> Admission {
        let limits = |max_in_flight, topic| RouteLimits {
            timeout: TIMEOUT,
            max_in_flight,
            topic,
        };
        let routes = [
            limits(2, Some(0)),
            limits(9, Some(0)),
            limits(9, Some(1)),
            limits(2, None),
        ];
        let mut admission = Admission::new(5, &routes);
        for topic in 0..2 {
            admission.topic(topic).unwrap().ready();
        }
        admission
    }

    fn admit(admission: &mut Admission, route: usize, now: Instant) -> Result<bool, GatewayError> {
        admission.admit(route, TIMEOUT, now)
    }

    /// Topic 0 has no worker, and its next admitted request is a probe.
    fn with_probe_due() -> (Admission, Instant) {
        let (mut admission, start) = (admission(), Instant::now());
        admission.topic(0).unwrap().set_no_worker(true, start);
        for _ in 0..REFUSED_PER_PROBE {
            assert_eq!(admit(&mut admission, 0, start), NO_WORKER);
        }
        (admission, start + PROBE_INTERVAL)
    }

    #[test]
    fn requests_are_admitted_between_ready_and_shutdown() {
        let now = Instant::now();
        let limits = |topic| RouteLimits {
            timeout: TIMEOUT,
            max_in_flight: 9,
            topic,
        };
        let mut admission = Admission::new(9, &[limits(Some(0)), limits(None)]);
        assert_eq!(admit(&mut admission, 0, now), Err(GatewayError::NotReady));
        assert_eq!(admit(&mut admission, 1, now), Ok(false), "nothing is read for it");
        admission.topic(0).unwrap().ready();
        assert_eq!(admit(&mut admission, 0, now), Ok(false));
        admission.topic(0).unwrap().set_no_worker(true, now);
        admission.topic(0).unwrap().not_ready();
        assert_eq!(admit(&mut admission, 0, now), Err(GatewayError::NotReady));
        admission.topic(0).unwrap().ready();
        assert_eq!(
            admit(&mut admission, 0, now),
            Ok(false),
            "whether a worker is there is unknown"
        );
        admission.shut_down();
        admission.topic(0).unwrap().not_ready();
        admission.topic(0).unwrap().ready();
        for route in 0..2 {
            assert_eq!(admit(&mut admission, route, now), Err(GatewayError::ShuttingDown));
        }
    }

    #[test]
    fn each_route_and_all_of_them_have_a_bound() {
        let (mut admission, now) = (admission(), Instant::now());
        for (route, expected) in [
            (0, Ok(false)),
            (0, Ok(false)),
            (0, Err(GatewayError::Full)),
            (3, Ok(false)),
            (3, Ok(false)),
            (3, Err(GatewayError::Full)),
            (1, Ok(false)),
            (2, Err(GatewayError::Full)),
        ] {
            assert_eq!(admit(&mut admission, route, now), expected, "{route}");
        }
        admission.leave(0);
        assert_eq!(admit(&mut admission, 2, now), Ok(false));
        assert_eq!(admit(&mut admission, 0, now), Err(GatewayError::Full));
        admission.leave(2);
        assert_eq!(admit(&mut admission, 0, now), Ok(false));
    }

    #[test]
    fn absent_workers_of_a_topic_refuse_its_routes_only() {
        let (mut admission, now) = (admission(), Instant::now());
        admission.topic(0).unwrap().set_no_worker(true, now);
        let outcomes = [0, 1, 2, 3].map(|route| admit(&mut admission, route, now));
        assert_eq!(outcomes, [NO_WORKER, NO_WORKER, Ok(false), Ok(false)]);
    }

    #[test]
    fn without_a_worker_one_probe_per_interval_is_admitted() {
        let (mut admission, mut now) = with_probe_due();
        for _ in 0..3 {
            assert_eq!(admit(&mut admission, 0, now), Ok(true));
            admission.leave(0);
            for _ in 0..2 * REFUSED_PER_PROBE {
                assert_eq!(admit(&mut admission, 0, now), NO_WORKER);
            }
            now += PROBE_INTERVAL;
        }
        admission.topic(0).unwrap().set_no_worker(false, now);
        assert_eq!(admit(&mut admission, 0, now), Ok(false));
    }

    #[test]
    fn no_probe_before_enough_requests_were_refused() {
        let (mut admission, start) = (admission(), Instant::now());
        admission.topic(0).unwrap().set_no_worker(true, start);
        let later = start + 10 * PROBE_INTERVAL;
        for _ in 0..REFUSED_PER_PROBE {
            assert_eq!(admit(&mut admission, 0, later), NO_WORKER);
        }
        assert_eq!(admit(&mut admission, 0, later), Ok(true));
    }

    #[test]
    fn a_request_refused_as_full_does_not_use_up_the_probe() {
        let (mut admission, now) = with_probe_due();
        admission.max_in_flight = 0;
        assert_eq!(admit(&mut admission, 0, now), Err(GatewayError::Full));
        admission.max_in_flight = 5;
        assert_eq!(admit(&mut admission, 0, now), Ok(true));
    }

    #[test]
    fn a_slow_topic_refuses_by_the_timeout_of_the_request() {
        let (mut admission, mut now) = with_probe_due();
        admission.max_in_flight = usize::MAX;
        admission.routes[1].limits.max_in_flight = usize::MAX;
        admission.topic(0).unwrap().set_no_worker(false, now);
        for _ in 0..100 {
            assert_eq!(admit(&mut admission, 1, now), Ok(false));
        }
        let topic = admission.topic(0).unwrap();
        topic.set_no_worker(true, now);
        for _ in 0..REFUSED_PER_PROBE {
            assert_eq!(topic.check_presence(now), Err(GatewayError::NoWorker));
        }
        topic.replied(1, Duration::from_millis(1), now);
        // 10/s with 100 in flight: 10 s for the next one.
        for _ in 0..100 {
            now += Duration::from_millis(200);
            topic.replied(2, TIMEOUT, now);
        }
        assert_eq!(admission.admit(1, TIMEOUT, now), Err(GatewayError::Overloaded));
        assert_eq!(admission.admit(2, TIMEOUT, now), Ok(false), "another topic");
        // A request that waits longer is admitted, and is the probe that the refused one left.
        assert_eq!(admission.admit(1, 2 * TIMEOUT, now), Ok(true));
    }

    #[test]
    fn a_check_does_not_use_up_the_probe() {
        let (mut admission, now) = with_probe_due();
        assert_eq!(admission.check(0, TIMEOUT, now), Ok(()));
        assert_eq!(admit(&mut admission, 0, now), Ok(true));
        assert_eq!(admission.check(0, TIMEOUT, now), Err(GatewayError::NoWorker));
    }

    #[test]
    fn a_returned_probe_is_the_next_request() {
        let (mut admission, now) = with_probe_due();
        assert_eq!(admit(&mut admission, 0, now), Ok(true));
        admission.topic(0).unwrap().return_probe(now);
        assert_eq!(admit(&mut admission, 0, now), Ok(true));
        assert_eq!(admit(&mut admission, 0, now), NO_WORKER);
    }
}

//! Whether a worker is there, judged by what arrives in the reply topic.
//!
//! Our workers write a heartbeat into the reply topic every second. After the first heartbeat, silence means absence: for
//! [`SILENCE`] neither a heartbeat nor a reply, although the broker answers each fetch and the log is read to its end.
//! Without heartbeats the presence is unknown. Replies without heartbeats mean that another kind of worker has taken over.

use std::time::Duration;

use tokio::time::Instant;

/// Silence that means that no worker is there: three missed heartbeats, and time to restart a worker.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);

/// The most silence that one fetch adds: a fetch waits 500 ms for records, anything beyond is the broker's delay.
const MAX_SILENCE_PER_FETCH: Duration = Duration::from_millis(600);

/// A longer time between two fetch responses counts as an outage of Kafka.
const OUTAGE: Duration = Duration::from_millis(1500);

/// Silence allowed in addition after an outage: workers may reconnect some seconds later than the gateway.
const OUTAGE_GRACE: Duration = Duration::from_secs(8);

/// Watches the fetches of the reply topic. Does no I/O, and is told the time.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkerPresence {
    /// The workers send heartbeats.
    has_heartbeats: bool,
    /// Since the last heartbeat or reply.
    silence: Duration,
    /// Since the last heartbeat.
    heartbeat_silence: Duration,
    /// Silence allowed in addition to [`SILENCE`].
    grace: Duration,
    last_fetch: Option<Instant>,
}

/// The best sign of a worker in one fetch, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sign {
    Nothing,
    /// A reply to a request of this gateway.
    Reply,
    Heartbeat,
}

// === impl WorkerPresence ===

impl WorkerPresence {
    /// The broker answered a fetch. Unless it was `at_end` of the log, the rest may hold heartbeats: that is not silence.
    /// An open transaction can hide any number of records.
    pub(crate) fn fetched(&mut self, sign: Sign, at_end: bool, now: Instant) {
        let gap = self.last_fetch.replace(now).map_or(Duration::ZERO, |last| now - last);
        if gap > OUTAGE {
            (self.silence, self.heartbeat_silence) = (Duration::ZERO, Duration::ZERO);
            self.grace = OUTAGE_GRACE;
        }
        if sign == Sign::Nothing && !at_end {
            return;
        }
        let silence = gap.min(MAX_SILENCE_PER_FETCH);
        self.silence += silence;
        self.heartbeat_silence += silence;
        match sign {
            Sign::Nothing => return,
            Sign::Reply => self.has_heartbeats &= self.heartbeat_silence < SILENCE + self.grace,
            Sign::Heartbeat => (self.has_heartbeats, self.heartbeat_silence) = (true, Duration::ZERO),
        }
        (self.silence, self.grace) = (Duration::ZERO, Duration::ZERO);
    }

    /// Whether no worker is there; `false` while it is unknown.
    pub(crate) fn has_no_worker(&self) -> bool {
        self.has_heartbeats && self.silence >= SILENCE + self.grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Empty fetches at the end of the log, every 500 ms.
    fn silence(presence: &mut WorkerPresence, now: &mut Instant, seconds: u64) {
        for _ in 0..2 * seconds {
            *now += Duration::from_millis(500);
            presence.fetched(Sign::Nothing, true, *now);
        }
    }

    #[test]
    fn workers_without_heartbeats_are_never_missed() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.fetched(Sign::Reply, true, now);
        silence(&mut presence, &mut now, 60);
        assert!(!presence.has_no_worker());
    }

    #[test]
    fn no_worker_after_3_s_of_silence() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.fetched(Sign::Heartbeat, true, now);
        silence(&mut presence, &mut now, 2);
        assert!(!presence.has_no_worker());
        silence(&mut presence, &mut now, 1);
        assert!(presence.has_no_worker());
    }

    #[test]
    fn fetch_before_the_end_of_the_log_is_not_silence() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.fetched(Sign::Heartbeat, true, now);
        for no_worker in [false, true] {
            for _ in 0..20 {
                now += Duration::from_millis(500);
                presence.fetched(Sign::Nothing, false, now);
                assert_eq!(presence.has_no_worker(), no_worker);
            }
            silence(&mut presence, &mut now, 3);
            assert!(presence.has_no_worker());
        }
    }

    #[test]
    fn outage_before_an_incomplete_fetch_allows_grace() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.fetched(Sign::Heartbeat, true, now);
        silence(&mut presence, &mut now, 2);
        now += Duration::from_secs(20);
        presence.fetched(Sign::Nothing, false, now);
        silence(&mut presence, &mut now, 10);
        assert!(!presence.has_no_worker());
        silence(&mut presence, &mut now, 1);
        assert!(presence.has_no_worker());
    }

    #[test]
    fn heartbeat_or_reply_ends_the_silence() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.fetched(Sign::Heartbeat, true, now);
        for sign in [Sign::Heartbeat, Sign::Reply] {
            silence(&mut presence, &mut now, 5);
            assert!(presence.has_no_worker());
            presence.fetched(sign, true, now);
            assert!(!presence.has_no_worker());
        }
    }

    #[test]
    fn replies_without_heartbeats_end_the_watch() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.fetched(Sign::Heartbeat, true, now);
        // Shortly after a heartbeat a reply is as good as one.
        silence(&mut presence, &mut now, 2);
        presence.fetched(Sign::Reply, true, now);
        silence(&mut presence, &mut now, 3);
        assert!(presence.has_no_worker());
        // A worker without heartbeats replies.
        presence.fetched(Sign::Reply, true, now);
        silence(&mut presence, &mut now, 60);
        assert!(!presence.has_no_worker());
        presence.fetched(Sign::Heartbeat, true, now);
        silence(&mut presence, &mut now, 3);
        assert!(presence.has_no_worker());
    }

    #[test]
    fn outage_is_not_silence() {
        let (mut presence, mut now) = (WorkerPresence::default(), Instant::now());
        presence.fetched(Sign::Heartbeat, true, now);
        now += Duration::from_secs(60);
        presence.fetched(Sign::Nothing, true, now);
        assert!(!presence.has_no_worker());
        // The workers have to reconnect as well.
        silence(&mut presence, &mut now, 8);
        assert!(!presence.has_no_worker());
        silence(&mut presence, &mut now, 4);
        assert!(presence.has_no_worker());
    }
}

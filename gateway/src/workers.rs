//! The workers that send heartbeats: what each serves, for `/workers` of the admin listener and for the metrics.
//!
//! - A service that sends no heartbeats is not listed. Nothing is decided by this list: admission has
//!   [`worker_presence`](crate::worker_presence).
//! - Any client can write heartbeats, so their number and size are bounded. Ids are no labels of metrics: each start of a
//!   worker has a new one.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use serde::Serialize;
use shared::heartbeat::Heartbeat;
use tokio::time::Instant;

use crate::worker_presence::SILENCE;

/// How long a silent worker is listed.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The most workers that are listed.
const MAX_WORKERS: usize = 1_000;

/// The largest heartbeat of a worker that is listed, in bytes.
const MAX_HEARTBEAT_BYTES: usize = 16 * 1024;

/// The workers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    state: Arc<Mutex<State>>,
    /// The request topics of the routes.
    topics: Arc<[String]>,
}

#[derive(Debug, Default)]
struct State {
    /// By id.
    workers: BTreeMap<String, Worker>,
    /// When a worker was last left out.
    left_out: Option<Instant>,
    /// Requests that the listed workers have handled, as far as two heartbeats of a worker differ, and those that failed.
    handled: u64,
    failed: u64,
}

#[derive(Debug)]
struct Worker {
    last: Heartbeat,
    heard: Instant,
}

/// The body of `/workers`.
#[derive(Debug, Serialize)]
struct Page<'a> {
    workers: Vec<Listed<'a>>,
    /// There are more workers than are listed.
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    heartbeat: &'a Heartbeat,
    /// Since the last heartbeat.
    silent_ms: u64,
    /// Whether the last heartbeat is recent.
    present: bool,
}

// === impl Workers ===

impl Workers {
    /// An empty list. The metrics have the label `topic` for these request topics.
    pub(crate) fn new(topics: Vec<String>) -> Self {
        Self {
            state: Arc::default(),
            topics: topics.into(),
        }
    }

    /// A worker sent a heartbeat of so many bytes. Without an id, workers cannot be told apart.
    pub(crate) fn heard(&self, heartbeat: Heartbeat, bytes: usize, now: Instant) {
        if !heartbeat.id.is_empty() {
            self.state.lock().heard(heartbeat, bytes, now);
        }
    }

    /// The list as JSON.
    pub(crate) fn json(&self, now: Instant) -> String {
        let mut state = self.state.lock();
        state.forget(now);
        let mut workers: Vec<_> = state.workers.values().map(|worker| worker.listed(now)).collect();
        workers.sort_by_key(|worker| (&worker.heartbeat.name, &worker.heartbeat.id));
        let truncated = state.left_out.is_some_and(|last| now - last < SILENCE);
        // Strings, numbers and maps with string keys always serialize.
        serde_json::to_string(&Page { workers, truncated }).unwrap_or_default()
    }
}

impl Collector for Workers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let now = Instant::now();
        let state = self.state.lock();
        let present: Vec<_> = state.workers.values().filter(|worker| worker.is_present(now)).collect();
        let mut by_topic = encoder.encode_descriptor(
            "workers",
            "Workers that sent a heartbeat within the last 3 s, by request topic",
            None,
            MetricType::Gauge,
        )?;
        for topic in &*self.topics {
            let readers = present.iter().filter(|worker| worker.last.reads(topic)).count();
            let readers = ConstGauge::new(i64::try_from(readers).unwrap_or(i64::MAX));
            readers.encode(by_topic.encode_family(&[("topic", topic.as_str())])?)?;
        }
        let in_flight = present
            .iter()
            .fold(0, |sum: u64, worker| sum.saturating_add(worker.last.in_flight));
        let in_flight = ConstGauge::new(i64::try_from(in_flight).unwrap_or(i64::MAX));
        in_flight.encode(encoder.encode_descriptor(
            "workers_in_flight",
            "Requests that these workers are handling",
            None,
            MetricType::Gauge,
        )?)?;
        for (name, help, value) in [
            ("workers_handled", "Requests that workers have handled", state.handled),
            ("workers_failed", "Of these, requests that failed", state.failed),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}

// === impl State ===

impl State {
    fn heard(&mut self, mut heartbeat: Heartbeat, bytes: usize, now: Instant) {
        if bytes > MAX_HEARTBEAT_BYTES {
            self.left_out = Some(now);
            return;
        }
        if let Some(worker) = self.workers.get_mut(&heartbeat.id) {
            // Of heartbeats in two topics the older one may come last.
            let newly = |now: u64, before: u64| now.saturating_sub(before);
            self.handled = self
                .handled
                .saturating_add(newly(heartbeat.handled, worker.last.handled));
            self.failed = self.failed.saturating_add(newly(heartbeat.failed, worker.last.failed));
            heartbeat.handled = heartbeat.handled.max(worker.last.handled);
            heartbeat.failed = heartbeat.failed.max(worker.last.failed);
            *worker = Worker {
                last: heartbeat,
                heard: now,
            };
            return;
        }
        self.forget(now);
        if self.workers.len() >= MAX_WORKERS {
            self.left_out = Some(now);
            return;
        }
        let worker = Worker {
            heard: now,
            last: heartbeat,
        };
        self.workers.insert(worker.last.id.clone(), worker);
    }

    /// Removes workers that have been silent for long.
    fn forget(&mut self, now: Instant) {
        self.workers.retain(|_, worker| now - worker.heard < FORGOTTEN_AFTER);
    }
}

// === impl Worker ===

impl Worker {
    fn is_present(&self, now: Instant) -> bool {
        now - self.heard < SILENCE
    }

    fn listed(&self, now: Instant) -> Listed<'_> {
        Listed {
            heartbeat: &self.last,
            silent_ms: u64::try_from((now - self.heard).as_millis()).unwrap_or(u64::MAX),
            present: self.is_present(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};
    use serde_json::{Value, json};

    use super::*;

    fn heartbeat(id: &str, topics: &[&str], handled: u64) -> Heartbeat {
        Heartbeat {
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            name: "shop".to_owned(),
            id: id.to_owned(),
            in_flight: 2,
            handled,
            ..Heartbeat::default()
        }
    }

    fn workers() -> Workers {
        Workers::new(vec!["orders".to_owned(), "customers".to_owned()])
    }

    fn page(workers: &Workers, now: Instant) -> Value {
        serde_json::from_str(&workers.json(now)).unwrap()
    }

    fn ids(page: &Value) -> Vec<(&str, bool)> {
        let listed = page["workers"].as_array().unwrap().iter();
        listed
            .map(|worker| (worker["id"].as_str().unwrap(), worker["present"].as_bool().unwrap()))
            .collect()
    }

    #[test]
    fn worker_is_listed_as_it_says_of_itself() {
        let (workers, now) = (workers(), Instant::now());
        let partitions = [("orders".to_owned(), vec![0, 2])].into();
        let sent = Heartbeat {
            partitions,
            version: "1.4.0".to_owned(),
            group: "shops".to_owned(),
            failed: 1,
            ..heartbeat("a", &["orders"], 812)
        };
        workers.heard(sent, 100, now);
        let later = now + Duration::from_millis(400);
        let expected = json!({
            "workers": [{
                "id": "a", "name": "shop", "version": "1.4.0", "group": "shops",
                "topics": ["orders"], "partitions": { "orders": [0, 2] },
                "in_flight": 2, "handled": 812, "failed": 1, "silent_ms": 400, "present": true,
            }],
            "truncated": false,
        });
        assert_eq!(page(&workers, later), expected);
    }

    #[test]
    fn silent_worker_is_marked_and_then_forgotten() {
        let (workers, start) = (workers(), Instant::now());
        workers.heard(heartbeat("a", &["orders"], 0), 100, start);
        workers.heard(heartbeat("b", &["orders"], 0), 100, start + Duration::from_secs(2));
        let seen = |seconds| page(&workers, start + Duration::from_secs(seconds));
        assert_eq!(ids(&seen(2)), [("a", true), ("b", true)]);
        assert_eq!(ids(&seen(3)), [("a", false), ("b", true)]);
        assert_eq!(ids(&seen(60)), [("b", false)]);
        assert_eq!(ids(&seen(62)), []);
    }

    #[test]
    fn heartbeat_without_an_id_is_not_listed() {
        let (workers, now) = (workers(), Instant::now());
        workers.heard(Heartbeat::default(), 0, now);
        workers.heard(heartbeat("", &["orders"], 0), 100, now);
        assert_eq!(ids(&page(&workers, now)), []);
    }

    #[test]
    fn number_and_size_are_bounded() {
        let (workers, now) = (workers(), Instant::now());
        for id in 0..MAX_WORKERS {
            workers.heard(heartbeat(&id.to_string(), &["orders"], 0), 100, now);
        }
        assert_eq!(page(&workers, now)["truncated"], false);
        workers.heard(heartbeat("one more", &["orders"], 0), 100, now);
        let full = page(&workers, now);
        assert_eq!((ids(&full).len(), &full["truncated"]), (MAX_WORKERS, &json!(true)));

        // Those that are silent make room.
        let later = now + FORGOTTEN_AFTER;
        workers.heard(heartbeat("one more", &["orders"], 0), 100, later);
        workers.heard(heartbeat("large", &["orders"], 0), MAX_HEARTBEAT_BYTES + 1, later);
        let page = page(&workers, later);
        assert_eq!(
            (ids(&page), &page["truncated"]),
            (vec![("one more", true)], &json!(true))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn metrics_have_a_series_for_each_topic_of_the_routes_and_no_ids() {
        let workers = workers();
        let mut registry = Registry::with_prefix("gateway");
        registry.register_collector(Box::new(workers.clone()));
        let now = Instant::now();
        workers.heard(heartbeat("a", &["orders", "others"], 10), 100, now);
        workers.heard(heartbeat("b", &[], 5), 100, now);
        for handled in [10, 14, 12, 15] {
            workers.heard(heartbeat("a", &["orders", "others"], handled), 100, now);
        }
        let text = |registry: &Registry| {
            let mut text = String::new();
            text::encode(&mut text, registry).unwrap();
            let values = text.lines().filter(|line| !line.starts_with('#'));
            values.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            text(&registry),
            [
                "gateway_workers{topic=\"orders\"} 2",
                "gateway_workers{topic=\"customers\"} 1",
                "gateway_workers_in_flight 4",
                "gateway_workers_handled_total 5",
                "gateway_workers_failed_total 0",
            ]
        );
        tokio::time::advance(SILENCE).await;
        let silent = text(&registry);
        assert_eq!(
            silent[..3].iter().filter(|line| line.ends_with(" 0")).count(),
            3,
            "{silent:?}"
        );
    }
}

//! The workers of one request topic, as far as one reply topic shows them: whether they are there, and which partitions they
//! read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use shared::heartbeat::Heartbeat;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    request_topic::RequestTopic,
    worker_presence::{Sign, WorkerPresence},
};

/// A worker that sent no heartbeat for this long is gone.
const WORKER_AGE: Duration = Duration::from_secs(5);

/// How long partitions must be without a worker before that is logged: a group that rebalances takes less.
const UNREAD_FOR: Duration = Duration::from_secs(15);

/// A request topic whose workers show themselves in a reply topic.
#[derive(Debug, Clone)]
pub(crate) struct WatchedTopic {
    /// In the admission.
    index: usize,
    name: String,
    presence: WorkerPresence,
    /// Since the last fetch.
    sign: Sign,
    has_no_worker: bool,
    coverage: Coverage,
    partitions: Option<Arc<RequestTopic>>,
}

/// Which partitions the workers read, by their ids.
#[derive(Debug, Clone, Default)]
struct Coverage {
    workers: BTreeMap<String, (Instant, Option<BTreeSet<i32>>)>,
    /// Partitions without a worker, and since when.
    unread: Option<(BTreeSet<i32>, Instant)>,
    is_logged: bool,
}

// === impl WatchedTopic ===

impl WatchedTopic {
    pub(crate) fn new(index: usize, name: &str, partitions: Option<Arc<RequestTopic>>) -> Self {
        Self {
            index,
            name: name.to_owned(),
            presence: WorkerPresence::default(),
            sign: Sign::Nothing,
            has_no_worker: false,
            coverage: Coverage::default(),
            partitions,
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// A worker sent a heartbeat.
    pub(crate) fn heartbeat(&mut self, heartbeat: &Heartbeat, now: Instant) {
        if !heartbeat.reads(&self.name) {
            return;
        }
        self.saw(Sign::Heartbeat);
        // Without an id, the partitions of several workers could not be told apart.
        let partitions = heartbeat
            .partitions
            .get(&self.name)
            .filter(|_| !heartbeat.id.is_empty());
        let partitions = partitions.map(|partitions| partitions.iter().copied().collect());
        self.coverage.workers.insert(heartbeat.id.clone(), (now, partitions));
    }

    pub(crate) fn saw(&mut self, sign: Sign) {
        self.sign = self.sign.max(sign);
    }

    /// The broker answered a fetch. Returns whether no worker is there, when that has changed.
    pub(crate) fn fetched(&mut self, at_end: bool, now: Instant) -> Option<bool> {
        let sign = std::mem::replace(&mut self.sign, Sign::Nothing);
        self.presence.fetched(sign, at_end, now);
        if sign == Sign::Heartbeat
            && let Some(topic) = &self.partitions
            && let Some(unread) = self.coverage.newly_unread(&topic.partitions(), now)
        {
            let partitions: Vec<_> = unread.iter().map(i32::to_string).collect();
            warn!(
                topic = self.name,
                partitions = partitions.join(","),
                "no worker reads these partitions: their requests time out"
            );
        }
        let has_no_worker = self.presence.has_no_worker();
        if std::mem::replace(&mut self.has_no_worker, has_no_worker) == has_no_worker {
            return None;
        }
        if has_no_worker {
            warn!(
                topic = self.name,
                "no heartbeat and no reply for 3 s or more: requests are refused"
            );
        } else {
            info!(topic = self.name, "a worker is there again");
        }
        Some(has_no_worker)
    }
}

// === impl Coverage ===

impl Coverage {
    /// The partitions that have been without a worker for long enough, once. A worker that does not tell its partitions may
    /// read any.
    fn newly_unread(&mut self, all: &BTreeSet<i32>, now: Instant) -> Option<BTreeSet<i32>> {
        self.workers.retain(|_, (seen, _)| now - *seen < WORKER_AGE);
        let mut unread = all.clone();
        for (_, partitions) in self.workers.values() {
            match partitions {
                Some(partitions) => unread.retain(|partition| !partitions.contains(partition)),
                None => unread.clear(),
            }
        }
        if unread.is_empty() {
            (self.unread, self.is_logged) = (None, false);
            return None;
        }
        match &self.unread {
            Some((same, since)) if *same == unread => {
                let is_new = now - *since >= UNREAD_FOR && !self.is_logged;
                self.is_logged |= is_new;
                is_new.then_some(unread)
            }
            _ => {
                (self.unread, self.is_logged) = (Some((unread, now)), false);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(topics: &[&str]) -> Heartbeat {
        Heartbeat {
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            ..Heartbeat::default()
        }
    }

    /// Fetches every 500 ms, with a heartbeat in each. Returns the last change.
    fn seconds(topic: &mut WatchedTopic, now: &mut Instant, seconds: u64, sent: &Heartbeat) -> Option<bool> {
        let mut change = None;
        for _ in 0..2 * seconds {
            *now += Duration::from_millis(500);
            topic.heartbeat(sent, *now);
            change = topic.fetched(true, *now).or(change);
        }
        change
    }

    #[test]
    fn heartbeat_counts_for_the_topics_that_it_names() {
        let (mut topic, mut now) = (WatchedTopic::new(0, "orders", None), Instant::now());
        assert_eq!(
            seconds(&mut topic, &mut now, 60, &heartbeat(&["other"])),
            None,
            "never judged without heartbeats"
        );
        assert_eq!(seconds(&mut topic, &mut now, 1, &heartbeat(&["other", "orders"])), None);
        assert_eq!(seconds(&mut topic, &mut now, 4, &heartbeat(&["other"])), Some(true));
        assert_eq!(
            seconds(&mut topic, &mut now, 1, &heartbeat(&[])),
            Some(false),
            "it may read every topic"
        );
        assert_eq!(seconds(&mut topic, &mut now, 4, &heartbeat(&["other"])), Some(true));
        topic.saw(Sign::Reply);
        assert_eq!(topic.fetched(true, now), Some(false));
    }

    #[test]
    fn partition_without_a_worker_is_reported_once() {
        let (mut coverage, mut now) = (Coverage::default(), Instant::now());
        let all: BTreeSet<i32> = (0..4).collect();
        let mut reported = |seconds: u64, workers: &[(&str, Option<&[i32]>)]| {
            let mut found = Vec::new();
            for _ in 0..seconds {
                now += Duration::from_secs(1);
                for (id, partitions) in workers {
                    let partitions = partitions.map(|partitions| partitions.iter().copied().collect());
                    coverage.workers.insert((*id).to_owned(), (now, partitions));
                }
                found.extend(coverage.newly_unread(&all, now));
            }
            found
        };
        assert!(reported(60, &[("a", Some(&[0, 1])), ("b", Some(&[2, 3]))]).is_empty());
        assert!(reported(14, &[("a", Some(&[0, 1]))]).is_empty(), "a short absence");
        assert_eq!(reported(60, &[("a", Some(&[0, 1]))]), [BTreeSet::from([2, 3])]);
        assert!(reported(60, &[("a", Some(&[0, 1])), ("c", None)]).is_empty());
    }
}

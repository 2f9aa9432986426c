//! Consumers of all partitions where the reply may come, from their ends on.

use std::{sync::Arc, time::Duration};

use kafka::{
    Cluster, ConsumedRecord, ConsumerMetrics, Partition, PartitionConsumer, Start, TopicPartition, WhenHeldFull,
};
use shared::readiness::Readiness;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};

/// Bound on the start of the first consumer, without which nothing is sent.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the others may take beyond that.
const OTHERS_TIMEOUT: Duration = Duration::from_secs(2);

/// Fetches that wait to be looked at.
const QUEUED: usize = 64;

/// The consumers. Their drop ends them.
#[derive(Debug)]
pub(super) struct Consumers {
    states: Vec<State>,
    events: mpsc::Receiver<(usize, Event)>,
    readiness: Readiness,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    place: TopicPartition,
    is_started: bool,
    /// The end of the log, as of the last fetch.
    end: Option<i64>,
}

#[derive(Debug)]
enum Event {
    Started,
    Fetched {
        records: Vec<ConsumedRecord>,
        position: i64,
    },
}

// === impl Consumers ===

impl Consumers {
    /// Begins to read these partitions, each over a connection of its own.
    pub(super) fn start(cluster: &Arc<Cluster>, places: Vec<TopicPartition>) -> Self {
        let (sender, events) = mpsc::channel(QUEUED);
        let readiness = Readiness::default();
        let mut tasks = JoinSet::new();
        for (index, place) in places.iter().enumerate() {
            let mut consumer = PartitionConsumer::new(
                Partition::new(cluster, &place.topic, place.partition),
                Start::Latest,
                WhenHeldFull::DropOldest,
                readiness.health_check(place.to_string()),
                ConsumerMetrics::default(),
            );
            let sender = sender.clone();
            tasks.spawn(async move {
                consumer.wait_for_start().await;
                let mut event = Event::Started;
                // An error means that the receiver is gone, and this task is about to be aborted.
                while sender.send((index, event)).await.is_ok() {
                    let fetched = consumer.poll().await;
                    let (records, position) = (fetched.records, fetched.position);
                    event = Event::Fetched { records, position };
                }
            });
        }
        let states = places.into_iter().map(|place| State {
            place,
            is_started: false,
            end: None,
        });
        Self {
            states: states.collect(),
            events,
            readiness,
            _tasks: tasks,
        }
    }

    /// Waits until no reply to a request sent from now on can be missed: in the first partition, and in the others if they can
    /// be read.
    ///
    /// # Errors
    /// Why the first partition cannot be read.
    pub(super) async fn wait_for_start(&mut self) -> Result<(), String> {
        let mut limit = Instant::now() + START_TIMEOUT;
        let mut has_first = false;
        while self.states.iter().any(|state| !state.is_started) {
            if !has_first && self.states.first().is_some_and(|state| state.is_started) {
                has_first = true;
                limit = Instant::now() + OTHERS_TIMEOUT;
            }
            match timeout_at(limit, self.events.recv()).await {
                // What was in flight before belongs to other requests.
                Ok(Some((index, event))) => drop(self.take(index, event)),
                Ok(None) | Err(_) if has_first => break,
                Ok(None) | Err(_) => return Err(self.causes().into_iter().next().unwrap_or_default()),
            }
        }
        Ok(())
    }

    /// Waits for records. Cancel safe.
    pub(super) async fn next(&mut self) -> (TopicPartition, Vec<ConsumedRecord>) {
        loop {
            let Some((index, event)) = self.events.recv().await else {
                // There is nothing to read.
                std::future::pending::<()>().await;
                continue;
            };
            if let Some(found) = self.take(index, event) {
                return found;
            }
        }
    }

    fn take(&mut self, index: usize, event: Event) -> Option<(TopicPartition, Vec<ConsumedRecord>)> {
        let state = self.states.get_mut(index)?;
        state.is_started = true;
        match event {
            Event::Started => None,
            Event::Fetched { records, position } => {
                state.end = Some(position);
                Some((state.place.clone(), records))
            }
        }
    }

    /// The end of a partition, if it is read.
    pub(super) fn end(&self, place: &TopicPartition) -> Option<i64> {
        self.states.iter().find(|state| state.place == *place)?.end
    }

    /// The partitions that cannot be read, each with the cause.
    pub(super) fn causes(&self) -> Vec<String> {
        let not_ready = self.readiness.not_ready().into_iter();
        let causes = not_ready.map(|(place, cause)| format!("{place} cannot be read: {cause}"));
        causes.collect()
    }
}

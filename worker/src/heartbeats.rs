//! Sends heartbeats to every partition of a reply topic while this worker serves partitions.
//!
//! - A gateway that reads them can tell its callers at once when no worker is running. They say what this worker reads.
//! - One heartbeat is in flight per partition, so that they do not pile up while Kafka is unreachable.
//! - The last one is sent at shutdown: from then on a successor has the gateway's full timeout to appear.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use kafka::{PartitionDiscovery, Rebalance, Record};
use shared::{headers::HEARTBEAT_KEY, heartbeat::Heartbeat};
use tokio::{
    sync::{Semaphore, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{executor::Executor, gate::Gate, metrics::Metrics, reply_producers::ReplyProducers};

/// The partitions of the reply topic, each with the permit of its heartbeat in flight.
type ReplyPartitions = BTreeMap<i32, Arc<Semaphore>>;

/// The partitions that are served, by topic.
pub(crate) type Served = BTreeMap<String, Vec<i32>>;

/// What heartbeats say, and where they go.
#[derive(Debug, Clone)]
pub(crate) struct Heartbeats {
    /// The topic that they go to.
    pub(crate) topic: String,
    pub(crate) replies: ReplyProducers,
    pub(crate) served: watch::Receiver<Served>,
    pub(crate) gate: Gate,
    pub(crate) executor: Executor,
    pub(crate) metrics: Metrics,
    /// Topics, name, version and id of this worker.
    pub(crate) template: Heartbeat,
}

// === impl Heartbeats ===

impl Heartbeats {
    /// Sends them until `stop` resolves.
    pub(crate) async fn run(self, discovery: PartitionDiscovery, period: Duration, stop: impl Future<Output = ()>) {
        let mut partitions = ReplyPartitions::new();
        tokio::select! {
            () = stop => {}
            never = self.repeat(discovery, period, &mut partitions) => match never {},
        }
        if !self.served.borrow().is_empty() {
            self.send_to_all(&partitions).await;
        }
    }

    async fn repeat(
        &self,
        mut discovery: PartitionDiscovery,
        period: Duration,
        partitions: &mut ReplyPartitions,
    ) -> Infallible {
        let mut served = self.served.clone();
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                change = discovery.next() => match change {
                    Rebalance::Assigned(added) => {
                        partitions.extend(added.into_iter().map(|partition| (partition, Arc::new(Semaphore::new(1)))));
                        // The gateway of a new partition has not received any heartbeat yet.
                        ticks.reset_immediately();
                    }
                    Rebalance::Revoked(removed) => {
                        partitions.retain(|partition, _| !removed.contains(partition));
                        self.replies.remove_partitions(&self.topic, &removed);
                    }
                    Rebalance::Lost => partitions.clear(),
                },
                _ = ticks.tick() => {
                    self.gate.opened().await;
                    // An error means that the worker ends, which drops this future too.
                    let _ = served.wait_for(|served| !served.is_empty()).await;
                    self.send_to_all(partitions).await;
                }
            }
        }
    }

    async fn send_to_all(&self, partitions: &ReplyPartitions) {
        let value = self.value();
        for (partition, in_flight) in partitions {
            if let Ok(permit) = Arc::clone(in_flight).try_acquire_owned() {
                let record = Record::new(HEARTBEAT_KEY.to_vec(), value.clone());
                self.replies
                    .send_heartbeat(&self.topic, *partition, record, permit)
                    .await;
            }
        }
    }

    fn value(&self) -> Vec<u8> {
        let (handled, failed) = self.metrics.attempts();
        let heartbeat = Heartbeat {
            partitions: self.served.borrow().clone(),
            in_flight: u64::try_from(self.executor.running()).unwrap_or(u64::MAX),
            handled,
            failed,
            ..self.template.clone()
        };
        heartbeat.to_value()
    }
}

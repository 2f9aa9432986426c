//! Sends heartbeats to every partition of the reply topic while this worker serves partitions.
//!
//! - A gateway that reads them can tell its callers at once when no worker is running.
//! - One heartbeat is in flight per partition, so that they do not pile up while Kafka is unreachable.
//! - The last one is sent at shutdown: from then on a successor has the gateway's full timeout to appear.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use kafka::{PartitionDiscovery, Rebalance, Record};
use shared::headers::HEARTBEAT_KEY;
use tokio::{
    sync::{Semaphore, watch},
    time::{MissedTickBehavior, interval},
};

use crate::reply_producers::ReplyProducers;

/// The partitions of the reply topic, each with the permit of its heartbeat in flight.
type ReplyPartitions = BTreeMap<i32, Arc<Semaphore>>;

/// Sends heartbeats until `stop` resolves. `partition_count` is how many request partitions this worker serves.
pub(crate) async fn run(
    discovery: PartitionDiscovery,
    replies: ReplyProducers,
    partition_count: watch::Receiver<usize>,
    period: Duration,
    stop: impl Future<Output = ()>,
) {
    let mut partitions = ReplyPartitions::new();
    tokio::select! {
        () = stop => {}
        never = repeat(discovery, &replies, partition_count.clone(), period, &mut partitions) => match never {},
    }
    if *partition_count.borrow() > 0 {
        send_to_all(&replies, &partitions).await;
    }
}

async fn repeat(
    mut discovery: PartitionDiscovery,
    replies: &ReplyProducers,
    mut partition_count: watch::Receiver<usize>,
    period: Duration,
    partitions: &mut ReplyPartitions,
) -> Infallible {
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
                    replies.remove_partitions(&removed);
                }
                Rebalance::Lost => partitions.clear(),
            },
            _ = ticks.tick() => {
                // An error means that the worker ends, which drops this future too.
                let _ = partition_count.wait_for(|count| *count > 0).await;
                send_to_all(replies, partitions).await;
            }
        }
    }
}

async fn send_to_all(replies: &ReplyProducers, partitions: &ReplyPartitions) {
    for (partition, in_flight) in partitions {
        if let Ok(permit) = Arc::clone(in_flight).try_acquire_owned() {
            let record = Record::new(HEARTBEAT_KEY.to_vec(), Vec::new());
            replies.send_heartbeat(*partition, record, permit).await;
        }
    }
}

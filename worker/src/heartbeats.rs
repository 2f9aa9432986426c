//! Announcements: while this worker has partitions it says so in every partition of the reply topic, so that gateways can
//! tell their callers at once when nobody is there. It says so once more when it ends: from then on whoever takes its place
//! has as long as any worker may be silent.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use kafka::{PartitionDiscovery, Record};
use shared::headers;
use tokio::{
    sync::{Semaphore, watch},
    time::{MissedTickBehavior, interval},
};

use crate::reply_producers::ReplyProducers;

/// The partitions of the reply topic. One heartbeat is under way for each: they need not pile up while Kafka is out of
/// reach.
type Producers = BTreeMap<i32, Arc<Semaphore>>;

/// Announces until `stop` resolves. `partitions` is how many this worker reads.
pub(crate) async fn run(
    discovery: PartitionDiscovery,
    replies: ReplyProducers,
    partitions: watch::Receiver<usize>,
    every: Duration,
    stop: impl Future<Output = ()>,
) {
    let mut places = Producers::new();
    tokio::select! {
        () = stop => {}
        never = repeat(discovery, &replies, partitions.clone(), every, &mut places) => match never {},
    }
    if *partitions.borrow() > 0 {
        heartbeat(&replies, &places).await;
    }
}

async fn repeat(
    mut discovery: PartitionDiscovery,
    replies: &ReplyProducers,
    mut partitions: watch::Receiver<usize>,
    every: Duration,
    places: &mut Producers,
) -> Infallible {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            found = discovery.next() => {
                places.extend(found.into_iter().map(|it| (it, Arc::new(Semaphore::new(1)))));
                // Whoever listens there has heard nothing yet.
                ticks.reset_immediately();
            }
            _ = ticks.tick() => {
                // An error means that the worker ends, and this with it.
                let _ = partitions.wait_for(|count| *count > 0).await;
                heartbeat(replies, places).await;
            }
        }
    }
}

async fn heartbeat(replies: &ReplyProducers, places: &Producers) {
    for (partition, one) in places {
        if let Ok(permit) = Arc::clone(one).try_acquire_owned() {
            replies
                .heartbeat(
                    *partition,
                    Record::new(headers::HEARTBEAT_KEY.to_vec(), Vec::new()),
                    permit,
                )
                .await;
        }
    }
}

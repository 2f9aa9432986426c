//! Announcements: while this worker has partitions it says so in every partition of the reply topic, so that gateways can
//! tell their callers at once when nobody is there. It says so once more when it ends: from then on whoever takes its place
//! has as long as any worker may be silent.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use kafka::{Record, Survey};
use shared::wire;
use tokio::{
    sync::{Semaphore, watch},
    time::{MissedTickBehavior, interval},
};

use crate::destinations::Destinations;

/// The partitions of the reply topic. One announcement is under way for each: they need not pile up while Kafka is out of
/// reach.
type Places = BTreeMap<i32, Arc<Semaphore>>;

/// Announces until `stop` resolves. `partitions` is how many this worker reads.
pub(crate) async fn run(
    survey: Survey,
    replies: Destinations,
    partitions: watch::Receiver<usize>,
    every: Duration,
    stop: impl Future<Output = ()>,
) {
    let mut places = Places::new();
    tokio::select! {
        () = stop => {}
        never = repeat(survey, &replies, partitions.clone(), every, &mut places) => match never {},
    }
    if *partitions.borrow() > 0 {
        announce(&replies, &places).await;
    }
}

async fn repeat(
    mut survey: Survey,
    replies: &Destinations,
    mut partitions: watch::Receiver<usize>,
    every: Duration,
    places: &mut Places,
) -> Infallible {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            found = survey.next() => {
                places.extend(found.into_iter().map(|it| (it, Arc::new(Semaphore::new(1)))));
                // Whoever listens there has heard nothing yet.
                ticks.reset_immediately();
            }
            _ = ticks.tick() => {
                // An error means that the worker ends, and this with it.
                let _ = partitions.wait_for(|count| *count > 0).await;
                announce(replies, places).await;
            }
        }
    }
}

async fn announce(replies: &Destinations, places: &Places) {
    for (partition, one) in places {
        if let Ok(permit) = Arc::clone(one).try_acquire_owned() {
            replies
                .announce(
                    *partition,
                    Record::new(wire::ANNOUNCEMENT_KEY.to_vec(), Vec::new()),
                    permit,
                )
                .await;
        }
    }
}

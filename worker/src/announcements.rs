//! Announcements: while this worker has partitions it says so in every partition of the reply topic, so that gateways can
//! tell their callers at once when nobody is there.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use shared::{kafka::Survey, wire};
use tokio::{
    sync::{Semaphore, watch},
    time::{MissedTickBehavior, interval},
};

use crate::destinations::Destinations;

/// Announces for ever. `partitions` is how many this worker reads.
pub(crate) async fn run(
    mut survey: Survey,
    replies: Destinations,
    mut partitions: watch::Receiver<usize>,
    every: Duration,
) -> Infallible {
    // One announcement under way for each place: they need not pile up while Kafka is out of reach.
    let mut places = BTreeMap::<i32, Arc<Semaphore>>::new();
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
                // An error means that the worker ends, and this task with it.
                let _ = partitions.wait_for(|count| *count > 0).await;
                for (partition, one) in &places {
                    if let Ok(permit) = Arc::clone(one).try_acquire_owned() {
                        replies.announce(*partition, wire::announcement(), permit).await;
                    }
                }
            }
        }
    }
}

//! Runs a membership of a group: a task that sends the heartbeats, and the rebalances that follow from the answers.
//!
//! - The [`membership`](crate::membership) decides what a heartbeat says and when it is due.
//! - Heartbeats have a connection of their own, so that none waits for another call.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use shared::{error_chain::ErrorChain, readiness::HealthCheck, tasks::Tasks};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    coordinator::{Coordinator, Error, Subscription},
    membership::{MemberEpoch, Membership, Rebalance},
    topic_partition::TopicPartition,
};

/// Between two requests for the names of assigned topics.
const RESOLVE_RETRY: Duration = Duration::from_millis(500);

/// This worker's membership of a group.
#[derive(Debug)]
pub struct Group {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    membership: Mutex<Membership>,
    /// The next heartbeat may be due earlier.
    due_changed: Notify,
    /// There may be a rebalance, or the member has left.
    changed: Notify,
}

// === impl Group ===

impl Group {
    /// Joins under a new member id, and spawns the heartbeats on `tasks`; they end when the member has left. `health_check`
    /// is ready while the coordinator answers and has this member.
    pub fn spawn(
        tasks: &Tasks,
        coordinator: Coordinator,
        subscription: Subscription,
        health_check: HealthCheck,
    ) -> Self {
        let member_id = Uuid::new_v4().to_string();
        let shared = Arc::new(Shared {
            membership: Mutex::new(Membership::new(member_id.into(), Instant::now())),
            due_changed: Notify::new(),
            changed: Notify::new(),
        });
        tasks.spawn(run(Arc::clone(&shared), coordinator, subscription, health_check));
        Self { shared }
    }

    /// Waits for the next rebalance. Cancel safe.
    pub async fn next(&mut self) -> Rebalance {
        loop {
            // `Notify` keeps one notification, and only one task waits (`&mut self`): none is missed.
            let rebalance = self.shared.membership.lock().next_rebalance();
            if let Some(rebalance) = rebalance {
                match &rebalance {
                    Rebalance::Assigned(partitions) => info!(partitions = list(partitions), "taking partitions"),
                    Rebalance::Revoked(partitions) => info!(partitions = list(partitions), "releasing partitions"),
                    Rebalance::Lost => warn!("all partitions are lost: the group has expelled this worker"),
                }
                self.shared.due_changed.notify_one();
                return rebalance;
            }
            self.shared.changed.notified().await;
        }
    }

    /// Reports revoked partitions as released: they are read no further, and their offsets are committed.
    pub fn released(&self, partitions: &BTreeSet<TopicPartition>) {
        self.shared.membership.lock().on_released(partitions);
        self.shared.due_changed.notify_one();
        // Partitions that were assigned again meanwhile can be handed out again.
        self.shared.changed.notify_one();
    }

    /// The member that commits, with its newest epoch.
    pub fn member_epoch(&self) -> MemberEpoch {
        self.shared.membership.lock().member_epoch().clone()
    }

    /// Checks the membership with a heartbeat, after a commit failed with [`Error::Fenced`] or [`Error::Stale`].
    pub fn revalidate(&self) {
        self.shared.membership.lock().revalidate();
        self.shared.due_changed.notify_one();
    }

    /// Leaves the group, so that its partitions are reassigned before the session times out. Gives up after `limit`. Returns
    /// whether the coordinator has acknowledged it.
    pub async fn leave(self, limit: Duration) -> bool {
        self.shared.membership.lock().leave();
        self.shared.due_changed.notify_one();
        let left = async {
            while !self.shared.membership.lock().has_left() {
                self.shared.changed.notified().await;
            }
        };
        timeout(limit, left).await.is_ok()
    }
}

/// Asks for the names of assigned topics. With one topic subscribed, every id is that topic's or its predecessor's.
async fn resolve(shared: &Shared, coordinator: &Coordinator, subscription: &Subscription) {
    let unresolved = shared.membership.lock().unresolved();
    let names = match &subscription.topics[..] {
        [topic] => unresolved.into_iter().map(|id| (id, topic.as_str().into())).collect(),
        topics => match coordinator.topic_names(topics).await {
            Ok(names) => names,
            Err(error) => {
                warn!(error = %ErrorChain(&error), "cannot look up the names of the assigned topics");
                return;
            }
        },
    };
    shared.membership.lock().resolve(names);
    shared.changed.notify_one();
}

fn list(partitions: &BTreeSet<TopicPartition>) -> String {
    let partitions: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    partitions.join(",")
}

/// Sends heartbeats until the member has left.
async fn run(shared: Arc<Shared>, mut coordinator: Coordinator, subscription: Subscription, health_check: HealthCheck) {
    let mut resolve_at = Instant::now();
    loop {
        if !shared.membership.lock().unresolved().is_empty() && resolve_at <= Instant::now() {
            resolve(&shared, &coordinator, &subscription).await;
            resolve_at = Instant::now() + RESOLVE_RETRY;
        }
        let (due, is_resolved) = {
            let membership = shared.membership.lock();
            (membership.due(), membership.unresolved().is_empty())
        };
        tokio::select! {
            () = sleep_until(due) => {}
            () = shared.due_changed.notified() => continue,
            () = sleep_until(resolve_at), if !is_resolved => continue,
        }
        let heartbeat = shared.membership.lock().heartbeat();
        let answered = coordinator.heartbeat(&heartbeat, &subscription).await;
        let had_joined = heartbeat.member_epoch.epoch != 0;
        {
            let mut membership = shared.membership.lock();
            match answered {
                Ok(answer) => {
                    membership.on_answer(answer, Instant::now());
                    let MemberEpoch { member_id, epoch } = membership.member_epoch();
                    if !had_joined {
                        info!(%member_id, epoch, "joined the group");
                    }
                    health_check.ready();
                }
                Err(error) => {
                    health_check.not_ready(&ErrorChain(&error));
                    match error {
                        Error::Fenced(_) => membership.on_fenced(Instant::now()),
                        _ => membership.on_failure(Instant::now()),
                    }
                }
            }
        }
        shared.changed.notify_one();
        if shared.membership.lock().has_left() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;

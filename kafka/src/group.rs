//! A group seen from inside: which partitions this worker reads, and when that changes.
//!
//! [`membership`](crate::membership) decides what is said and when; here is the task that says it, on a connection of
//! its own so that a heartbeat never waits for anything else.

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
};

/// This worker's place in a group.
#[derive(Debug)]
pub struct Group {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    membership: Mutex<Membership>,
    /// The next heartbeat may be due earlier.
    sooner: Notify,
    /// There may be a change, or an end.
    changed: Notify,
}

// === impl Group ===

impl Group {
    /// Starts the heartbeats among `tasks`, under a member id of its own; they end when it has left. `health_check` is met
    /// while the coordinator has this worker as a member and answers.
    pub fn spawn(
        tasks: &Tasks,
        coordinator: Coordinator,
        subscription: Subscription,
        health_check: HealthCheck,
    ) -> Self {
        let member_id = Uuid::new_v4().to_string();
        let shared = Arc::new(Shared {
            membership: Mutex::new(Membership::new(member_id.into(), Instant::now())),
            sooner: Notify::new(),
            changed: Notify::new(),
        });
        tasks.spawn(run(Arc::clone(&shared), coordinator, subscription, health_check));
        Self { shared }
    }

    /// Waits for the next change. Cancelling loses nothing.
    pub async fn next(&mut self) -> Rebalance {
        loop {
            // A notification is kept until it is waited for, and there is one who waits: none is missed.
            let change = self.shared.membership.lock().change();
            if let Some(change) = change {
                match &change {
                    Rebalance::Assigned(partitions) => info!(?partitions, "taking partitions"),
                    Rebalance::Revoked(partitions) => info!(?partitions, "releasing partitions"),
                    Rebalance::Lost => warn!("all partitions are lost: the group has expelled this worker"),
                }
                self.shared.sooner.notify_one();
                return change;
            }
            self.shared.changed.notified().await;
        }
    }

    /// These are read no further, and what was read of them is committed.
    pub fn released(&self, partitions: &BTreeSet<i32>) {
        self.shared.membership.lock().on_released(partitions);
        self.shared.sooner.notify_one();
        // What is assigned again by now can be taken again.
        self.shared.changed.notify_one();
    }

    /// Who commits, as of now.
    pub fn member_epoch(&self) -> MemberEpoch {
        self.shared.membership.lock().member_epoch().clone()
    }

    /// A commit was answered with [`Error::Fenced`] or [`Error::Stale`]: a heartbeat finds out what is true.
    pub fn revalidate(&self) {
        self.shared.membership.lock().revalidate();
        self.shared.sooner.notify_one();
    }

    /// Leaves, so that the others need not wait until the session is over. Gives up after `limit`. Returns whether the
    /// coordinator knows.
    pub async fn leave(self, limit: Duration) -> bool {
        self.shared.membership.lock().leave();
        self.shared.sooner.notify_one();
        let left = async {
            while !self.shared.membership.lock().has_left() {
                self.shared.changed.notified().await;
            }
        };
        timeout(limit, left).await.is_ok()
    }
}

/// Heartbeats, until the group is left.
async fn run(shared: Arc<Shared>, mut coordinator: Coordinator, subscription: Subscription, health_check: HealthCheck) {
    loop {
        let due = shared.membership.lock().due();
        tokio::select! {
            () = sleep_until(due) => {}
            () = shared.sooner.notified() => continue,
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

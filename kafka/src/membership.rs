//! A member of a group, by the protocol of KIP-848: a state machine without any I/O.
//!
//! Its states are what its fields say:
//!
//! | state | epoch | it owns | leaves it by |
//! |---|---|---|---|
//! | joining | 0 | nothing | an answer to its heartbeat |
//! | stable | from 1 on | all that it was assigned, once that is handed on | a smaller assignment; expulsion |
//! | revoking | from 1 on | more than it was assigned | the report that this is released; expulsion |
//! | fenced | 0 | nothing, and says so first ([`Rebalance::Lost`]) | a pause; then it is joining |
//! | left | -1 | what it owned, and nobody asks | never |
//!
//! - What a heartbeat names as owned is read here: a partition from when it is handed on to be taken, until its release
//!   is reported. The coordinator gives it to nobody else meanwhile.
//! - A partition is taken once until it is released or lost; one that is being released is not taken before that is done.
//! - Heartbeats never wait for work. Those that fail change nothing: that the member is gone is for the coordinator to say.
//! - After a failure nobody knows what the coordinator knows: the next heartbeat says everything.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

/// Bounds of the heartbeat interval, whatever the coordinator says. Its default is 5 s.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(30);

/// The pause after a failure, doubling: `retry.backoff.ms` and `retry.backoff.max.ms` of Kafka's own client.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The epoch with which a member leaves, and that of the answer.
pub(crate) const LEAVING: i32 = -1;

/// What changes for whoever reads the partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebalance {
    /// Begin to read these.
    Assigned(BTreeSet<i32>),
    /// Read these no further, finish and commit what was read, then report them released.
    Revoked(BTreeSet<i32>),
    /// Drop all partitions at once and forget their positions. What was to be released is not to be reported any more.
    Lost,
}

/// Who commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberEpoch {
    /// The id, drawn by this member (KIP-1082).
    pub member_id: Arc<str>,
    /// The newest epoch; 0 while joining.
    pub epoch: i32,
}

/// A partition of the one topic of the group. A topic that was deleted and created again has another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Uuid,
    pub partition: i32,
}

/// What to tell the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    pub member_epoch: MemberEpoch,
    /// Whether to say everything, not only what has changed.
    pub full: bool,
    /// The partitions owned; none if they are the same as in the heartbeat before.
    pub owned: Option<BTreeSet<TopicPartition>>,
}

/// What the coordinator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub epoch: i32,
    pub interval: Duration,
    /// The partitions to own; none if they are the same as in the answer before.
    pub assignment: Option<BTreeSet<TopicPartition>>,
}

/// A member.
#[derive(Debug)]
pub(crate) struct Membership {
    member_epoch: MemberEpoch,
    /// As of the last answer that said.
    assigned: BTreeSet<TopicPartition>,
    /// Handed on to be taken, and neither reported as released nor lost.
    owned: BTreeSet<TopicPartition>,
    /// Those of `owned` that are handed on to be released.
    releasing: BTreeSet<TopicPartition>,
    /// `owned` in the last heartbeat.
    told: BTreeSet<TopicPartition>,
    /// Nobody knows what the coordinator knows.
    full: bool,
    /// The last answer has an assignment, which is to be acknowledged even if nothing changes here: it may revoke what was
    /// not taken yet.
    acknowledge: bool,
    /// The next heartbeat is due at once, whatever it says.
    soon: bool,
    /// Something was lost and nobody has been told.
    lost: bool,
    leave: Leave,
    failures: u32,
    /// No heartbeat before this.
    earliest: Instant,
    /// No later than this.
    latest: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    No,
    Asked,
    Done,
}

// === impl Membership ===

impl Membership {
    /// Not a member yet; the first heartbeat is due at once.
    pub(crate) fn new(member_id: Arc<str>, now: Instant) -> Self {
        Self {
            member_epoch: MemberEpoch { member_id, epoch: 0 },
            assigned: BTreeSet::new(),
            owned: BTreeSet::new(),
            releasing: BTreeSet::new(),
            told: BTreeSet::new(),
            full: true,
            acknowledge: false,
            soon: false,
            lost: false,
            leave: Leave::No,
            failures: 0,
            earliest: now,
            latest: now,
        }
    }

    /// Who commits.
    pub(crate) fn member_epoch(&self) -> &MemberEpoch {
        &self.member_epoch
    }

    /// Whether there is no more to tell the coordinator, ever.
    pub(crate) fn has_left(&self) -> bool {
        self.leave == Leave::Done
    }

    /// When the next heartbeat is due.
    pub(crate) fn due(&self) -> Instant {
        if self.full || self.soon || self.owned != self.told || self.leave == Leave::Asked {
            self.earliest
        } else {
            self.latest
        }
    }

    /// The next heartbeat; an answer or a failure is to follow before the next.
    pub(crate) fn heartbeat(&mut self) -> Heartbeat {
        let says_owned = self.full || self.acknowledge || self.owned != self.told;
        self.soon = false;
        self.told.clone_from(&self.owned);
        let mut member_epoch = self.member_epoch.clone();
        if self.leave == Leave::Asked {
            member_epoch.epoch = LEAVING;
        }
        Heartbeat {
            member_epoch,
            full: self.full,
            owned: says_owned.then(|| self.owned.clone()),
        }
    }

    /// The coordinator has answered the heartbeat.
    pub(crate) fn on_answer(&mut self, answer: Answer, now: Instant) {
        if answer.epoch == LEAVING {
            self.leave = Leave::Done;
            return;
        }
        self.member_epoch.epoch = answer.epoch;
        self.full = false;
        self.acknowledge = answer.assignment.is_some();
        if let Some(assignment) = answer.assignment {
            self.soon |= assignment != self.assigned;
            self.assigned = assignment;
        }
        self.failures = 0;
        self.earliest = now;
        self.latest = now + answer.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
    }

    /// The heartbeat failed in a way that says nothing about the member.
    pub(crate) fn on_failure(&mut self, now: Instant) {
        if self.leave == Leave::Asked && self.member_epoch.epoch == 0 {
            // As far as it is known there is nothing to leave.
            self.leave = Leave::Done;
        }
        self.full = true;
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(8)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        // Up to a half shorter at random: the members of a group fail together.
        self.earliest = now + pause.mul_f64(1.0 - fastrand::f64() / 2.0);
    }

    /// The coordinator does not have this member, or not with this epoch: it owns nothing and has to join anew. It keeps
    /// its id, as Kafka's own client does.
    pub(crate) fn on_fenced(&mut self, now: Instant) {
        self.on_failure(now);
        if self.leave == Leave::Asked {
            self.leave = Leave::Done;
            return;
        }
        self.member_epoch.epoch = 0;
        self.lost |= !self.owned.is_empty();
        self.assigned.clear();
        self.owned.clear();
        self.releasing.clear();
    }

    /// What changes next for whoever reads the partitions. From now on they are told it.
    pub(crate) fn change(&mut self) -> Option<Rebalance> {
        if self.leave != Leave::No {
            return None;
        }
        if std::mem::take(&mut self.lost) {
            return Some(Rebalance::Lost);
        }
        let surplus = self.owned.difference(&self.assigned).copied();
        let surplus: BTreeSet<_> = surplus.filter(|it| !self.releasing.contains(it)).collect();
        if !surplus.is_empty() {
            let release = numbers(&surplus);
            self.releasing.extend(surplus);
            return Some(Rebalance::Revoked(release));
        }
        // By number: the same partition of the topic's predecessor may still be in use.
        let mut used = numbers(&self.owned);
        let unused = self.assigned.iter().filter(|it| used.insert(it.partition));
        let taken: BTreeSet<_> = unused.copied().collect();
        if taken.is_empty() {
            return None;
        }
        let take = numbers(&taken);
        self.owned.extend(taken);
        Some(Rebalance::Assigned(take))
    }

    /// These are read no further, and what was read of them is committed. Only those count that were to be released.
    pub(crate) fn on_released(&mut self, partitions: &BTreeSet<i32>) {
        let owned = &mut self.owned;
        self.releasing.retain(|it| {
            let released = partitions.contains(&it.partition);
            if released {
                owned.remove(it);
            }
            !released
        });
    }

    /// Somebody was told that this is no member: the next heartbeat, due at once, will show.
    pub(crate) fn revalidate(&mut self) {
        self.soon = true;
    }

    /// Asks to leave, which is due at once.
    pub(crate) fn leave(&mut self) {
        if self.leave == Leave::No {
            self.leave = Leave::Asked;
        }
    }
}

fn numbers(partitions: &BTreeSet<TopicPartition>) -> BTreeSet<i32> {
    partitions.iter().map(|it| it.partition).collect()
}

#[cfg(test)]
mod tests;

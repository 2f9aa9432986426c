//! A member of a group, and how it gets from what it has to what it is to have, as in Kafka's `CurrentAssignmentBuilder`.
//!
//! A member is told first what to give up, and stays in its epoch until it has; then it enters the epoch of the target
//! and is given what nobody else has any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

/// A partition: the id of its topic, and its number.
pub(crate) type PartitionId = (Uuid, i32);

/// Some partitions.
pub(crate) type Partitions = BTreeSet<PartitionId>;

/// Partitions, each with the epoch since which the member has it.
type Since = BTreeMap<PartitionId, i32>;

/// The numbers of the partitions of each topic.
pub(crate) fn by_topic<'a>(partitions: impl IntoIterator<Item = &'a PartitionId>) -> BTreeMap<Uuid, Vec<i32>> {
    let mut topics = BTreeMap::<_, Vec<_>>::new();
    for (topic, index) in partitions {
        topics.entry(*topic).or_default().push(*index);
    }
    topics
}

/// Who speaks for a member, for descriptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its client id.
    pub(crate) id: String,
    /// Where it is, in Kafka's form: `/` and the address.
    pub(crate) host: String,
}

/// A heartbeat: what the member is, or what is new about it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beat {
    /// The member's id.
    pub(crate) member: String,
    /// The epoch it knows; 0 to join, -1 to leave, -2 to leave for a while as a static member.
    pub(crate) epoch: i32,
    /// What makes it a static member (KIP-345).
    pub(crate) instance: Option<String>,
    /// Its rack.
    pub(crate) rack: Option<String>,
    /// How long it may take to give partitions up.
    pub(crate) rebalance_timeout: Option<Duration>,
    /// The names of the topics it wants.
    pub(crate) subscribed: Option<BTreeSet<String>>,
    /// The partitions it has.
    pub(crate) owned: Option<Partitions>,
    /// Who sent it.
    pub(crate) client: Client,
}

/// How far a member is on its way to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is there.
    Stable,
    /// It has yet to give partitions up.
    Unrevoked,
    /// It waits for partitions that others have yet to give up.
    Unreleased,
}

/// What a member is to come to.
#[derive(Debug)]
pub(super) struct Goal<'a> {
    /// The epoch of the target.
    pub(super) epoch: i32,
    /// The partitions it is to have.
    pub(super) target: &'a Partitions,
    /// The topics it is subscribed to, as far as they exist.
    pub(super) subscribed: &'a BTreeSet<Uuid>,
    /// Whether they have just changed.
    pub(super) resubscribed: bool,
    /// What it says it has; none if it does not say.
    pub(super) owned: Option<&'a Partitions>,
    /// What other members have, or have not given up yet.
    pub(super) taken: &'a Partitions,
}

/// A member.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its epoch.
    pub(crate) epoch: i32,
    /// The epoch before, which it may not have heard the end of.
    pub(super) previous_epoch: i32,
    /// What makes it a static member.
    pub(crate) instance: Option<String>,
    /// Its rack.
    pub(crate) rack: Option<String>,
    /// The names of the topics it wants.
    pub(crate) subscribed: BTreeSet<String>,
    /// Who speaks for it.
    pub(crate) client: Client,
    /// When it is gone unless it says something.
    pub(super) session_ends: Instant,
    /// When it is gone unless it has given up what it has to.
    pub(super) rebalance_ends: Option<Instant>,
    rebalance_timeout: Duration,
    phase: Phase,
    assigned: Since,
    revoking: Since,
}

// === impl Member ===

impl Member {
    /// A member that has nothing and wants nothing yet.
    pub(super) fn new(now: Instant) -> Self {
        Member {
            epoch: 0,
            previous_epoch: 0,
            instance: None,
            rack: None,
            subscribed: BTreeSet::new(),
            client: Client::default(),
            session_ends: now,
            rebalance_ends: None,
            rebalance_timeout: Duration::ZERO,
            phase: Phase::Stable,
            assigned: Since::new(),
            revoking: Since::new(),
        }
    }

    /// What it has and may use.
    pub(super) fn assigned(&self) -> impl Iterator<Item = &PartitionId> {
        self.assigned.keys()
    }

    /// What nobody else may have: what it has, and what it has not given up yet.
    pub(crate) fn holds(&self) -> impl Iterator<Item = &PartitionId> {
        self.assigned.keys().chain(self.revoking.keys())
    }

    /// What it has, and since when: that changes when a partition has been away.
    pub(super) fn assignment(&self) -> Since {
        self.assigned.clone()
    }

    /// The epoch since which it has a partition, even one that it is to give up.
    pub(super) fn since(&self, partition: &PartitionId) -> Option<i32> {
        let assigned = self.assigned.get(partition);
        assigned.or_else(|| self.revoking.get(partition)).copied()
    }

    /// Whether it is where it is to be.
    pub(super) fn has_reached(&self, epoch: i32) -> bool {
        self.phase == Phase::Stable && self.epoch == epoch
    }

    /// Whether all of these are among what it has.
    pub(super) fn has_all(&self, owned: Option<&Partitions>) -> bool {
        owned.is_some_and(|owned| owned.iter().all(|partition| self.assigned.contains_key(partition)))
    }

    /// Takes over what is new about it; tells whether it wants other topics than before.
    pub(super) fn update(&mut self, beat: &Beat) -> bool {
        if let Some(instance) = &beat.instance {
            self.instance = Some(instance.clone());
        }
        if let Some(rack) = &beat.rack {
            self.rack = Some(rack.clone());
        }
        if let Some(timeout) = beat.rebalance_timeout {
            self.rebalance_timeout = timeout;
        }
        self.client = beat.client.clone();
        match &beat.subscribed {
            Some(subscribed) if *subscribed != self.subscribed => {
                self.subscribed.clone_from(subscribed);
                true
            }
            _ => false,
        }
    }

    /// Begins anew under another id, with what it had.
    pub(super) fn begin_again(&mut self) {
        self.epoch = 0;
        self.previous_epoch = 0;
    }

    /// Leaves for a while, as a static member.
    pub(super) fn pause(&mut self, epoch: i32) {
        self.epoch = epoch;
        self.revoking.clear();
    }

    /// Goes as far towards the goal as it can.
    pub(super) fn reconcile(&mut self, goal: &Goal<'_>, now: Instant) {
        let before = (self.phase, self.epoch, self.previous_epoch);
        let had = (self.assigned.clone(), self.revoking.clone());
        match self.phase {
            Phase::Stable if self.epoch != goal.epoch => self.advance(goal),
            Phase::Unrevoked if !gone(&self.revoking, goal.owned) => self.trim_if_resubscribed(goal),
            Phase::Stable => self.trim_if_resubscribed(goal),
            Phase::Unrevoked | Phase::Unreleased => self.advance(goal),
        }
        let after = (self.phase, self.epoch, self.previous_epoch);
        if after != before || had != (self.assigned.clone(), self.revoking.clone()) {
            self.rebalance_ends = (self.phase == Phase::Unrevoked).then(|| now + self.rebalance_timeout);
        }
    }

    /// Its time to give partitions up begins anew.
    #[cfg(feature = "faults")]
    pub(super) fn restart_rebalance(&mut self, now: Instant) {
        self.rebalance_ends = self.rebalance_ends.map(|_| now + self.rebalance_timeout);
    }

    fn advance(&mut self, goal: &Goal<'_>) {
        let target = || goal.target.iter().filter(|(topic, _)| goal.subscribed.contains(topic));
        let wanted: BTreeSet<_> = target().collect();
        let (mut assigned, revoking): (Since, Since) = std::mem::take(&mut self.assigned)
            .into_iter()
            .partition(|(partition, _)| wanted.contains(partition));
        self.previous_epoch = self.epoch;
        if !gone(&revoking, goal.owned) {
            self.phase = Phase::Unrevoked;
            (self.assigned, self.revoking) = (assigned, revoking);
            return;
        }
        self.epoch = goal.epoch;
        self.phase = Phase::Stable;
        for partition in target() {
            if assigned.contains_key(partition) {
                continue;
            }
            if goal.taken.contains(partition) {
                self.phase = Phase::Unreleased;
            } else {
                assigned.insert(*partition, goal.epoch);
            }
        }
        (self.assigned, self.revoking) = (assigned, Since::new());
    }

    /// Takes away what it no longer wants, before there is a target that does.
    fn trim_if_resubscribed(&mut self, goal: &Goal<'_>) {
        let unwanted = |(topic, _): &PartitionId| !goal.subscribed.contains(topic);
        if !goal.resubscribed || !self.assigned.keys().any(unwanted) {
            return;
        }
        let (dropped, kept): (Since, Since) = std::mem::take(&mut self.assigned)
            .into_iter()
            .partition(|(partition, _)| unwanted(partition));
        self.previous_epoch = self.epoch;
        self.assigned = kept;
        let mut revoking = self.revoking.clone();
        revoking.extend(dropped);
        if !gone(&revoking, goal.owned) {
            self.phase = Phase::Unrevoked;
            self.revoking = revoking;
        }
    }
}

/// Whether none of what is to be given up is owned any more. Who does not say what they own has given up nothing.
fn gone(revoking: &Since, owned: Option<&Partitions>) -> bool {
    revoking.is_empty() || owned.is_some_and(|owned| !owned.iter().any(|partition| revoking.contains_key(partition)))
}

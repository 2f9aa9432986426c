//! A member of a consumer group (KIP-848), and its way from its current to its target assignment.
//!
//! A member first revokes partitions, and stays in its epoch until it has reported that. Then it enters the epoch of the
//! target assignment, and gets the partitions that no other member holds. Kafka's `CurrentAssignmentBuilder`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

/// A topic id and a partition number.
pub(crate) type TopicIdPartition = (Uuid, i32);

pub(crate) type PartitionSet = BTreeSet<TopicIdPartition>;

/// Partitions, each with the member epoch in which it was assigned.
type PartitionEpochs = BTreeMap<TopicIdPartition, i32>;

/// A `ConsumerGroupHeartbeat` request. An absent field has not changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heartbeat {
    pub(crate) member_id: String,
    /// The member epoch; 0 to join, -1 to leave, -2 to leave temporarily as a static member.
    pub(crate) member_epoch: i32,
    /// The instance id of a static member (KIP-345).
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    pub(crate) rebalance_timeout: Option<Duration>,
    pub(crate) subscribed_topics: Option<BTreeSet<String>>,
    pub(crate) owned_partitions: Option<PartitionSet>,
    pub(crate) client: Client,
}

/// The client of a member, for descriptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) id: String,
    /// `/` and the IP address, as in Kafka.
    pub(crate) host: String,
}

/// The input of [`ConsumerGroupMember::reconcile`].
#[derive(Debug)]
pub(super) struct ReconcileInput<'a> {
    /// The epoch of the target assignment.
    pub(super) target_epoch: i32,
    pub(super) target: &'a PartitionSet,
    /// The subscribed topics that exist.
    pub(super) subscribed_topics: &'a BTreeSet<Uuid>,
    /// Whether this heartbeat changed the subscription.
    pub(super) has_new_subscription: bool,
    /// The partitions that the member reports; none if it does not.
    pub(super) owned_partitions: Option<&'a PartitionSet>,
    /// The partitions that other members own, or have not revoked yet.
    pub(super) held_by_others: &'a PartitionSet,
}

/// Kafka's `MemberState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberState {
    /// It has reached the target assignment.
    Stable,
    /// It has to revoke partitions.
    UnrevokedPartitions,
    /// It waits for partitions that other members have to revoke.
    UnreleasedPartitions,
}

/// A member of a consumer group.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerGroupMember {
    pub(crate) epoch: i32,
    /// Valid as well, because the response with the new epoch may be lost.
    pub(super) previous_epoch: i32,
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    pub(crate) subscribed_topics: BTreeSet<String>,
    pub(crate) client: Client,
    pub(super) session_deadline: Instant,
    /// Set while it has to revoke partitions.
    pub(super) rebalance_deadline: Option<Instant>,
    rebalance_timeout: Duration,
    state: MemberState,
    assigned: PartitionEpochs,
    pending_revocation: PartitionEpochs,
}

/// Groups partitions by topic.
pub(crate) fn by_topic<'a>(partitions: impl IntoIterator<Item = &'a TopicIdPartition>) -> BTreeMap<Uuid, Vec<i32>> {
    let mut topics = BTreeMap::<_, Vec<_>>::new();
    for (topic, index) in partitions {
        topics.entry(*topic).or_default().push(*index);
    }
    topics
}

// === impl ConsumerGroupMember ===

impl ConsumerGroupMember {
    /// A member without subscription and assignment.
    pub(super) fn new(now: Instant) -> Self {
        ConsumerGroupMember {
            epoch: 0,
            previous_epoch: 0,
            instance_id: None,
            rack_id: None,
            subscribed_topics: BTreeSet::new(),
            client: Client::default(),
            session_deadline: now,
            rebalance_deadline: None,
            rebalance_timeout: Duration::ZERO,
            state: MemberState::Stable,
            assigned: PartitionEpochs::new(),
            pending_revocation: PartitionEpochs::new(),
        }
    }

    /// The assigned partitions.
    pub(super) fn assigned(&self) -> impl Iterator<Item = &TopicIdPartition> {
        self.assigned.keys()
    }

    /// The partitions that no other member may get: assigned, or not revoked yet.
    pub(crate) fn held(&self) -> impl Iterator<Item = &TopicIdPartition> {
        self.assigned.keys().chain(self.pending_revocation.keys())
    }

    /// The assigned partitions with their epochs. The epoch of a partition changes when it was revoked in between.
    pub(super) fn assignment(&self) -> PartitionEpochs {
        self.assigned.clone()
    }

    /// The epoch in which a held partition was assigned.
    pub(super) fn assignment_epoch(&self, partition: &TopicIdPartition) -> Option<i32> {
        let assigned = self.assigned.get(partition);
        assigned.or_else(|| self.pending_revocation.get(partition)).copied()
    }

    /// Whether it has reached the target assignment of this epoch.
    pub(super) fn is_stable_in(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    /// Whether all reported partitions are assigned.
    pub(super) fn has_assigned(&self, owned: Option<&PartitionSet>) -> bool {
        owned.is_some_and(|owned| owned.iter().all(|partition| self.assigned.contains_key(partition)))
    }

    /// Takes over the changes of a heartbeat; tells whether the subscription changed.
    pub(super) fn update(&mut self, heartbeat: &Heartbeat) -> bool {
        if let Some(instance_id) = &heartbeat.instance_id {
            self.instance_id = Some(instance_id.clone());
        }
        if let Some(rack_id) = &heartbeat.rack_id {
            self.rack_id = Some(rack_id.clone());
        }
        if let Some(timeout) = heartbeat.rebalance_timeout {
            self.rebalance_timeout = timeout;
        }
        self.client = heartbeat.client.clone();
        match &heartbeat.subscribed_topics {
            Some(topics) if *topics != self.subscribed_topics => {
                self.subscribed_topics.clone_from(topics);
                true
            }
            _ => false,
        }
    }

    /// A static member is back with a new id: it keeps its assignment.
    pub(super) fn rejoin(&mut self) {
        self.epoch = 0;
        self.previous_epoch = 0;
    }

    /// A static member leaves temporarily.
    pub(super) fn leave_temporarily(&mut self, epoch: i32) {
        self.epoch = epoch;
        self.pending_revocation.clear();
    }

    /// Takes the next steps towards the target assignment.
    pub(super) fn reconcile(&mut self, input: &ReconcileInput<'_>, now: Instant) {
        let before = self.clone();
        match self.state {
            MemberState::Stable if self.epoch != input.target_epoch => self.advance(input),
            MemberState::UnrevokedPartitions if !is_revoked(&self.pending_revocation, input.owned_partitions) => {
                self.revoke_unsubscribed(input);
            }
            MemberState::Stable => self.revoke_unsubscribed(input),
            MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => self.advance(input),
        }
        let progress = |member: &Self| (member.state, member.epoch, member.previous_epoch);
        if progress(self) != progress(&before)
            || self.assigned != before.assigned
            || self.pending_revocation != before.pending_revocation
        {
            let must_revoke = self.state == MemberState::UnrevokedPartitions;
            self.rebalance_deadline = must_revoke.then(|| now + self.rebalance_timeout);
        }
    }

    /// Starts the session timeout and the rebalance timeout again.
    pub(super) fn restart_timers(&mut self, now: Instant, session_timeout: Duration) {
        self.session_deadline = now + session_timeout;
        self.rebalance_deadline = self.rebalance_deadline.map(|_| now + self.rebalance_timeout);
    }

    fn advance(&mut self, input: &ReconcileInput<'_>) {
        let is_subscribed = |(topic, _): &&TopicIdPartition| input.subscribed_topics.contains(topic);
        let target: BTreeSet<_> = input.target.iter().filter(is_subscribed).collect();
        let (mut assigned, revoked): (PartitionEpochs, PartitionEpochs) = std::mem::take(&mut self.assigned)
            .into_iter()
            .partition(|(partition, _)| target.contains(partition));
        self.previous_epoch = self.epoch;
        if !is_revoked(&revoked, input.owned_partitions) {
            self.state = MemberState::UnrevokedPartitions;
            (self.assigned, self.pending_revocation) = (assigned, revoked);
            return;
        }
        self.epoch = input.target_epoch;
        self.state = MemberState::Stable;
        for partition in target {
            if assigned.contains_key(partition) {
                continue;
            }
            if input.held_by_others.contains(partition) {
                self.state = MemberState::UnreleasedPartitions;
            } else {
                assigned.insert(*partition, input.target_epoch);
            }
        }
        (self.assigned, self.pending_revocation) = (assigned, PartitionEpochs::new());
    }

    /// Revokes unsubscribed topics at once, before the next target assignment.
    fn revoke_unsubscribed(&mut self, input: &ReconcileInput<'_>) {
        let is_unsubscribed = |(topic, _): &TopicIdPartition| !input.subscribed_topics.contains(topic);
        if !input.has_new_subscription || !self.assigned.keys().any(is_unsubscribed) {
            return;
        }
        let (revoked, kept): (PartitionEpochs, PartitionEpochs) = std::mem::take(&mut self.assigned)
            .into_iter()
            .partition(|(partition, _)| is_unsubscribed(partition));
        self.previous_epoch = self.epoch;
        self.assigned = kept;
        let mut pending = self.pending_revocation.clone();
        pending.extend(revoked);
        if !is_revoked(&pending, input.owned_partitions) {
            self.state = MemberState::UnrevokedPartitions;
            self.pending_revocation = pending;
        }
    }
}

/// Whether the member reports that it owns none of `pending`. Without a report nothing is revoked.
fn is_revoked(pending: &PartitionEpochs, owned: Option<&PartitionSet>) -> bool {
    pending.is_empty() || owned.is_some_and(|owned| !owned.iter().any(|partition| pending.contains_key(partition)))
}

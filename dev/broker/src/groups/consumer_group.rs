//! A consumer group, as in Kafka's group coordinator (KIP-848).
//!
//! The group epoch grows with each change of members, subscriptions or topics. A target assignment is computed for the
//! newest epoch, at most once in an interval, and each member reconciles with its own heartbeats.
//!
//! Invariant: no two members hold the same partition. A member holds a partition until it reports the revocation.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    MemberEpoch, assignor,
    member::{ConsumerGroupMember, Heartbeat, PartitionSet, ReconcileInput, TopicIdPartition},
    snapshot::{Snapshot, TopicMetadataMap},
};

/// The member epoch of a static member that leaves temporarily.
const LEAVE_TEMPORARILY: i32 = -2;

/// The response to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeartbeatResult {
    pub(crate) member_epoch: i32,
    /// Set if it changed, or if the member may not know it.
    pub(crate) assignment: Option<PartitionSet>,
}

/// The members of a group and their target assignment.
#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    /// The group epoch; 1 before the first member.
    epoch: i32,
    members: BTreeMap<String, ConsumerGroupMember>,
    /// The target assignment of each member, as of `target_epoch`.
    targets: BTreeMap<String, PartitionSet>,
    target_epoch: i32,
    assigned_at: Option<Instant>,
    /// The subscribed topics as of `epoch`.
    topics: TopicMetadataMap,
}

// === impl ConsumerGroup ===

impl Default for ConsumerGroup {
    fn default() -> Self {
        ConsumerGroup {
            epoch: 1,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            target_epoch: 0,
            assigned_at: None,
            topics: TopicMetadataMap::new(),
        }
    }
}

impl ConsumerGroup {
    /// Whether the group has no members.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The group epoch, and the epoch of the target assignment.
    pub(crate) fn epochs(&self) -> (i32, i32) {
        (self.epoch, self.target_epoch)
    }

    /// The members by id, each with its target assignment.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&String, &ConsumerGroupMember, Option<&PartitionSet>)> {
        self.members
            .iter()
            .map(|(id, member)| (id, member, self.targets.get(id)))
    }

    /// The group state in Kafka's words.
    pub(crate) fn state(&self) -> &'static str {
        let mut members = self.members.values();
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if members.all(|member| member.is_stable_in(self.target_epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Whether a member subscribes to the topic.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        let mut members = self.members.values();
        members.any(|member| member.subscribed_topics.contains(topic))
    }

    /// Handles the heartbeat of a member that joins or stays.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_MEMBER_EPOCH`, and for static members `FENCED_INSTANCE_ID` and
    /// `UNRELEASED_INSTANCE_ID`.
    pub(crate) fn heartbeat(
        &mut self,
        heartbeat: Heartbeat,
        snapshot: &Snapshot<'_>,
    ) -> Result<HeartbeatResult, ResponseError> {
        let mut member = self.find_or_create(&heartbeat, snapshot)?;
        let before = member.assignment();
        let has_new_subscription = member.update(&heartbeat);
        member.session_deadline = snapshot.now + snapshot.config.session_timeout;
        self.members.insert(heartbeat.member_id.clone(), member);

        let topics = self.subscribed_topics(snapshot);
        if has_new_subscription || topics != self.topics {
            self.epoch += 1;
            self.topics = topics;
        }
        if self.epoch > self.target_epoch && self.may_assign(snapshot) {
            self.assign(snapshot);
        }
        let member = self.reconcile(&heartbeat, has_new_subscription, snapshot)?;
        let is_full = heartbeat.rebalance_timeout.is_some()
            && heartbeat.subscribed_topics.is_some()
            && heartbeat.owned_partitions.is_some();
        let send_assignment = heartbeat.member_epoch == 0 || is_full || member.assignment() != before;
        Ok(HeartbeatResult {
            member_epoch: member.epoch,
            assignment: send_assignment.then(|| member.assigned().copied().collect()),
        })
    }

    /// Handles the last heartbeat of a member.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, or `FENCED_INSTANCE_ID`.
    pub(crate) fn leave(
        &mut self,
        heartbeat: &Heartbeat,
        snapshot: &Snapshot<'_>,
    ) -> Result<HeartbeatResult, ResponseError> {
        if let Some(instance_id) = &heartbeat.instance_id {
            let (id, _) = self.static_member(instance_id).ok_or(ResponseError::UnknownMemberId)?;
            if id != &heartbeat.member_id {
                return Err(ResponseError::FencedInstanceId);
            }
        }
        if heartbeat.member_epoch == LEAVE_TEMPORARILY {
            let member = self.members.get_mut(&heartbeat.member_id);
            let member = member.ok_or(ResponseError::UnknownMemberId)?;
            member.leave_temporarily(LEAVE_TEMPORARILY);
        } else {
            self.fence(&heartbeat.member_id, snapshot)?;
        }
        Ok(HeartbeatResult {
            member_epoch: heartbeat.member_epoch,
            assignment: None,
        })
    }

    /// Removes a member.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`.
    pub(crate) fn fence(&mut self, member: &str, snapshot: &Snapshot<'_>) -> Result<(), ResponseError> {
        self.members.remove(member).ok_or(ResponseError::UnknownMemberId)?;
        self.targets.remove(member);
        self.epoch += 1;
        self.topics = self.subscribed_topics(snapshot);
        Ok(())
    }

    /// Removes the members whose session timeout or rebalance timeout has passed.
    pub(crate) fn expire(&mut self, snapshot: &Snapshot<'_>) {
        let is_expired = |member: &ConsumerGroupMember| {
            let revocation_is_late = member.rebalance_deadline.is_some_and(|end| end <= snapshot.now);
            revocation_is_late || member.session_deadline <= snapshot.now
        };
        let expired: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| is_expired(member))
            .map(|(id, _)| id.clone())
            .collect();
        for id in expired {
            tracing::info!(member = id, "member expired");
            // The member exists, so this does not fail.
            let _ = self.fence(&id, snapshot);
        }
    }

    /// Starts the timeouts of all members again.
    pub(crate) fn restart_timers(&mut self, snapshot: &Snapshot<'_>) {
        for member in self.members.values_mut() {
            member.restart_timers(snapshot.now, snapshot.config.session_timeout);
        }
    }

    /// Whether a member may commit offsets of these partitions.
    ///
    /// # Errors
    /// See [`Groups::commit`](super::Groups::commit).
    pub(super) fn check_commit<'a>(
        &self,
        committer: MemberEpoch<'_>,
        version: i16,
        partitions: impl IntoIterator<Item = &'a TopicIdPartition>,
    ) -> Result<(), ResponseError> {
        let member = self.members.get(committer.member_id);
        let member = member.ok_or(ResponseError::UnknownMemberId)?;
        if version < 9 {
            return Err(ResponseError::UnsupportedVersion);
        }
        let held_since = |partition| {
            let assigned = member.assignment_epoch(partition);
            assigned.is_some_and(|epoch| epoch <= committer.epoch)
        };
        if committer.epoch == member.epoch || committer.epoch < member.epoch && partitions.into_iter().all(held_since) {
            Ok(())
        } else {
            Err(ResponseError::StaleMemberEpoch)
        }
    }

    /// Whether a member may fetch offsets.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, or `STALE_MEMBER_EPOCH`.
    pub(super) fn check_fetch(&self, fetcher: MemberEpoch<'_>) -> Result<(), ResponseError> {
        let member = self.members.get(fetcher.member_id);
        if member.ok_or(ResponseError::UnknownMemberId)?.epoch == fetcher.epoch {
            Ok(())
        } else {
            Err(ResponseError::StaleMemberEpoch)
        }
    }

    /// The member of a heartbeat, or a new one if it joins.
    fn find_or_create(
        &mut self,
        heartbeat: &Heartbeat,
        snapshot: &Snapshot<'_>,
    ) -> Result<ConsumerGroupMember, ResponseError> {
        let joins = heartbeat.member_epoch == 0;
        let found = match &heartbeat.instance_id {
            Some(instance_id) => self.static_member(instance_id),
            None => self.members.get_key_value(&heartbeat.member_id),
        };
        let Some((id, mut member)) = found.map(|(id, member)| (id.clone(), member.clone())) else {
            return if joins {
                Ok(ConsumerGroupMember::new(snapshot.now))
            } else {
                Err(ResponseError::UnknownMemberId)
            };
        };
        if heartbeat.instance_id.is_none() {
            // A member that joins again may not know its epoch.
            return if joins {
                Ok(member)
            } else {
                check_epoch(&member, heartbeat).map(|()| member)
            };
        }
        if joins {
            if member.epoch != LEAVE_TEMPORARILY {
                return Err(ResponseError::UnreleasedInstanceId);
            }
            member.rejoin();
            self.members.remove(&id);
            if let Some(target) = self.targets.remove(&id) {
                self.targets.insert(heartbeat.member_id.clone(), target);
            }
            return Ok(member);
        }
        if id != heartbeat.member_id {
            return Err(ResponseError::FencedInstanceId);
        }
        check_epoch(&member, heartbeat).map(|()| member)
    }

    fn static_member(&self, instance_id: &str) -> Option<(&String, &ConsumerGroupMember)> {
        self.members
            .iter()
            .find(|(_, member)| member.instance_id.as_deref() == Some(instance_id))
    }

    /// The subscribed topics that exist.
    fn subscribed_topics(&self, snapshot: &Snapshot<'_>) -> TopicMetadataMap {
        let names = self.members.values().flat_map(|member| &member.subscribed_topics);
        let existing = names.filter_map(|name| Some((name.clone(), *snapshot.topics.get(name)?)));
        existing.collect()
    }

    fn may_assign(&self, snapshot: &Snapshot<'_>) -> bool {
        let interval = snapshot.config.assignment_interval;
        self.assigned_at
            .is_none_or(|assigned_at| snapshot.now >= assigned_at + interval)
    }

    /// Computes the target assignment of the present epoch.
    fn assign(&mut self, snapshot: &Snapshot<'_>) {
        let subscriptions = self
            .members
            .iter()
            .map(|(id, member)| (id.as_str(), topic_ids(member, snapshot)))
            .collect();
        let topics = self.topics.values().map(|topic| (topic.id, topic.partitions)).collect();
        self.targets = assignor::assign(&subscriptions, &topics, &self.targets);
        self.target_epoch = self.epoch;
        self.assigned_at = Some(snapshot.now);
    }

    fn reconcile(
        &mut self,
        heartbeat: &Heartbeat,
        has_new_subscription: bool,
        snapshot: &Snapshot<'_>,
    ) -> Result<&ConsumerGroupMember, ResponseError> {
        let others = self.members.iter().filter(|(id, _)| **id != heartbeat.member_id);
        let held_by_others = others.flat_map(|(_, member)| member.held().copied()).collect();
        let member = self.members.get_mut(&heartbeat.member_id);
        let member = member.ok_or(ResponseError::UnknownMemberId)?;
        let no_target = PartitionSet::new();
        let input = ReconcileInput {
            target_epoch: self.target_epoch,
            target: self.targets.get(&heartbeat.member_id).unwrap_or(&no_target),
            subscribed_topics: &topic_ids(member, snapshot),
            has_new_subscription,
            owned_partitions: heartbeat.owned_partitions.as_ref(),
            held_by_others: &held_by_others,
        };
        member.reconcile(&input, snapshot.now);
        Ok(member)
    }
}

/// The subscribed topics of a member that exist.
fn topic_ids(member: &ConsumerGroupMember, snapshot: &Snapshot<'_>) -> BTreeSet<Uuid> {
    let topics = member.subscribed_topics.iter();
    topics
        .filter_map(|name| snapshot.topics.get(name))
        .map(|topic| topic.id)
        .collect()
}

/// The previous epoch is valid too if the member owns nothing that it had to revoke: the response may have been lost.
fn check_epoch(member: &ConsumerGroupMember, heartbeat: &Heartbeat) -> Result<(), ResponseError> {
    let epoch = heartbeat.member_epoch;
    let is_retry = epoch == member.previous_epoch && member.has_assigned(heartbeat.owned_partitions.as_ref());
    if epoch == member.epoch || epoch < member.epoch && is_retry {
        Ok(())
    } else {
        Err(ResponseError::FencedMemberEpoch)
    }
}

#[cfg(test)]
mod tests;

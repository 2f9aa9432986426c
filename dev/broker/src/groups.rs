//! The group coordinator: committed offsets, and the members of consumer groups (KIP-848).
//!
//! The first commit or the first member creates a group. A group that never had a member has the type `classic`, as in
//! Kafka. The classic protocol (`JoinGroup` and others) is not served.
//!
//! There are no background tasks: before each access to the groups, expired members are removed. Clients cannot tell the
//! difference.

mod assignor;
mod committed_offsets;
mod consumer_group;
mod member;
mod snapshot;

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use parking_lot::{Mutex, MutexGuard};

pub(crate) use self::{
    assignor::UNIFORM,
    committed_offsets::{CommittedOffsets, MAX_METADATA_BYTES, OffsetAndMetadata},
    consumer_group::{ConsumerGroup, HeartbeatResult},
    member::{Client, ConsumerGroupMember, Heartbeat, PartitionSet, TopicIdPartition, by_topic},
    snapshot::{Snapshot, TopicMetadata},
};

/// A group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) offsets: CommittedOffsets,
    /// None if the group never had a member.
    pub(crate) consumer_group: Option<ConsumerGroup>,
}

/// All groups by id.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Mutex<BTreeMap<String, Group>>,
}

/// The member that commits or fetches offsets. The epoch is negative if the client is not a member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemberEpoch<'a> {
    pub(crate) member_id: &'a str,
    pub(crate) epoch: i32,
}

// === impl Group ===

impl Group {
    /// The group state in Kafka's words.
    pub(crate) fn state(&self) -> &'static str {
        self.consumer_group.as_ref().map_or("Empty", ConsumerGroup::state)
    }

    /// The group type in Kafka's words.
    pub(crate) fn group_type(&self) -> &'static str {
        self.consumer_group.as_ref().map_or("classic", |_| "consumer")
    }

    /// The protocol type in Kafka's words.
    pub(crate) fn protocol_type(&self) -> &'static str {
        self.consumer_group.as_ref().map_or("", |_| "consumer")
    }
}

// === impl Groups ===

impl Groups {
    /// Handles a heartbeat. The first one of a member creates the group.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, and as [`ConsumerGroup::heartbeat`].
    pub(crate) fn heartbeat(
        &self,
        group: &str,
        heartbeat: Heartbeat,
        snapshot: &Snapshot<'_>,
    ) -> Result<HeartbeatResult, ResponseError> {
        let mut groups = self.lock(snapshot);
        if heartbeat.member_epoch == 0 {
            let group = groups.entry(group.to_owned()).or_default();
            let consumer_group = group.consumer_group.get_or_insert_default();
            return consumer_group.heartbeat(heartbeat, snapshot);
        }
        let group = groups.get_mut(group).ok_or(ResponseError::GroupIdNotFound)?;
        let consumer_group = group.consumer_group.as_mut();
        let consumer_group = consumer_group.ok_or(ResponseError::GroupIdNotFound)?;
        if heartbeat.member_epoch < 0 {
            consumer_group.leave(&heartbeat, snapshot)
        } else {
            consumer_group.heartbeat(heartbeat, snapshot)
        }
    }

    /// Commits offsets, all or none.
    ///
    /// # Errors
    /// - `UNKNOWN_MEMBER_ID` for an unknown member, and without a member id while the group has members.
    /// - `STALE_MEMBER_EPOCH` unless the epoch is the member's, or all partitions were assigned since it (KIP-1251).
    /// - `UNSUPPORTED_VERSION` for a member before version 9.
    /// - `GROUP_ID_NOT_FOUND` for a member of an unknown group; before version 9 `ILLEGAL_GENERATION`.
    pub(crate) fn commit(
        &self,
        group: &str,
        committer: MemberEpoch<'_>,
        version: i16,
        offsets: Vec<(String, TopicIdPartition, OffsetAndMetadata)>,
        snapshot: &Snapshot<'_>,
    ) -> Result<(), ResponseError> {
        let mut groups = self.lock(snapshot);
        if !groups.contains_key(group) && committer.epoch >= 0 {
            return Err(if version < 9 {
                ResponseError::IllegalGeneration
            } else {
                ResponseError::GroupIdNotFound
            });
        }
        let group = groups.entry(group.to_owned()).or_default();
        match &group.consumer_group {
            Some(members) if committer.epoch >= 0 || !members.is_empty() => {
                let partitions = offsets.iter().map(|(_, partition, _)| partition);
                members.check_commit(committer, version, partitions)?;
            }
            // A group that never had members has no generation.
            None if committer.epoch >= 0 => return Err(ResponseError::UnknownMemberId),
            _ => {}
        }
        for (topic, (_, partition), committed) in offsets {
            group.offsets.commit(topic, partition, committed);
        }
        Ok(())
    }

    /// Passes the committed offsets of a group to `read`; an unknown group has none.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID` or `STALE_MEMBER_EPOCH`, if the request names a member.
    pub(crate) fn fetch_offsets<T>(
        &self,
        group: &str,
        fetcher: Option<MemberEpoch<'_>>,
        snapshot: &Snapshot<'_>,
        read: impl FnOnce(&CommittedOffsets) -> T,
    ) -> Result<T, ResponseError> {
        let groups = self.lock(snapshot);
        let Some(group) = groups.get(group) else {
            return Ok(read(&CommittedOffsets::default()));
        };
        if let (Some(fetcher), Some(consumer_group)) = (fetcher, &group.consumer_group) {
            consumer_group.check_fetch(fetcher)?;
        }
        Ok(read(&group.offsets))
    }

    /// Deletes a committed offset.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, or `GROUP_SUBSCRIBED_TO_TOPIC`.
    pub(crate) fn delete_offset(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        snapshot: &Snapshot<'_>,
    ) -> Result<(), ResponseError> {
        let mut groups = self.lock(snapshot);
        let group = groups.get_mut(group).ok_or(ResponseError::GroupIdNotFound)?;
        let consumer_group = group.consumer_group.as_ref();
        if consumer_group.is_some_and(|members| members.is_subscribed_to(topic)) {
            return Err(ResponseError::GroupSubscribedToTopic);
        }
        group.offsets.delete(topic, partition);
        Ok(())
    }

    /// Deletes a group with its committed offsets.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, or `NON_EMPTY_GROUP`.
    pub(crate) fn delete(&self, group: &str, snapshot: &Snapshot<'_>) -> Result<(), ResponseError> {
        let mut groups = self.lock(snapshot);
        let found = groups.get(group).ok_or(ResponseError::GroupIdNotFound)?;
        if found.consumer_group.as_ref().is_some_and(|members| !members.is_empty()) {
            return Err(ResponseError::NonEmptyGroup);
        }
        groups.remove(group);
        Ok(())
    }

    /// Passes a group to `read`.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`.
    pub(crate) fn with<T>(
        &self,
        group: &str,
        snapshot: &Snapshot<'_>,
        read: impl FnOnce(&Group) -> T,
    ) -> Result<T, ResponseError> {
        let groups = self.lock(snapshot);
        groups.get(group).map(read).ok_or(ResponseError::GroupIdNotFound)
    }

    /// Passes each group to `read`.
    pub(crate) fn all<T>(&self, snapshot: &Snapshot<'_>, read: impl FnMut((&String, &Group)) -> T) -> Vec<T> {
        self.lock(snapshot).iter().map(read).collect()
    }

    /// Deletes the offsets of all groups in a deleted topic.
    pub(crate) fn delete_topic_offsets(&self, topic: &str) {
        for group in self.groups.lock().values_mut() {
            group.offsets.delete_topic(topic);
        }
    }

    /// Removes a member, as its session timeout would.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, or `UNKNOWN_MEMBER_ID`.
    pub(crate) fn fence(&self, group: &str, member: &str, snapshot: &Snapshot<'_>) -> Result<(), ResponseError> {
        let mut groups = self.lock(snapshot);
        let group = groups.get_mut(group).ok_or(ResponseError::GroupIdNotFound)?;
        let consumer_group = group.consumer_group.as_mut();
        consumer_group
            .ok_or(ResponseError::UnknownMemberId)?
            .fence(member, snapshot)
    }

    /// Starts the timeouts of all members again, as a new coordinator does.
    pub(crate) fn restart_timers(&self, snapshot: &Snapshot<'_>) {
        let mut groups = self.groups.lock();
        let consumer_groups = groups.values_mut().filter_map(|group| group.consumer_group.as_mut());
        consumer_groups.for_each(|members| members.restart_timers(snapshot));
    }

    /// Locks the groups, and removes expired members.
    fn lock(&self, snapshot: &Snapshot<'_>) -> MutexGuard<'_, BTreeMap<String, Group>> {
        let mut groups = self.groups.lock();
        let consumer_groups = groups.values_mut().filter_map(|group| group.consumer_group.as_mut());
        consumer_groups.for_each(|members| members.expire(snapshot));
        groups
    }
}

//! Groups: the positions they commit, and the members of those that use the consumer protocol (KIP-848).
//!
//! A group is there from its first commit or its first member on. As long as it never had a member it is what Kafka calls
//! a simple one, of the classic type. The classic protocol itself (`JoinGroup` and so on) is not served.
//!
//! Nothing runs in the background: what is due by time is done before the next thing that happens to a group. Nobody can
//! tell the difference.

mod assignor;
mod member;
mod membership;
mod positions;
mod view;

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use parking_lot::Mutex;

pub(crate) use self::{
    assignor::UNIFORM,
    member::{Beat, Client, Member, PartitionId, Partitions, by_topic},
    membership::{Membership, Pulse},
    positions::{Committed, MAX_METADATA_BYTES, Positions},
    view::{Listed, View},
};

/// One group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// What it has committed.
    pub(crate) positions: Positions,
    /// Its members, if it has ever had one.
    pub(crate) membership: Option<Membership>,
}

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    known: Mutex<BTreeMap<String, Group>>,
}

/// Who commits or asks for positions, as the request has it. Nobody in particular commits in an epoch below 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    /// The member id.
    pub(crate) member: &'a str,
    /// The member epoch.
    pub(crate) epoch: i32,
}

// === impl Group ===

impl Group {
    /// Kafka's name for its state.
    pub(crate) fn state(&self) -> &'static str {
        self.membership.as_ref().map_or("Empty", Membership::state)
    }

    /// Kafka's name for its type.
    pub(crate) fn kind(&self) -> &'static str {
        self.membership.as_ref().map_or("classic", |_| "consumer")
    }

    /// The protocol its members speak.
    pub(crate) fn protocol(&self) -> &'static str {
        self.membership.as_ref().map_or("", |_| "consumer")
    }

    fn subscribed_to(&self, topic: &str) -> bool {
        self.membership.as_ref().is_some_and(|it| it.subscribed_to(topic))
    }
}

// === impl Groups ===

impl Groups {
    /// Takes a heartbeat; the first one of a member makes the group.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND` for a member of no group, and as [`Membership::beat`].
    pub(crate) fn beat(&self, group: &str, beat: Beat, view: &View<'_>) -> Result<Pulse, ResponseError> {
        let mut known = self.at(view);
        if beat.epoch == 0 {
            let group = known.entry(group.to_owned()).or_default();
            return group.membership.get_or_insert_default().beat(beat, view);
        }
        let group = known.get_mut(group).ok_or(ResponseError::GroupIdNotFound)?;
        let membership = group.membership.as_mut().ok_or(ResponseError::GroupIdNotFound)?;
        if beat.epoch < 0 {
            membership.leave(&beat, view)
        } else {
            membership.beat(beat, view)
        }
    }

    /// Commits positions, all or none.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID` for somebody who is none, and for nobody in particular while there are members;
    /// `STALE_MEMBER_EPOCH` for an epoch that is not the member's, unless all the partitions have been the member's since
    /// that epoch (KIP-1251); `UNSUPPORTED_VERSION` for a member before version 9; without a group `GROUP_ID_NOT_FOUND`,
    /// before version 9 `ILLEGAL_GENERATION`.
    pub(crate) fn commit(
        &self,
        group: &str,
        asker: Asker<'_>,
        version: i16,
        positions: Vec<(String, PartitionId, Committed)>,
        view: &View<'_>,
    ) -> Result<(), ResponseError> {
        let mut known = self.at(view);
        if !known.contains_key(group) && asker.epoch >= 0 {
            return Err(if version < 9 {
                ResponseError::IllegalGeneration
            } else {
                ResponseError::GroupIdNotFound
            });
        }
        let group = known.entry(group.to_owned()).or_default();
        match &group.membership {
            Some(membership) if asker.epoch >= 0 || !membership.is_empty() => {
                let partitions = positions.iter().map(|(_, partition, _)| partition);
                membership.check_commit(asker, version, partitions)?;
            }
            // Without members an epoch is of a generation that there never was.
            None if asker.epoch >= 0 => return Err(ResponseError::UnknownMemberId),
            _ => {}
        }
        for (topic, (_, partition), committed) in positions {
            group.positions.commit(topic, partition, committed);
        }
        Ok(())
    }

    /// Gives the positions of a group to `read`; those of a group that is not there are empty.
    ///
    /// # Errors
    /// For who says which member they are: `UNKNOWN_MEMBER_ID` or `STALE_MEMBER_EPOCH`.
    pub(crate) fn positions<T>(
        &self,
        group: &str,
        asker: Option<Asker<'_>>,
        view: &View<'_>,
        read: impl FnOnce(&Positions) -> T,
    ) -> Result<T, ResponseError> {
        let known = self.at(view);
        let Some(group) = known.get(group) else {
            return Ok(read(&Positions::default()));
        };
        if let (Some(asker), Some(membership)) = (asker, &group.membership) {
            membership.check_fetch(asker)?;
        }
        Ok(read(&group.positions))
    }

    /// Removes one position of a group.
    ///
    /// # Errors
    /// `GROUP_SUBSCRIBED_TO_TOPIC`.
    pub(crate) fn forget_position(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        view: &View<'_>,
    ) -> Result<(), ResponseError> {
        let mut known = self.at(view);
        let group = known.get_mut(group).ok_or(ResponseError::GroupIdNotFound)?;
        if group.subscribed_to(topic) {
            return Err(ResponseError::GroupSubscribedToTopic);
        }
        group.positions.forget(topic, partition);
        Ok(())
    }

    /// Removes a group with all it has.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, or `NON_EMPTY_GROUP`.
    pub(crate) fn delete(&self, group: &str, view: &View<'_>) -> Result<(), ResponseError> {
        let mut known = self.at(view);
        let found = known.get(group).ok_or(ResponseError::GroupIdNotFound)?;
        if found.membership.as_ref().is_some_and(|it| !it.is_empty()) {
            return Err(ResponseError::NonEmptyGroup);
        }
        known.remove(group);
        Ok(())
    }

    /// Gives a group to `read`.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`.
    pub(crate) fn with<T>(
        &self,
        group: &str,
        view: &View<'_>,
        read: impl FnOnce(&Group) -> T,
    ) -> Result<T, ResponseError> {
        let known = self.at(view);
        known.get(group).map(read).ok_or(ResponseError::GroupIdNotFound)
    }

    /// Gives every group to `read`.
    pub(crate) fn all<T>(&self, view: &View<'_>, read: impl FnMut((&String, &Group)) -> T) -> Vec<T> {
        self.at(view).iter().map(read).collect()
    }

    /// Removes the positions in a topic that is deleted.
    pub(crate) fn forget_topic(&self, topic: &str) {
        for group in self.known.lock().values_mut() {
            group.positions.forget_topic(topic);
        }
    }

    /// The groups as they are at that moment.
    fn at(&self, view: &View<'_>) -> parking_lot::MutexGuard<'_, BTreeMap<String, Group>> {
        let mut known = self.known.lock();
        for membership in known.values_mut().filter_map(|group| group.membership.as_mut()) {
            membership.expire(view);
        }
        known
    }
}

/// What only a test does to groups.
#[cfg(feature = "faults")]
impl Groups {
    /// Removes a member, as if its session had ended.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, or `UNKNOWN_MEMBER_ID`.
    pub(crate) fn fence(&self, group: &str, member: &str, view: &View<'_>) -> Result<(), ResponseError> {
        let mut known = self.at(view);
        let group = known.get_mut(group).ok_or(ResponseError::GroupIdNotFound)?;
        let membership = group.membership.as_mut().ok_or(ResponseError::UnknownMemberId)?;
        membership.fence(member, view)
    }

    /// Gives all members their time anew, as a coordinator does that takes over.
    pub(crate) fn restart_clocks(&self, view: &View<'_>) {
        for membership in self
            .known
            .lock()
            .values_mut()
            .filter_map(|group| group.membership.as_mut())
        {
            membership.restart_clocks(view);
        }
    }
}

//! The members of a group, as Kafka's coordinator has them (KIP-848).
//!
//! The group has an epoch that grows with whatever changes who is to have what; once in a while a target for the newest
//! epoch is made, and every member walks there by its own heartbeats. The invariant: no partition is two members' at the
//! same time, those included that have been told to give it up and have not said that they did.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kafka_protocol::error::ResponseError;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Asker, assignor,
    member::{Beat, Goal, Member, PartitionId, Partitions},
    view::{Catalog, View},
};

/// The epoch by which a static member says that it will be back.
const AWAY: i32 = -2;

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// The epoch the member is in.
    pub(crate) epoch: i32,
    /// What it is to have and to give up, if that is news or it may not know.
    pub(crate) assignment: Option<Partitions>,
}

/// The members.
#[derive(Debug)]
pub(crate) struct Membership {
    /// Grows with every change; 1 before the first.
    epoch: i32,
    members: BTreeMap<String, Member>,
    /// What each member is to have, as of `target_epoch`.
    targets: BTreeMap<String, Partitions>,
    target_epoch: i32,
    /// When the targets were made.
    targets_made: Option<Instant>,
    /// The topics of all subscriptions, as they were at the last change.
    topics: Catalog,
}

// === impl Membership ===

impl Default for Membership {
    fn default() -> Self {
        Membership {
            epoch: 1,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            target_epoch: 0,
            targets_made: None,
            topics: Catalog::new(),
        }
    }
}

impl Membership {
    /// Whether there is no member.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The group's epoch, and that of the targets.
    pub(crate) fn epochs(&self) -> (i32, i32) {
        (self.epoch, self.target_epoch)
    }

    /// The members by id, each with what it is to have.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&String, &Member, Option<&Partitions>)> {
        let target = |id| self.targets.get(id);
        self.members.iter().map(move |(id, member)| (id, member, target(id)))
    }

    /// Kafka's name for the state.
    pub(crate) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self
            .members
            .values()
            .all(|member| member.has_reached(self.target_epoch))
        {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Whether a member wants a topic of this name.
    pub(crate) fn subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.subscribed.contains(topic))
    }

    /// Takes a heartbeat of a member that joins or stays.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_MEMBER_EPOCH`, and for static members `FENCED_INSTANCE_ID` and
    /// `UNRELEASED_INSTANCE_ID`.
    pub(crate) fn beat(&mut self, beat: Beat, view: &View<'_>) -> Result<Pulse, ResponseError> {
        let mut member = self.admit(&beat, view)?;
        let had = member.assignment();
        let resubscribed = member.update(&beat);
        member.session_ends = view.now + view.config.session_timeout;
        self.members.insert(beat.member.clone(), member);

        let topics = self.subscribed_topics(view);
        if resubscribed || topics != self.topics {
            self.epoch += 1;
            self.topics = topics;
        }
        if self.epoch > self.target_epoch && self.may_assign(view) {
            self.assign(view);
        }
        let member = self.reconcile(&beat, resubscribed, view)?;
        let full = beat.rebalance_timeout.is_some() && beat.subscribed.is_some() && beat.owned.is_some();
        let news = beat.epoch == 0 || full || member.assignment() != had;
        Ok(Pulse {
            epoch: member.epoch,
            assignment: news.then(|| member.assigned().copied().collect()),
        })
    }

    /// Takes the last heartbeat of a member.
    ///
    /// # Errors
    /// As [`Membership::beat`].
    pub(crate) fn leave(&mut self, beat: &Beat, view: &View<'_>) -> Result<Pulse, ResponseError> {
        let left = Pulse {
            epoch: beat.epoch,
            assignment: None,
        };
        if let Some(instance) = &beat.instance {
            let (id, _) = self.instance(instance).ok_or(ResponseError::UnknownMemberId)?;
            if id != &beat.member {
                return Err(ResponseError::FencedInstanceId);
            }
        }
        if beat.epoch == AWAY {
            let member = self.members.get_mut(&beat.member);
            member.ok_or(ResponseError::UnknownMemberId)?.pause(AWAY);
            return Ok(left);
        }
        self.fence(&beat.member, view).map(|()| left)
    }

    /// Removes a member.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`.
    pub(crate) fn fence(&mut self, member: &str, view: &View<'_>) -> Result<(), ResponseError> {
        self.members.remove(member).ok_or(ResponseError::UnknownMemberId)?;
        self.targets.remove(member);
        self.epoch += 1;
        self.topics = self.subscribed_topics(view);
        Ok(())
    }

    /// Removes the members whose time is up.
    pub(crate) fn expire(&mut self, view: &View<'_>) {
        let late = |member: &Member| {
            let rebalance_ends = member.rebalance_ends.is_some_and(|end| end <= view.now);
            rebalance_ends || member.session_ends <= view.now
        };
        let late: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| late(member))
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            tracing::info!(member = id, "a member's time is up");
            // It was there a line ago.
            let _ = self.fence(&id, view);
        }
    }

    /// Gives all members their time anew.
    #[cfg(feature = "faults")]
    pub(crate) fn restart_clocks(&mut self, view: &View<'_>) {
        for member in self.members.values_mut() {
            member.session_ends = view.now + view.config.session_timeout;
            member.restart_rebalance(view.now);
        }
    }

    /// Whether somebody may commit positions in these partitions.
    ///
    /// # Errors
    /// See [`Groups::commit`](super::Groups::commit).
    pub(super) fn check_commit<'a>(
        &self,
        asker: Asker<'_>,
        version: i16,
        partitions: impl IntoIterator<Item = &'a PartitionId>,
    ) -> Result<(), ResponseError> {
        let member = self.members.get(asker.member).ok_or(ResponseError::UnknownMemberId)?;
        if version < 9 {
            return Err(ResponseError::UnsupportedVersion);
        }
        let had = |partition| member.since(partition).is_some_and(|since| since <= asker.epoch);
        let allowed = asker.epoch == member.epoch || asker.epoch < member.epoch && partitions.into_iter().all(had);
        if allowed {
            Ok(())
        } else {
            Err(ResponseError::StaleMemberEpoch)
        }
    }

    /// Whether a member may read positions.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, or `STALE_MEMBER_EPOCH`.
    pub(super) fn check_fetch(&self, asker: Asker<'_>) -> Result<(), ResponseError> {
        let member = self.members.get(asker.member).ok_or(ResponseError::UnknownMemberId)?;
        if member.epoch == asker.epoch {
            Ok(())
        } else {
            Err(ResponseError::StaleMemberEpoch)
        }
    }

    /// The member that a heartbeat is of: one that joins, or one that is there.
    fn admit(&mut self, beat: &Beat, view: &View<'_>) -> Result<Member, ResponseError> {
        let joins = beat.epoch == 0;
        let Some(instance) = &beat.instance else {
            return match self.members.get(&beat.member) {
                // Who joins anew may have forgotten its epoch.
                Some(member) if joins => Ok(member.clone()),
                Some(member) => check_epoch(member, beat).map(|()| member.clone()),
                None if joins => Ok(Member::new(view.now)),
                None => Err(ResponseError::UnknownMemberId),
            };
        };
        let Some((id, member)) = self.instance(instance).map(|(id, member)| (id.clone(), member.clone())) else {
            return if joins {
                Ok(Member::new(view.now))
            } else {
                Err(ResponseError::UnknownMemberId)
            };
        };
        if joins {
            if member.epoch != AWAY {
                return Err(ResponseError::UnreleasedInstanceId);
            }
            let mut member = member;
            member.begin_again();
            self.members.remove(&id);
            if let Some(target) = self.targets.remove(&id) {
                self.targets.insert(beat.member.clone(), target);
            }
            return Ok(member);
        }
        if id != beat.member {
            return Err(ResponseError::FencedInstanceId);
        }
        check_epoch(&member, beat).map(|()| member)
    }

    fn instance(&self, instance: &str) -> Option<(&String, &Member)> {
        self.members
            .iter()
            .find(|(_, member)| member.instance.as_deref() == Some(instance))
    }

    /// The topics that somebody wants, as far as they exist.
    fn subscribed_topics(&self, view: &View<'_>) -> Catalog {
        let names = self.members.values().flat_map(|member| &member.subscribed);
        let listed = names.filter_map(|name| Some((name.clone(), *view.topics.get(name)?)));
        listed.collect()
    }

    /// Targets are made at once for a group that had none, and then once in an interval.
    fn may_assign(&self, view: &View<'_>) -> bool {
        let interval: Duration = view.config.assignment_interval;
        self.targets_made.is_none_or(|made| view.now >= made + interval)
    }

    fn assign(&mut self, view: &View<'_>) {
        let wanted = self
            .members
            .iter()
            .map(|(id, member)| (id.as_str(), topic_ids(member, view)))
            .collect();
        let topics = self.topics.values().map(|topic| (topic.id, topic.partitions)).collect();
        self.targets = assignor::spread(&wanted, &topics, &self.targets);
        self.target_epoch = self.epoch;
        self.targets_made = Some(view.now);
    }

    /// Has a member take its next step, and gives it.
    fn reconcile(&mut self, beat: &Beat, resubscribed: bool, view: &View<'_>) -> Result<&Member, ResponseError> {
        let others = self.members.iter().filter(|(id, _)| **id != beat.member);
        let taken = others.flat_map(|(_, member)| member.holds().copied()).collect();
        let member = self.members.get_mut(&beat.member);
        let member = member.ok_or(ResponseError::UnknownMemberId)?;
        let nothing = Partitions::new();
        let goal = Goal {
            epoch: self.target_epoch,
            target: self.targets.get(&beat.member).unwrap_or(&nothing),
            subscribed: &topic_ids(member, view),
            resubscribed,
            owned: beat.owned.as_ref(),
            taken: &taken,
        };
        member.reconcile(&goal, view.now);
        Ok(member)
    }
}

/// The topics that a member wants, as far as they exist.
fn topic_ids(member: &Member, view: &View<'_>) -> BTreeSet<Uuid> {
    let listed = member.subscribed.iter().filter_map(|name| view.topics.get(name));
    listed.map(|topic| topic.id).collect()
}

/// A member may be one epoch behind, if it has nothing that it had to give up for it: the answer may have been lost.
fn check_epoch(member: &Member, beat: &Beat) -> Result<(), ResponseError> {
    let behind = beat.epoch == member.previous_epoch && member.has_all(beat.owned.as_ref());
    if beat.epoch == member.epoch || beat.epoch < member.epoch && behind {
        Ok(())
    } else {
        Err(ResponseError::FencedMemberEpoch)
    }
}

#[cfg(test)]
mod tests;

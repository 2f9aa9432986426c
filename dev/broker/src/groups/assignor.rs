//! The assignor `uniform`: members get the same number of partitions, as far as subscriptions allow, and keep their
//! partitions, as far as the balance allows. Kafka's `UniformAssignor`.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::member::{PartitionSet, TopicIdPartition};

/// The name in requests and descriptions.
pub(crate) const UNIFORM: &str = "uniform";

/// Assigns all partitions of `topics` to the subscribed members; `previous` is the assignment before.
///
/// If all members subscribe to the same topics, their numbers of partitions differ by one at most.
pub(super) fn assign(
    subscriptions: &BTreeMap<&str, BTreeSet<Uuid>>,
    topics: &BTreeMap<Uuid, i32>,
    previous: &BTreeMap<String, PartitionSet>,
) -> BTreeMap<String, PartitionSet> {
    let previous_owners: BTreeMap<TopicIdPartition, &str> = previous
        .iter()
        .flat_map(|(member, partitions)| partitions.iter().map(move |partition| (*partition, member.as_str())))
        .collect();
    let partitions: Vec<TopicIdPartition> = topics
        .iter()
        .flat_map(|(topic, count)| (0..*count).map(move |index| (*topic, index)))
        .collect();
    let mut assignor = UniformAssignor {
        subscriptions,
        assignment: subscriptions
            .keys()
            .map(|member| (*member, PartitionSet::new()))
            .collect(),
    };
    let mut unassigned = Vec::new();
    for partition in &partitions {
        match previous_owners.get(partition) {
            Some(member) if assignor.is_subscribed(member, *partition) => assignor.add(member, *partition),
            _ => unassigned.push(*partition),
        }
    }
    for partition in unassigned {
        if let Some(member) = assignor.least_loaded(partition) {
            assignor.add(member, partition);
        }
    }
    assignor.balance(&partitions);
    let assignment = assignor.assignment.into_iter();
    assignment
        .map(|(member, partitions)| (member.to_owned(), partitions))
        .collect()
}

struct UniformAssignor<'a> {
    subscriptions: &'a BTreeMap<&'a str, BTreeSet<Uuid>>,
    assignment: BTreeMap<&'a str, PartitionSet>,
}

// === impl UniformAssignor ===

impl<'a> UniformAssignor<'a> {
    fn is_subscribed(&self, member: &str, (topic, _): TopicIdPartition) -> bool {
        self.subscriptions
            .get(member)
            .is_some_and(|topics| topics.contains(&topic))
    }

    fn load(&self, member: &str) -> usize {
        self.assignment.get(member).map_or(0, BTreeSet::len)
    }

    fn add(&mut self, member: &str, partition: TopicIdPartition) {
        if let Some(partitions) = self.assignment.get_mut(member) {
            partitions.insert(partition);
        }
    }

    /// The subscribed member with the fewest partitions.
    fn least_loaded(&self, partition: TopicIdPartition) -> Option<&'a str> {
        let members = self.subscriptions.keys().copied();
        members
            .filter(|member| self.is_subscribed(member, partition))
            .min_by_key(|member| self.load(member))
    }

    /// Moves partitions to members that have at least two fewer. It terminates: each move reduces the sum of the squares
    /// of the loads.
    fn balance(&mut self, partitions: &[TopicIdPartition]) {
        loop {
            let mut moved = false;
            // In reverse, as in Kafka: members keep their lower partition numbers.
            for partition in partitions.iter().rev() {
                let owner = self
                    .assignment
                    .iter()
                    .find(|(_, partitions)| partitions.contains(partition))
                    .map(|(member, _)| *member);
                let (Some(owner), Some(target)) = (owner, self.least_loaded(*partition)) else {
                    continue;
                };
                if self.load(owner) >= self.load(target) + 2 {
                    if let Some(partitions) = self.assignment.get_mut(owner) {
                        partitions.remove(partition);
                    }
                    self.add(target, *partition);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! The assignor `uniform`: every member gets as many partitions as any other, as far as subscriptions allow, and keeps
//! what it has as far as that allows.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::member::{PartitionId, Partitions};

/// Its name, as clients may ask for it.
pub(crate) const UNIFORM: &str = "uniform";

/// Spreads all partitions of the topics over the members that want them; `had` is what they were to have before.
///
/// Where all members want the same topics, their numbers of partitions differ by one at the most.
pub(super) fn spread(
    wanted: &BTreeMap<&str, BTreeSet<Uuid>>,
    topics: &BTreeMap<Uuid, i32>,
    had: &BTreeMap<String, Partitions>,
) -> BTreeMap<String, Partitions> {
    let before: BTreeMap<PartitionId, &str> = had
        .iter()
        .flat_map(|(member, partitions)| partitions.iter().map(move |partition| (*partition, member.as_str())))
        .collect();
    let mut spread = Spread {
        wanted,
        given: wanted.keys().map(|member| (*member, Partitions::new())).collect(),
    };
    let all = || {
        topics
            .iter()
            .flat_map(|(topic, count)| (0..*count).map(move |index| (*topic, index)))
    };
    let mut free = Vec::new();
    for partition in all() {
        match before.get(&partition) {
            Some(member) if spread.wants(member, partition) => spread.give(member, partition),
            _ => free.push(partition),
        }
    }
    for partition in free {
        if let Some(member) = spread.poorest(partition) {
            spread.give(member, partition);
        }
    }
    spread.even_out(all().collect());
    let given = spread.given.into_iter();
    given
        .map(|(member, partitions)| (member.to_owned(), partitions))
        .collect()
}

/// A spread in the making.
struct Spread<'a> {
    wanted: &'a BTreeMap<&'a str, BTreeSet<Uuid>>,
    given: BTreeMap<&'a str, Partitions>,
}

impl<'a> Spread<'a> {
    fn wants(&self, member: &str, (topic, _): PartitionId) -> bool {
        self.wanted.get(member).is_some_and(|topics| topics.contains(&topic))
    }

    fn size(&self, member: &str) -> usize {
        self.given.get(member).map_or(0, BTreeSet::len)
    }

    fn give(&mut self, member: &str, partition: PartitionId) {
        if let Some(partitions) = self.given.get_mut(member) {
            partitions.insert(partition);
        }
    }

    /// Of those that want the partition, the one that has least.
    fn poorest(&self, partition: PartitionId) -> Option<&'a str> {
        let members = self.wanted.keys().copied();
        members
            .filter(|member| self.wants(member, partition))
            .min_by_key(|member| self.size(member))
    }

    /// Moves partitions to who has at least two less, as long as there are any. It ends: every move makes the sum of the
    /// squares of the sizes smaller.
    fn even_out(&mut self, all: Vec<PartitionId>) {
        loop {
            let mut moved = false;
            // From the last to the first, like Kafka's: members keep the lower numbers.
            for partition in all.iter().rev() {
                let owner = self.given.iter().find(|(_, partitions)| partitions.contains(partition));
                let (Some(owner), Some(poorest)) = (owner.map(|(member, _)| *member), self.poorest(*partition)) else {
                    continue;
                };
                if self.size(owner) >= self.size(poorest) + 2 {
                    if let Some(partitions) = self.given.get_mut(owner) {
                        partitions.remove(partition);
                    }
                    self.give(poorest, *partition);
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

//! The topics there are, by name and by id.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kafka_protocol::{error::ResponseError, messages::TopicName, protocol::StrBytes};
use parking_lot::RwLock;
use uuid::Uuid;

use crate::partition::Partition;

/// The longest name, Kafka's `Topic.MAX_NAME_LENGTH`.
const MAX_NAME_BYTES: usize = 249;
/// Partitions of all topics together: each costs memory from the start, and the number comes from the wire.
const MAX_PARTITIONS: usize = 10_000;

/// A topic with its partitions. One that is deleted and made again is another one, with another id. One that grows is
/// replaced by a longer one that shares the partitions there were.
#[derive(Debug)]
pub(crate) struct Topic {
    /// Its name.
    pub(crate) name: TopicName,
    /// Its id (KIP-516).
    pub(crate) id: Uuid,
    /// Its partitions; the place is the number.
    pub(crate) partitions: Vec<Arc<Partition>>,
}

impl Topic {
    /// A partition by its number.
    pub(crate) fn partition(&self, index: i32) -> Option<&Partition> {
        let index = usize::try_from(index).ok()?;
        self.partitions.get(index).map(Arc::as_ref)
    }
}

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<StrBytes, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
    partitions: usize,
}

/// All topics.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    known: RwLock<Known>,
}

impl Topics {
    /// The topic of this name.
    pub(crate) fn named(&self, name: &str) -> Result<Arc<Topic>, ResponseError> {
        let known = self.known.read();
        known
            .by_name
            .get(name.as_bytes())
            .map(Arc::clone)
            .ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// The topic of this id.
    pub(crate) fn identified(&self, id: &Uuid) -> Result<Arc<Topic>, ResponseError> {
        self.known
            .read()
            .by_id
            .get(id)
            .map(Arc::clone)
            .ok_or(ResponseError::UnknownTopicId)
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.known.read().by_name.values().map(Arc::clone).collect()
    }

    /// Whether a topic could have this name.
    ///
    /// # Errors
    /// `INVALID_TOPIC_EXCEPTION`, or `TOPIC_ALREADY_EXISTS`.
    pub(crate) fn check_new(&self, name: &str) -> Result<(), ResponseError> {
        self.known.read().check_new(name)
    }

    /// Whether a topic could be created.
    ///
    /// # Errors
    /// `INVALID_TOPIC_EXCEPTION`, `TOPIC_ALREADY_EXISTS`, or `INVALID_PARTITIONS` for none or too many.
    pub(crate) fn check(&self, name: &str, partitions: usize) -> Result<(), ResponseError> {
        self.known.read().check(name, partitions)
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// As [`Topics::check`].
    pub(crate) fn create(
        &self,
        name: &str,
        partitions: usize,
        partition: impl Fn() -> Partition,
    ) -> Result<Arc<Topic>, ResponseError> {
        let mut known = self.known.write();
        known.check(name, partitions)?;
        // Its own copy: the name at hand is a piece of a request.
        let name = StrBytes::from_string(name.to_owned());
        let topic = Arc::new(Topic {
            name: TopicName(name.clone()),
            id: Uuid::new_v4(),
            partitions: std::iter::repeat_with(|| Arc::new(partition()))
                .take(partitions)
                .collect(),
        });
        known.partitions += partitions;
        known.by_id.insert(topic.id, Arc::clone(&topic));
        known.by_name.insert(name, Arc::clone(&topic));
        Ok(topic)
    }

    /// Whether a topic could get more partitions, `partitions` in all.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, or `INVALID_PARTITIONS` for no more than there are, or too many.
    pub(crate) fn check_growth(&self, name: &str, partitions: usize) -> Result<(), ResponseError> {
        self.known.read().check_growth(name, partitions).map(drop)
    }

    /// Adds partitions to a topic, so that it has `partitions`.
    ///
    /// # Errors
    /// As [`Topics::check_growth`].
    pub(crate) fn grow(
        &self,
        name: &str,
        partitions: usize,
        partition: impl Fn() -> Partition,
    ) -> Result<(), ResponseError> {
        let mut known = self.known.write();
        let old = Arc::clone(known.check_growth(name, partitions)?);
        let mut grown = old.partitions.clone();
        grown.resize_with(partitions, || Arc::new(partition()));
        let topic = Arc::new(Topic {
            name: old.name.clone(),
            id: old.id,
            partitions: grown,
        });
        known.partitions += partitions - old.partitions.len();
        known.by_id.insert(topic.id, Arc::clone(&topic));
        known.by_name.insert(topic.name.0.clone(), topic);
        Ok(())
    }

    /// Deletes a topic; whoever waits for its records learns it at once.
    pub(crate) fn delete(&self, topic: &Topic) -> Result<(), ResponseError> {
        let mut known = self.known.write();
        // By id: a topic of the same name may have been made since.
        let gone = known
            .by_id
            .remove(&topic.id)
            .ok_or(ResponseError::UnknownTopicOrPartition)?;
        known.by_name.remove(gone.name.as_bytes());
        known.partitions -= gone.partitions.len();
        drop(known);
        for partition in &gone.partitions {
            partition.wake();
        }
        Ok(())
    }
}

impl Known {
    fn check_new(&self, name: &str) -> Result<(), ResponseError> {
        check_name(name)?;
        if self.by_name.contains_key(name.as_bytes()) {
            return Err(ResponseError::TopicAlreadyExists);
        }
        if self.by_name.keys().any(|known| collide(known, name)) {
            return Err(ResponseError::InvalidTopicException);
        }
        Ok(())
    }

    fn check(&self, name: &str, partitions: usize) -> Result<(), ResponseError> {
        self.check_new(name)?;
        if partitions == 0 || self.partitions + partitions > MAX_PARTITIONS {
            return Err(ResponseError::InvalidPartitions);
        }
        Ok(())
    }

    fn check_growth(&self, name: &str, partitions: usize) -> Result<&Arc<Topic>, ResponseError> {
        let topic = self.by_name.get(name.as_bytes());
        let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
        let had = topic.partitions.len();
        if partitions <= had || self.partitions + (partitions - had) > MAX_PARTITIONS {
            return Err(ResponseError::InvalidPartitions);
        }
        Ok(topic)
    }
}

/// Kafka's rule for names (`Topic.validate`).
pub(crate) fn check_name(name: &str) -> Result<(), ResponseError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let valid = !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME_BYTES && name.bytes().all(plain);
    if valid {
        Ok(())
    } else {
        Err(ResponseError::InvalidTopicException)
    }
}

/// Kafka's rule for names beside each other (`Topic.hasCollision`): in the names of metrics a dot is an underscore.
fn collide(one: &str, other: &str) -> bool {
    let unified = |byte: u8| if byte == b'.' { b'_' } else { byte };
    one.len() == other.len() && one.bytes().map(unified).eq(other.bytes().map(unified))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafka() {
        for name in ["ping", "a.b_c-9", &"x".repeat(249)] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["", ".", "..", "a b", "ü", "a/b", &"x".repeat(250)] {
            assert_eq!(check_name(name), Err(ResponseError::InvalidTopicException), "{name}");
        }
    }

    #[test]
    fn a_topic_made_again_is_another_one() {
        let topics = Topics::default();
        let make = || topics.create("ping", 2, || Partition::new(1, 1000));
        let first = make().unwrap();
        assert_eq!(make().unwrap_err(), ResponseError::TopicAlreadyExists);
        topics.delete(&first).unwrap();
        assert_eq!(topics.delete(&first), Err(ResponseError::UnknownTopicOrPartition));
        let second = make().unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!(topics.identified(&first.id).unwrap_err(), ResponseError::UnknownTopicId);
        assert_eq!(topics.named("ping").unwrap().id, second.id);
    }

    #[test]
    fn a_topic_that_grows_keeps_its_partitions() {
        let topics = Topics::default();
        let partition = || Partition::new(1, 1000);
        let first = topics.create("ping", 2, partition).unwrap();
        for (name, partitions, error) in [
            ("pong", 3, ResponseError::UnknownTopicOrPartition),
            ("ping", 1, ResponseError::InvalidPartitions),
            ("ping", 2, ResponseError::InvalidPartitions),
            ("ping", MAX_PARTITIONS + 1, ResponseError::InvalidPartitions),
        ] {
            assert_eq!(topics.grow(name, partitions, partition), Err(error));
        }
        topics.grow("ping", 3, partition).unwrap();
        let grown = topics.named("ping").unwrap();
        assert_eq!((grown.id, grown.partitions.len()), (first.id, 3));
        assert!(std::ptr::eq(first.partition(1).unwrap(), grown.partition(1).unwrap()));
        // What a slow caller still holds is that topic, too.
        topics.delete(&first).unwrap();
        assert_eq!(topics.check("ping", MAX_PARTITIONS), Ok(()));
    }

    #[test]
    fn a_name_must_differ_in_more_than_dots() {
        let topics = Topics::default();
        topics.create("a.b_c", 1, || Partition::new(1, 1000)).unwrap();
        assert_eq!(topics.check_new("a.b_c"), Err(ResponseError::TopicAlreadyExists));
        for name in ["a_b_c", "a.b.c", "a_b.c"] {
            assert_eq!(
                topics.check_new(name),
                Err(ResponseError::InvalidTopicException),
                "{name}"
            );
        }
        for name in ["a-b_c", "a.b_", "a.b_c_"] {
            assert_eq!(topics.check_new(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn the_number_of_partitions_is_bounded() {
        let topics = Topics::default();
        assert_eq!(topics.check("ping", 0), Err(ResponseError::InvalidPartitions));
        assert_eq!(topics.check("ping", MAX_PARTITIONS), Ok(()));
        assert_eq!(
            topics.check("ping", MAX_PARTITIONS + 1),
            Err(ResponseError::InvalidPartitions)
        );
    }
}

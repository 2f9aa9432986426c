//! The topics, by name and by id.

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
/// Most partitions of all topics together. A partition costs memory from the start, and the client names the number.
const MAX_PARTITIONS: usize = 10_000;

/// A topic with its partitions. Immutable: `create_partitions` replaces it by one that shares the old partitions.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    /// The topic id (KIP-516). A topic that is deleted and created again has another one.
    pub(crate) id: Uuid,
    /// The index is the partition number.
    pub(crate) partitions: Vec<Arc<Partition>>,
}

/// All topics.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    index: RwLock<TopicIndex>,
}

#[derive(Debug, Default)]
struct TopicIndex {
    by_name: BTreeMap<StrBytes, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
    /// Partitions of all topics.
    partitions: usize,
}

// === impl Topic ===

impl Topic {
    /// A partition by its number.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    pub(crate) fn partition(&self, index: i32) -> Result<&Arc<Partition>, ResponseError> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.partitions.get(index))
            .ok_or(ResponseError::UnknownTopicOrPartition)
    }
}

// === impl Topics ===

impl Topics {
    /// The topic of this name.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    pub(crate) fn by_name(&self, name: &str) -> Result<Arc<Topic>, ResponseError> {
        let index = self.index.read();
        let topic = index.by_name.get(name.as_bytes()).map(Arc::clone);
        topic.ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// The topic of this id.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_ID`.
    pub(crate) fn by_id(&self, id: &Uuid) -> Result<Arc<Topic>, ResponseError> {
        let topic = self.index.read().by_id.get(id).map(Arc::clone);
        topic.ok_or(ResponseError::UnknownTopicId)
    }

    /// All topics, ordered by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.index.read().by_name.values().map(Arc::clone).collect()
    }

    /// Validates the name of a new topic.
    ///
    /// # Errors
    /// `INVALID_TOPIC_EXCEPTION`, or `TOPIC_ALREADY_EXISTS`.
    pub(crate) fn validate_name(&self, name: &str) -> Result<(), ResponseError> {
        self.index.read().validate_name(name)
    }

    /// Validates a new topic without creating it.
    ///
    /// # Errors
    /// `INVALID_TOPIC_EXCEPTION`, `TOPIC_ALREADY_EXISTS`, or `INVALID_PARTITIONS` for none or too many.
    pub(crate) fn validate(&self, name: &str, partitions: usize) -> Result<(), ResponseError> {
        self.index.read().validate(name, partitions)
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// As [`Topics::validate`].
    pub(crate) fn create(
        &self,
        name: &str,
        partitions: usize,
        new_partition: impl Fn() -> Partition,
    ) -> Result<Arc<Topic>, ResponseError> {
        let mut index = self.index.write();
        index.validate(name, partitions)?;
        // A copy: `name` keeps the whole request buffer alive.
        let name = StrBytes::from_string(name.to_owned());
        let topic = Arc::new(Topic {
            name: TopicName(name.clone()),
            id: Uuid::new_v4(),
            partitions: std::iter::repeat_with(|| Arc::new(new_partition()))
                .take(partitions)
                .collect(),
        });
        index.partitions += partitions;
        index.by_id.insert(topic.id, Arc::clone(&topic));
        index.by_name.insert(name, Arc::clone(&topic));
        Ok(topic)
    }

    /// Validates a new number of partitions without creating them.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, or `INVALID_PARTITIONS` unless the number grows and is within the limit.
    pub(crate) fn validate_partitions(&self, name: &str, partitions: usize) -> Result<(), ResponseError> {
        self.index.read().validate_partitions(name, partitions).map(drop)
    }

    /// Increases the number of partitions of a topic to `partitions`.
    ///
    /// # Errors
    /// As [`Topics::validate_partitions`].
    pub(crate) fn create_partitions(
        &self,
        name: &str,
        partitions: usize,
        new_partition: impl Fn() -> Partition,
    ) -> Result<(), ResponseError> {
        let mut index = self.index.write();
        let old = Arc::clone(index.validate_partitions(name, partitions)?);
        let mut all = old.partitions.clone();
        all.resize_with(partitions, || Arc::new(new_partition()));
        let topic = Arc::new(Topic {
            name: old.name.clone(),
            id: old.id,
            partitions: all,
        });
        index.partitions += partitions - old.partitions.len();
        index.by_id.insert(topic.id, Arc::clone(&topic));
        index.by_name.insert(topic.name.0.clone(), topic);
        Ok(())
    }

    /// Deletes a topic, and wakes the fetches that wait for its records.
    pub(crate) fn delete(&self, topic: &Topic) -> Result<(), ResponseError> {
        let mut index = self.index.write();
        // By id: the name may belong to a newer topic.
        let deleted = index
            .by_id
            .remove(&topic.id)
            .ok_or(ResponseError::UnknownTopicOrPartition)?;
        index.by_name.remove(deleted.name.as_bytes());
        index.partitions -= deleted.partitions.len();
        drop(index);
        for partition in &deleted.partitions {
            partition.wake_fetches();
        }
        Ok(())
    }
}

// === impl TopicIndex ===

impl TopicIndex {
    fn validate_name(&self, name: &str) -> Result<(), ResponseError> {
        validate_name(name)?;
        if self.by_name.contains_key(name.as_bytes()) {
            return Err(ResponseError::TopicAlreadyExists);
        }
        if self.by_name.keys().any(|existing| has_collision(existing, name)) {
            return Err(ResponseError::InvalidTopicException);
        }
        Ok(())
    }

    fn validate(&self, name: &str, partitions: usize) -> Result<(), ResponseError> {
        self.validate_name(name)?;
        if partitions == 0 || self.partitions + partitions > MAX_PARTITIONS {
            return Err(ResponseError::InvalidPartitions);
        }
        Ok(())
    }

    fn validate_partitions(&self, name: &str, partitions: usize) -> Result<&Arc<Topic>, ResponseError> {
        let topic = self.by_name.get(name.as_bytes());
        let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
        let current = topic.partitions.len();
        if partitions <= current || self.partitions + (partitions - current) > MAX_PARTITIONS {
            return Err(ResponseError::InvalidPartitions);
        }
        Ok(topic)
    }
}

/// Kafka's `Topic.validate`.
pub(crate) fn validate_name(name: &str) -> Result<(), ResponseError> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let valid = !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_legal);
    if valid {
        Ok(())
    } else {
        Err(ResponseError::InvalidTopicException)
    }
}

/// Kafka's `Topic.hasCollision`: metric names replace a dot by an underscore.
fn has_collision(one: &str, other: &str) -> bool {
    let unified = |byte: u8| if byte == b'.' { b'_' } else { byte };
    one.len() == other.len() && one.bytes().map(unified).eq(other.bytes().map(unified))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_validated_as_in_kafka() {
        for name in ["ping", "a.b_c-9", &"x".repeat(249)] {
            assert_eq!(validate_name(name), Ok(()));
        }
        for name in ["", ".", "..", "a b", "ü", "a/b", &"x".repeat(250)] {
            assert_eq!(validate_name(name), Err(ResponseError::InvalidTopicException), "{name}");
        }
    }

    #[test]
    fn recreated_topic_has_another_id() {
        let topics = Topics::default();
        let create = || topics.create("ping", 2, || Partition::new(1, 1000));
        let first = create().unwrap();
        assert_eq!(create().unwrap_err(), ResponseError::TopicAlreadyExists);
        topics.delete(&first).unwrap();
        assert_eq!(topics.delete(&first), Err(ResponseError::UnknownTopicOrPartition));
        let second = create().unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!(topics.by_id(&first.id).unwrap_err(), ResponseError::UnknownTopicId);
        assert_eq!(topics.by_name("ping").unwrap().id, second.id);
    }

    #[test]
    fn create_partitions_keeps_existing_partitions() {
        let topics = Topics::default();
        let new_partition = || Partition::new(1, 1000);
        let first = topics.create("ping", 2, new_partition).unwrap();
        for (name, partitions, error) in [
            ("pong", 3, ResponseError::UnknownTopicOrPartition),
            ("ping", 1, ResponseError::InvalidPartitions),
            ("ping", 2, ResponseError::InvalidPartitions),
            ("ping", MAX_PARTITIONS + 1, ResponseError::InvalidPartitions),
        ] {
            assert_eq!(topics.create_partitions(name, partitions, new_partition), Err(error));
        }
        topics.create_partitions("ping", 3, new_partition).unwrap();
        let grown = topics.by_name("ping").unwrap();
        assert_eq!((grown.id, grown.partitions.len()), (first.id, 3));
        assert!(Arc::ptr_eq(first.partition(1).unwrap(), grown.partition(1).unwrap()));
        // A handle from before the growth deletes the topic, with all partitions.
        topics.delete(&first).unwrap();
        assert_eq!(topics.validate("ping", MAX_PARTITIONS), Ok(()));
    }

    #[test]
    fn names_that_differ_in_dot_and_underscore_collide() {
        let topics = Topics::default();
        topics.create("a.b_c", 1, || Partition::new(1, 1000)).unwrap();
        assert_eq!(topics.validate_name("a.b_c"), Err(ResponseError::TopicAlreadyExists));
        for name in ["a_b_c", "a.b.c", "a_b.c"] {
            assert_eq!(
                topics.validate_name(name),
                Err(ResponseError::InvalidTopicException),
                "{name}"
            );
        }
        for name in ["a-b_c", "a.b_", "a.b_c_"] {
            assert_eq!(topics.validate_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn total_partitions_are_limited() {
        let topics = Topics::default();
        assert_eq!(topics.validate("ping", 0), Err(ResponseError::InvalidPartitions));
        assert_eq!(topics.validate("ping", MAX_PARTITIONS), Ok(()));
        assert_eq!(
            topics.validate("ping", MAX_PARTITIONS + 1),
            Err(ResponseError::InvalidPartitions)
        );
    }
}

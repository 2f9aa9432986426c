//! A bounded LRU pool of producers, by topic and partition.
//!
//! Producers of foreign topics are evicted first, even if they were used later: gateways wait for the heartbeats in our
//! own topics.

use super::Producer;

/// Open producers, the default one included.
const MAX_PRODUCERS: usize = 64;

/// All producers but the default one.
#[derive(Debug)]
pub(super) struct ProducerPool {
    /// Our reply topics.
    topics: Vec<String>,
    /// In no order; at most 63, so a look-up scans them.
    entries: Vec<Entry>,
    /// Counts the uses of all producers.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    topic: String,
    partition: i32,
    producer: Producer,
    /// The clock at the last use.
    last_used: u64,
    /// It has sent replies, not only heartbeats.
    has_replies: bool,
}

// === impl ProducerPool ===

impl ProducerPool {
    pub(super) fn new(topics: &[String]) -> Self {
        Self {
            topics: topics.to_vec(),
            entries: Vec::new(),
            clock: 0,
        }
    }

    /// A producer, which counts as a use of it.
    pub(super) fn get(&mut self, topic: &str, partition: i32) -> Option<Producer> {
        let entry = self.entries.iter_mut().find(|entry| entry.is_for(topic, partition))?;
        self.clock += 1;
        entry.last_used = self.clock;
        Some(entry.producer.clone())
    }

    /// Notes that a producer sends replies.
    pub(super) fn mark_replies(&mut self, topic: &str, partition: i32) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.is_for(topic, partition)) {
            entry.has_replies = true;
        }
    }

    /// Whether a producer that has sent replies is reachable.
    pub(super) fn is_any_reachable(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.has_replies && entry.producer.is_reachable())
    }

    /// Whether a producer is open, or can be opened without an eviction.
    pub(super) fn can_open_without_eviction(&self, topic: &str, partition: i32) -> bool {
        !self.is_full() || self.entries.iter().any(|entry| entry.is_for(topic, partition))
    }

    /// Adds a producer. Returns the evicted one if the pool was full.
    pub(super) fn insert(&mut self, topic: &str, partition: i32, producer: Producer) -> Option<Producer> {
        let evicted = self.is_full().then(|| self.evict()).flatten();
        self.clock += 1;
        self.entries.push(Entry {
            topic: topic.to_owned(),
            partition,
            producer,
            last_used: self.clock,
            has_replies: false,
        });
        evicted
    }

    /// Takes a producer out.
    pub(super) fn remove(&mut self, topic: &str, partition: i32) -> Option<Producer> {
        let index = self.entries.iter().position(|entry| entry.is_for(topic, partition))?;
        Some(self.entries.swap_remove(index).producer)
    }

    /// All producers in the pool.
    pub(super) fn producers(&self) -> Vec<Producer> {
        self.entries.iter().map(|entry| entry.producer.clone()).collect()
    }

    fn is_full(&self) -> bool {
        // One more is the default producer.
        self.entries.len() + 1 >= MAX_PRODUCERS
    }

    fn evict(&mut self) -> Option<Producer> {
        let entries = self.entries.iter().enumerate();
        let (index, _) = entries.min_by_key(|(_, entry)| (self.topics.contains(&entry.topic), entry.last_used))?;
        Some(self.entries.swap_remove(index).producer)
    }
}

// === impl Entry ===

impl Entry {
    fn is_for(&self, topic: &str, partition: i32) -> bool {
        self.partition == partition && self.topic == topic
    }
}

//! The value of a worker's heartbeat, the record in a reply topic that tells gateways that a worker is there.
//!
//! It is JSON. A gateway ignores members that it does not know. An empty value is a heartbeat that names no topics.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a worker tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heartbeat {
    /// The request topics that it reads; empty means that they are unknown.
    pub topics: Vec<String>,
    /// The partitions that it reads, by topic. A topic without an entry is read in unknown partitions.
    pub partitions: BTreeMap<String, Vec<i32>>,
    /// The name of the service.
    pub name: String,
    /// The version of the service.
    pub version: String,
    /// Identifies the process.
    pub id: String,
    /// The group that its offsets are committed under.
    pub group: String,
    /// Requests that are being handled.
    pub in_flight: u64,
    /// Requests handled since the start.
    pub handled: u64,
    /// Of these, requests that failed.
    pub failed: u64,
}

// === impl Heartbeat ===

impl Heartbeat {
    /// Parses the value of a heartbeat record.
    ///
    /// # Errors
    /// When the value is neither empty nor a JSON object of this shape.
    pub fn from_value(value: &[u8]) -> Result<Self, serde_json::Error> {
        if value.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(value)
    }

    /// Whether the worker reads a request topic. One that names no topics may read every one.
    #[must_use]
    pub fn reads(&self, topic: &str) -> bool {
        self.topics.is_empty() || self.topics.iter().any(|name| name == topic)
    }

    /// The value of the heartbeat record.
    #[must_use]
    pub fn to_value(&self) -> Vec<u8> {
        // Strings, numbers and maps with string keys always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_round_trips() {
        let heartbeat = Heartbeat {
            topics: vec!["orders".to_owned()],
            partitions: [("orders".to_owned(), vec![0, 2])].into(),
            name: "shop".to_owned(),
            version: "1.4.0".to_owned(),
            id: "a".to_owned(),
            group: "shops".to_owned(),
            in_flight: 1,
            handled: 2,
            failed: 3,
        };
        assert_eq!(Heartbeat::from_value(&heartbeat.to_value()).unwrap(), heartbeat);
    }

    #[test]
    fn empty_value_names_no_topics() {
        assert_eq!(Heartbeat::from_value(b"").unwrap(), Heartbeat::default());
        assert!(Heartbeat::default().reads("any"));
    }

    #[test]
    fn topics_alone_are_enough_and_unknown_members_are_ignored() {
        let heartbeat = Heartbeat::from_value(br#"{"topics":["a","b"],"more":{}}"#).unwrap();
        assert_eq!(heartbeat.topics, ["a", "b"]);
        assert!(heartbeat.reads("a") && !heartbeat.reads("c"));
        assert!(Heartbeat::from_value(b"[1]").is_err());
        assert!(Heartbeat::from_value(br#"{"topics":"a"}"#).is_err());
    }
}

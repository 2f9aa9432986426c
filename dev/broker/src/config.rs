//! The settings of a broker.

use std::time::Duration;

/// Settings of a broker. The defaults are for tests.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Host and port in `Metadata` responses. None: the address that the client connected to.
    pub advertised: Option<(String, u16)>,
    /// Whether `Metadata` creates a missing topic if the client allows it. Off.
    pub auto_create_topics: bool,
    /// Partitions of a topic if the request names no number, 1. Kafka's `num.partitions`.
    pub default_partitions: usize,
    /// Bytes that a partition retains, about 64 MiB: the oldest batches are deleted first, the newest never. Kafka's
    /// `retention.bytes`.
    pub retention_bytes: usize,
    /// The largest accepted record batch, 1,048,588 bytes: Kafka's `max.message.bytes`, 1 MiB and the batch overhead.
    pub max_batch_bytes: usize,
    /// The largest accepted request, 32 MiB; a larger one closes its connection. Kafka's `socket.request.max.bytes` is
    /// 100 MiB.
    pub max_request_bytes: usize,
    /// Time without a heartbeat after which a member is removed, 45 s: Kafka's `group.consumer.session.timeout.ms`.
    pub session_timeout: Duration,
    /// Heartbeat interval that members are told, 5 s: Kafka's `group.consumer.heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// Shortest time between two target assignments of a group, 1 s: Kafka's `group.consumer.assignment.interval.ms`.
    pub assignment_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            advertised: None,
            auto_create_topics: false,
            default_partitions: 1,
            retention_bytes: 64 << 20,
            max_batch_bytes: (1 << 20) + 12,
            max_request_bytes: 32 << 20,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(5),
            assignment_interval: Duration::from_secs(1),
        }
    }
}

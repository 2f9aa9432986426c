//! What can be chosen about a broker.

use std::time::Duration;

/// What a broker is to be like. The default is what tests want.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Host and port that clients are told to connect to. None: the address each of them reached.
    pub advertised: Option<(String, u16)>,
    /// Whether asking for a topic that does not exist makes it, if the client allows it. Off.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator does not say, 1.
    pub default_partitions: usize,
    /// About what a partition keeps at most, 64 MiB; the oldest batches go. The newest one stays, whatever its size.
    pub retention_bytes: usize,
    /// The largest record batch taken, 1,048,588 bytes: Kafka's `max.message.bytes`, 1 MiB and the batch overhead.
    pub max_batch_bytes: usize,
    /// The largest request taken, 32 MiB; a longer one closes its connection. Kafka's `socket.request.max.bytes` is
    /// 100 MiB.
    pub max_request_bytes: usize,
    /// How long a group keeps a member that says nothing, 45 s: Kafka's `group.consumer.session.timeout.ms`.
    pub session_timeout: Duration,
    /// How often members are told to say something, 5 s: Kafka's `group.consumer.heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// How often a group makes up its mind anew who is to have what, at the most, 1 s: Kafka's
    /// `group.consumer.assignment.interval.ms`.
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

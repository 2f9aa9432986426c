//! What can be chosen about a broker.

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
        }
    }
}

//! A client of a partition's leader, on a connection of its own.
//!
//! Kafka answers the requests of a connection in order, so a long poll delays every request behind it. Producers and
//! consumers never share a connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rskafka::client::partition::{Compression, OffsetAt, PartitionClient};
use tokio::time::Instant;

use super::{
    backoff,
    call::with_timeout,
    cluster::Cluster,
    error::Error,
    nodelay,
    record::{ConsumedRecord, Record},
};

/// The size limit of a batch on a socket without `TCP_NODELAY`, in bytes: 7.5 KiB less the headers of batch and request.
///
/// rskafka writes through an 8 KiB buffer. A larger request leaves in two writes, and Nagle's algorithm holds the second
/// back until a delayed acknowledgement 40 ms later.
pub(crate) const SMALL_BATCH_BYTES: usize = 7_680 - 280;

/// The size limit of a batch on a socket with `TCP_NODELAY`: larger batches save CPU of the broker, the gateway and the
/// worker (docs/performance.md). Kafka's default limit is five times as much.
const LARGE_BATCH_BYTES: usize = 200_000;

/// Bound on a produce call, reconnect included; then its outcome is unknown.
pub(crate) const PRODUCE_LIMIT: Duration = Duration::from_secs(2);

/// Bound on an offset look-up.
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);

/// What a fetch may take beyond the time that the broker may wait for records.
const FETCH_MARGIN: Duration = Duration::from_millis(1500);

/// The size limit of a fetch, in bytes, which only a single larger batch exceeds: two of the largest batches, or some 1,300
/// requests with the default headers. A batch that is cut off is dropped by rskafka and fetched again. Decoding and answering
/// take six times the memory (docs/performance.md).
const FETCH_BYTES: i32 = 401_000;

/// One end of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Earliest,
    /// The last stable offset: no transaction before it is open.
    Latest,
}

/// How much one fetch asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FetchSize {
    /// Up to [`FETCH_BYTES`]; waits up to 0.5 s for the first record.
    Full,
    /// Exactly one batch: by KIP-74 the first one comes whole, however small the limit. Does not wait.
    SingleBatch,
}

/// The calls of producer and consumer. A trait, so that unit tests can script the answers.
pub(crate) trait LeaderClient: Send + Sync + 'static {
    /// Writes the records with acks = all.
    fn produce(&self, records: Vec<Record>) -> impl Future<Output = Result<(), Error>> + Send;

    /// Reads from `offset`. Returns the records and the high watermark.
    fn fetch(
        &self,
        offset: i64,
        size: FetchSize,
    ) -> impl Future<Output = Result<(Vec<ConsumedRecord>, i64), Error>> + Send;

    /// Looks up one end of the log.
    fn offset(&self, end: End) -> impl Future<Output = Result<i64, Error>> + Send;

    /// The current size limit of a batch, in bytes.
    fn batch_bytes(&self) -> usize {
        SMALL_BATCH_BYTES
    }
}

/// Connects to a partition's leader.
pub(crate) trait Connector: Send + Sync + 'static {
    type LeaderClient: LeaderClient;

    /// One bounded attempt.
    fn connect(&self) -> impl Future<Output = Result<Self::LeaderClient, Error>> + Send;
}

/// A partition of a topic in a cluster: what a producer writes to, or a consumer reads.
#[derive(Debug, Clone)]
pub struct Partition {
    cluster: Arc<Cluster>,
    topic: String,
    partition: i32,
}

/// A [`LeaderClient`] over rskafka.
#[derive(Debug)]
pub(crate) struct RskafkaLeader {
    client: PartitionClient,
    has_nodelay: AtomicBool,
}

// === impl Partition ===

impl Partition {
    /// Partition `partition` of `topic`.
    #[must_use]
    pub fn new(cluster: &Arc<Cluster>, topic: &str, partition: i32) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            topic: topic.to_owned(),
            partition,
        }
    }

    /// The number of the partition within the topic.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.partition
    }
}

impl Connector for Partition {
    type LeaderClient = RskafkaLeader;

    async fn connect(&self) -> Result<RskafkaLeader, Error> {
        let client = self.cluster.leader(&self.topic, self.partition).await?;
        let has_nodelay = AtomicBool::new(nodelay::set());
        Ok(RskafkaLeader { client, has_nodelay })
    }
}

// === impl RskafkaLeader ===

impl LeaderClient for RskafkaLeader {
    async fn produce(&self, records: Vec<Record>) -> Result<(), Error> {
        let records = records.into_iter().map(Record::into_client).collect();
        let call = self.client.produce(records, Compression::NoCompression);
        let start = Instant::now();
        let produced = with_timeout(PRODUCE_LIMIT, call, |e| Error::of_call(e, self.client.topic())).await;
        // rskafka pauses before it reconnects within a call. After a shorter call the socket is the same.
        if start.elapsed() >= backoff::INITIAL {
            self.has_nodelay.store(nodelay::is_set(), Ordering::Relaxed);
        }
        produced.map(drop)
    }

    async fn fetch(&self, offset: i64, size: FetchSize) -> Result<(Vec<ConsumedRecord>, i64), Error> {
        // rskafka asks for one byte less than the end of the range.
        let (bytes, wait_ms) = match size {
            FetchSize::Full => (1..FETCH_BYTES + 1, 500),
            FetchSize::SingleBatch => (1..2, 0),
        };
        let limit = Duration::from_millis(500) + FETCH_MARGIN;
        let call = self.client.fetch_records(offset, bytes, wait_ms);
        let (records, high_watermark) = with_timeout(limit, call, |e| Error::of_fetch(e, self.client.topic())).await?;
        Ok((records.into_iter().map(ConsumedRecord).collect(), high_watermark))
    }

    async fn offset(&self, end: End) -> Result<i64, Error> {
        let at = match end {
            End::Earliest => OffsetAt::Earliest,
            End::Latest => OffsetAt::Latest,
        };
        with_timeout(LOOKUP_LIMIT, self.client.get_offset(at), |e| {
            Error::of_call(e, self.client.topic())
        })
        .await
    }

    fn batch_bytes(&self) -> usize {
        if self.has_nodelay.load(Ordering::Relaxed) {
            LARGE_BATCH_BYTES
        } else {
            SMALL_BATCH_BYTES
        }
    }
}

//! One connection to the leader of one partition, for one role.
//!
//! Kafka answers the requests of a connection in turn, so a long poll would hold up what is behind it: a link is
//! never shared between roles.

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

/// The records of a frame on a socket without `TCP_NODELAY`, in bytes: 7.5 KiB less the batch's and the request's own bytes.
///
/// The client writes through an 8 KiB buffer: a larger frame leaves in two writes, and Nagle's algorithm holds the second
/// back until a delayed acknowledgement 40 ms later.
pub(crate) const SMALL_BATCH_BYTES: usize = 7_680 - 280;

/// The same on a socket with it: larger batches save the time of the broker and of both halves (docs/performance.md). By
/// default Kafka takes five times as much.
const LARGE_BATCH_BYTES: usize = 200_000;

/// Bound on a produce, connection included; then its result is unknown.
pub(crate) const PRODUCE_LIMIT: Duration = Duration::from_secs(2);

/// Bound on an offset look-up.
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);

/// What a fetch may take beyond the time it asked the broker to wait.
const FETCH_MARGIN: Duration = Duration::from_millis(1500);

/// What one fetch brings at most, but for one batch that is larger: two of the largest batches, some 1,300 requests with the
/// default headers. What does not fit is cut, dropped by the client and fetched again; and what fits takes six times as much
/// while it is decoded and answered (docs/performance.md).
const FETCH_BYTES: i32 = 401_000;

/// Which end of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Earliest,
    /// The last stable offset: behind it, everything is committed.
    Latest,
}

/// How much one fetch asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FetchSize {
    /// Whatever there is, up to [`FETCH_BYTES`]; waits for the first record.
    Full,
    /// Exactly one batch (KIP-74: the first batch is given whole however small the limit); does not wait.
    SingleBatch,
}

/// The calls that producer and tail make. A trait, so that their tests can script the answers.
pub(crate) trait LeaderClient: Send + Sync + 'static {
    /// Writes the records with acks = all.
    fn produce(&self, records: Vec<Record>) -> impl Future<Output = Result<(), Error>> + Send;

    /// Reads from `offset`; gives the records and the high watermark.
    fn fetch(
        &self,
        offset: i64,
        width: FetchSize,
    ) -> impl Future<Output = Result<(Vec<ConsumedRecord>, i64), Error>> + Send;

    /// Looks up one end of the log.
    fn offset(&self, end: End) -> impl Future<Output = Result<i64, Error>> + Send;

    /// How large the records of one frame may be together, for now.
    fn batch_bytes(&self) -> usize {
        SMALL_BATCH_BYTES
    }
}

/// Makes links.
pub(crate) trait Connector: Send + Sync + 'static {
    type LeaderClient: LeaderClient;

    /// One bounded attempt.
    fn connect(&self) -> impl Future<Output = Result<Self::LeaderClient, Error>> + Send;
}

/// A partition of a topic in a cluster: what an producer or a tail is about.
#[derive(Debug, Clone)]
pub struct Partition {
    cluster: Arc<Cluster>,
    topic: String,
    partition: i32,
}

/// A [`LeaderClient`] over the real client.
#[derive(Debug)]
pub(crate) struct RskafkaLeader {
    client: PartitionClient,
    /// Its socket has `TCP_NODELAY`.
    undelayed: AtomicBool,
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

    /// Its number in the topic.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.partition
    }
}

impl Connector for Partition {
    type LeaderClient = RskafkaLeader;

    async fn connect(&self) -> Result<RskafkaLeader, Error> {
        let client = self.cluster.leader(&self.topic, self.partition).await?;
        let undelayed = AtomicBool::new(nodelay::set());
        Ok(RskafkaLeader { client, undelayed })
    }
}

// === impl RskafkaLeader ===

impl LeaderClient for RskafkaLeader {
    async fn produce(&self, records: Vec<Record>) -> Result<(), Error> {
        let records = records.into_iter().map(Record::into_client).collect();
        let call = self.client.produce(records, Compression::NoCompression);
        let begun = Instant::now();
        let produced = with_timeout(PRODUCE_LIMIT, call, |e| Error::of_call(e, self.client.topic())).await;
        // Before the client connects anew within a call it pauses: after a shorter one the socket is the same.
        if begun.elapsed() >= backoff::INITIAL {
            self.undelayed.store(nodelay::is_set(), Ordering::Relaxed);
        }
        produced.map(drop)
    }

    async fn fetch(&self, offset: i64, width: FetchSize) -> Result<(Vec<ConsumedRecord>, i64), Error> {
        // The client asks for one byte less than the end of the range.
        let (bytes, wait_ms) = match width {
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
        if self.undelayed.load(Ordering::Relaxed) {
            LARGE_BATCH_BYTES
        } else {
            SMALL_BATCH_BYTES
        }
    }
}

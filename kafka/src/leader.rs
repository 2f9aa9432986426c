//! One connection to the leader of one partition, for one role.
//!
//! A broker answers the requests of a connection in turn, so a long poll would hold up what is behind it: a connection is never
//! shared between roles.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kafka_protocol::{
    error::ResponseError,
    messages::{
        ApiVersionsRequest, BrokerId, FetchRequest, ListOffsetsRequest, ProduceRequest, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::StrBytes,
};
use tokio::time::{Instant, sleep_until};

use crate::{
    cluster::{Cluster, Operation},
    connection::Connection,
    error::{Error, Failure},
    record_batch::RecordBatches,
};

/// The records of a batch, in bytes: larger batches save time of the broker and of both halves (docs/performance.md). By default
/// a broker takes five times as much (`max.message.bytes`).
pub(crate) const MAX_BATCH_BYTES: usize = 200_000;

/// Bound on a produce call; then its result is unknown.
pub(crate) const PRODUCE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bound on an offset look-up.
const OFFSET_TIMEOUT: Duration = Duration::from_secs(2);

/// Bound on the answer to a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a broker waits for a record before it answers a fetch without any.
const FETCH_WAIT: Duration = Duration::from_millis(500);

/// What a fetch may take beyond that.
const FETCH_MARGIN: Duration = Duration::from_millis(1500);

/// What one fetch brings at most, but for one batch that is larger: two of the largest batches, some 1,300 requests with the
/// default headers. More is cut off and fetched again.
const FETCH_BYTES: i32 = 401_000;

/// Which end of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Earliest,
    /// Behind the last record, whether its transaction is decided or not.
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

/// Which records a fetch sees (`isolation.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// All of them.
    ReadUncommitted = 0,
    /// Those below the first transaction that is not decided yet.
    ReadCommitted = 1,
}

/// What a fetch brought.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) batches: RecordBatches,
    /// Behind the last record that all in-sync replicas have.
    pub(crate) high_watermark: i64,
}

/// The calls that producer and consumer make. A trait, so that their tests can script the answers.
pub(crate) trait LeaderClient: Send + Sync + 'static {
    /// Writes a batch with acks = all.
    fn produce(&mut self, batch: Bytes) -> impl Future<Output = Result<(), Error>> + Send;

    /// Reads from `offset` on.
    fn fetch(
        &mut self,
        offset: i64,
        size: FetchSize,
        isolation: Isolation,
    ) -> impl Future<Output = Result<Fetched, Error>> + Send;

    /// Looks up one end of the log.
    fn offset(&mut self, end: End) -> impl Future<Output = Result<i64, Error>> + Send;

    /// Finds out whether the broker still answers on this connection.
    fn probe(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Whether it may be used for another call.
    fn is_usable(&self) -> bool;

    /// Until when the broker wants no calls (`throttle_time_ms`).
    fn throttled_until(&self) -> Option<Instant>;
}

/// Makes connections to the leader of one partition.
pub(crate) trait Connector: Send + Sync + 'static {
    type LeaderClient: LeaderClient;

    /// One bounded attempt, for a consumer or for a producer.
    fn connect(&self, operation: Operation) -> impl Future<Output = Result<Self::LeaderClient, Error>> + Send;
}

/// A partition of a topic in a cluster: what a producer or a consumer is about.
#[derive(Debug, Clone)]
pub struct Partition {
    cluster: Arc<Cluster>,
    topic: String,
    partition: i32,
}

/// A [`LeaderClient`] over a connection.
#[derive(Debug)]
pub(crate) struct PartitionLeader {
    connection: Connection,
    topic: TopicName,
    partition: i32,
    /// Its epoch when we connected.
    epoch: i32,
    throttled_until: Option<Instant>,
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

    /// The name of the topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Its number in the topic.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.partition
    }
}

impl Connector for Partition {
    type LeaderClient = PartitionLeader;

    async fn connect(&self, operation: Operation) -> Result<PartitionLeader, Error> {
        let (connection, epoch) = self.cluster.leader(&self.topic, self.partition, operation).await?;
        Ok(PartitionLeader {
            connection,
            topic: TopicName(StrBytes::from_string(self.topic.clone())),
            partition: self.partition,
            epoch,
            throttled_until: None,
        })
    }
}

// === impl PartitionLeader ===

impl PartitionLeader {
    fn throttled(&mut self, throttle_time_ms: i32) {
        let time = u64::try_from(throttle_time_ms).unwrap_or(0);
        self.throttled_until = (time > 0).then(|| Instant::now() + Duration::from_millis(time));
    }

    /// A broker holds back its answers on this connection for as long: the wait is no part of the next call's own time.
    async fn wait_while_throttled(&self) {
        if let Some(until) = self.throttled_until {
            sleep_until(until).await;
        }
    }

    /// What a code for the partition means.
    fn check(&self, api: &'static str, code: i16, message: Option<&StrBytes>) -> Result<(), Error> {
        let Some(code) = ResponseError::try_from_code(code) else {
            return Ok(());
        };
        let broker = || Arc::clone(self.connection.broker());
        Err(match code {
            ResponseError::OffsetOutOfRange => Error::OutOfRange,
            ResponseError::UnknownTopicOrPartition => Error::TopicMissing(self.topic.to_string()),
            ResponseError::NotLeaderOrFollower
            | ResponseError::FencedLeaderEpoch
            | ResponseError::UnknownLeaderEpoch => Error::NotLeader(broker()),
            ResponseError::TopicAuthorizationFailed => Error::TopicDenied {
                topic: self.topic.to_string(),
                operation: if api == "Produce" { "Write" } else { "Read" },
                user: self.connection.user(),
                is_hidden: false,
            },
            ResponseError::MessageTooLarge | ResponseError::RecordListTooLarge => Error::TooLarge { broker: broker() },
            // A timestamp whose time has not come (`message.timestamp.after.max.ms`) is taken later: our clock or the broker's
            // is wrong.
            ResponseError::InvalidRecord => Error::Refused {
                broker: broker(),
                code,
                message: message.map(ToString::to_string),
            },
            code => Error::Code {
                broker: broker(),
                api,
                code,
                message: message.map(ToString::to_string),
            },
        })
    }

    fn no_partition(&self, api: &'static str) -> Error {
        self.connection
            .error(api, Failure::Malformed("the partition is missing".into()))
    }
}

impl LeaderClient for PartitionLeader {
    async fn produce(&mut self, batch: Bytes) -> Result<(), Error> {
        self.wait_while_throttled().await;
        let partition = PartitionProduceData::default()
            .with_index(self.partition)
            .with_records(Some(batch));
        let topic = TopicProduceData::default()
            .with_name(self.topic.clone())
            .with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(millis(PRODUCE_TIMEOUT))
            .with_topic_data(vec![topic]);
        let response = self.connection.call(PRODUCE_TIMEOUT, request).await?;
        self.throttled(response.throttle_time_ms);
        let found = response
            .responses
            .first()
            .and_then(|topic| topic.partition_responses.first());
        let found = found.ok_or_else(|| self.no_partition("Produce"))?;
        self.check("Produce", found.error_code, found.error_message.as_ref())
    }

    async fn fetch(&mut self, offset: i64, size: FetchSize, isolation: Isolation) -> Result<Fetched, Error> {
        self.wait_while_throttled().await;
        let (bytes, wait) = match size {
            FetchSize::Full => (FETCH_BYTES, FETCH_WAIT),
            FetchSize::SingleBatch => (1, Duration::ZERO),
        };
        let partition = FetchPartition::default()
            .with_partition(self.partition)
            .with_fetch_offset(offset)
            // Without it a broker that is a follower now goes on answering, half a second late (KIP-320, KIP-392).
            .with_current_leader_epoch(self.epoch)
            .with_partition_max_bytes(bytes);
        let topic = FetchTopic::default()
            .with_topic(self.topic.clone())
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(millis(wait))
            .with_min_bytes(1)
            .with_max_bytes(bytes)
            .with_isolation_level(isolation as i8)
            // No fetch session (KIP-227): one partition is all there is.
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let response = self.connection.call(wait + FETCH_MARGIN, request).await?;
        self.throttled(response.throttle_time_ms);
        self.check("Fetch", response.error_code, None)?;
        let mut topics = response.responses;
        let found = topics.pop().and_then(|mut topic| topic.partitions.pop());
        let found = found.ok_or_else(|| self.no_partition("Fetch"))?;
        self.check("Fetch", found.error_code, None)?;
        Ok(Fetched {
            batches: RecordBatches::new(found.records.unwrap_or_default()),
            high_watermark: found.high_watermark,
        })
    }

    async fn offset(&mut self, end: End) -> Result<i64, Error> {
        self.wait_while_throttled().await;
        let partition = ListOffsetsPartition::default()
            .with_partition_index(self.partition)
            .with_timestamp(match end {
                End::Earliest => -2,
                End::Latest => -1,
            });
        let topic = ListOffsetsTopic::default()
            .with_name(self.topic.clone())
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(Isolation::ReadUncommitted as i8)
            .with_topics(vec![topic]);
        let response = self.connection.call(OFFSET_TIMEOUT, request).await?;
        self.throttled(response.throttle_time_ms);
        let found = response.topics.first().and_then(|topic| topic.partitions.first());
        let found = found.ok_or_else(|| self.no_partition("ListOffsets"))?;
        self.check("ListOffsets", found.error_code, None)?;
        Ok(found.offset)
    }

    async fn probe(&mut self) -> Result<(), Error> {
        self.wait_while_throttled().await;
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("pingpong"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        self.connection.call(PROBE_TIMEOUT, request).await.map(drop)
    }

    fn is_usable(&self) -> bool {
        self.connection.is_usable()
    }

    fn throttled_until(&self) -> Option<Instant> {
        self.throttled_until.filter(|until| *until > Instant::now())
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;

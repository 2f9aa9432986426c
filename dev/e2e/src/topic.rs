//! A partition of a topic, written and read without any code of the gateway or the worker.
//!
//! Reads leave out the heartbeats that workers write among the replies.

use std::{collections::BTreeMap, future::Future, time::Duration};

use chrono::Utc;
use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder,
        error::{Error, ProtocolError},
        partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling},
    },
    record::{Record, RecordAndOffset},
};

use crate::wait::{WAIT_LIMIT, until, within};

/// The key of the heartbeats of workers.
const HEARTBEAT: &[u8] = b"pingpong_worker";

/// A partition of a topic.
#[derive(Debug)]
pub struct Topic {
    name: String,
    reader: PartitionClient,
    writer: PartitionClient,
}

/// A new record.
#[must_use]
pub fn record(key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
    Record {
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers: BTreeMap::new(),
        timestamp: Utc::now(),
    }
}

// === impl Topic ===

impl Topic {
    /// Connects to partition 0 of a topic. Creates a missing topic with one partition.
    ///
    /// # Panics
    /// When Kafka does not answer.
    pub async fn open(brokers: &str, name: &str) -> Self {
        Self::partition(brokers, name, 0).await
    }

    /// Connects to a partition. Creates a missing topic with partitions up to this one.
    ///
    /// # Panics
    /// When Kafka does not answer, or the topic has fewer partitions.
    pub async fn partition(brokers: &str, name: &str, partition: i32) -> Self {
        let what = format!("topic {name} at {brokers}");
        within(&what, WAIT_LIMIT, async {
            let client = connect(brokers).await;
            make(&client, name, partition + 1).await;
            Self {
                name: name.to_owned(),
                reader: leader(&client, name, partition).await,
                writer: leader(&client, name, partition).await,
            }
        })
        .await
    }

    /// Writes a record as a batch and returns its offset.
    ///
    /// # Panics
    /// When Kafka refuses it.
    pub async fn write(&self, key: Option<&[u8]>, value: Option<&[u8]>) -> i64 {
        let offsets = self.write_batch(vec![record(key, value)]).await;
        offsets.into_iter().next().expect("one record has one offset")
    }

    /// Writes records as one batch and returns their offsets.
    ///
    /// # Panics
    /// When Kafka refuses it.
    pub async fn write_batch(&self, records: Vec<Record>) -> Vec<i64> {
        self.call(self.writer.produce(records, Compression::NoCompression))
            .await
    }

    /// Deletes all records before an offset.
    ///
    /// # Panics
    /// When Kafka refuses it.
    pub async fn delete_before(&self, offset: i64) {
        self.call(self.writer.delete_records(offset, 10_000)).await;
    }

    /// The end offset, heartbeats included.
    ///
    /// # Panics
    /// When Kafka does not response.
    pub async fn end(&self) -> i64 {
        self.call(self.reader.get_offset(OffsetAt::Latest)).await
    }

    /// Waits for `count` records from an offset on.
    ///
    /// # Panics
    /// When fewer arrive in time; the message lists them.
    pub async fn read(&self, from: i64, count: usize) -> Vec<RecordAndOffset> {
        let mut records: Vec<RecordAndOffset> = Vec::new();
        let mut offset = from;
        let read = async {
            while records.len() < count {
                let more = self.read_on(&mut offset).await;
                records.extend(more.into_iter().filter(|read| !is_heartbeat(read)));
            }
        };
        if tokio::time::timeout(WAIT_LIMIT, read).await.is_err() {
            panic!(
                "{} has not {count} records from offset {from} on: {records:?}",
                self.name
            );
        }
        records.truncate(count);
        records
    }

    /// All records up to the end offset.
    ///
    /// # Panics
    /// When Kafka does not answer in time.
    pub async fn read_all(&self) -> Vec<RecordAndOffset> {
        let mut records = self.read_everything().await;
        records.retain(|read| !is_heartbeat(read));
        records
    }

    /// The number of heartbeats up to the end offset.
    ///
    /// # Panics
    /// When Kafka does not answer in time.
    pub async fn heartbeats(&self) -> usize {
        let records = self.read_everything().await;
        records.iter().filter(|read| is_heartbeat(read)).count()
    }

    /// The value of the last heartbeat.
    ///
    /// # Panics
    /// When there is none.
    pub async fn last_heartbeat(&self) -> Vec<u8> {
        let records = self.read_everything().await;
        let last = records.into_iter().rfind(is_heartbeat).expect("there is a heartbeat");
        last.record.value.unwrap_or_default()
    }

    async fn read_everything(&self) -> Vec<RecordAndOffset> {
        let end = self.end().await;
        let mut offset = self.call(self.reader.get_offset(OffsetAt::Earliest)).await;
        let mut records = Vec::new();
        let read = async {
            while offset < end {
                records.extend(self.read_on(&mut offset).await);
            }
        };
        within(&format!("all of {}", self.name), WAIT_LIMIT, Box::pin(read)).await;
        records.retain(|read| read.offset < end);
        records
    }

    /// One fetch from an offset on, with a wait of 0.5 s; it may return nothing.
    ///
    /// # Panics
    /// When Kafka does not response.
    pub async fn read_some(&self, from: i64) -> Vec<RecordAndOffset> {
        let (records, _) = self.call(self.reader.fetch_records(from, 1..1 << 20, 500)).await;
        records
    }

    /// One fetch, after which `offset` is behind its last record.
    async fn read_on(&self, offset: &mut i64) -> Vec<RecordAndOffset> {
        let records = self.read_some(*offset).await;
        if let Some(last) = records.last() {
            *offset = last.offset + 1;
        }
        records
    }

    /// Waits for the record at an offset.
    ///
    /// # Panics
    /// When it does not arrive in time.
    pub async fn read_one(&self, offset: i64) -> Record {
        let records = self.read(offset, 1).await;
        let found = records.into_iter().next().expect("one was read");
        assert_eq!(found.offset, offset, "{}", self.name);
        found.record
    }

    /// Waits for the reply with this index; 0 is the first.
    ///
    /// # Panics
    /// When it does not arrive in time.
    pub async fn reply(&self, index: usize) -> Record {
        let replies = self.read(0, index + 1).await;
        replies.into_iter().next_back().expect("they were read").record
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> T {
        match within(&format!("a response of Kafka about {}", self.name), WAIT_LIMIT, call).await {
            Ok(response) => response,
            Err(error) => panic!("{}: {error}", self.name),
        }
    }
}

fn is_heartbeat(read: &RecordAndOffset) -> bool {
    read.record.key.as_deref() == Some(HEARTBEAT)
}

/// The names of all topics with their numbers of partitions.
///
/// # Panics
/// When Kafka does not response.
pub async fn list(brokers: &str) -> BTreeMap<String, usize> {
    let listed = within("a list of topics", WAIT_LIMIT, async {
        connect(brokers).await.list_topics().await
    })
    .await;
    let topics = listed.expect("Kafka lists its topics");
    topics
        .into_iter()
        .map(|topic| (topic.name, topic.partitions.len()))
        .collect()
}

/// Creates a topic and waits for the leaders of its partitions.
///
/// # Panics
/// When Kafka refuses it.
pub async fn create(brokers: &str, name: &str, partitions: i32) {
    within("a topic", WAIT_LIMIT, async {
        let client = connect(brokers).await;
        make(&client, name, partitions).await;
        for partition in 0..partitions {
            leader(&client, name, partition).await;
        }
    })
    .await;
}

/// Deletes a topic.
///
/// # Panics
/// When Kafka refuses it.
pub async fn delete(brokers: &str, name: &str) {
    within("the deletion of a topic", WAIT_LIMIT, async {
        let client = connect(brokers).await;
        let controller = client.controller_client().expect("the cluster has a controller");
        controller
            .delete_topic(name, 10_000)
            .await
            .expect("the topic can be deleted");
    })
    .await;
}

async fn connect(brokers: &str) -> Client {
    let builder = ClientBuilder::new(brokers.split(',').map(str::to_owned).collect())
        .client_id("e2e")
        .backoff_config(BackoffConfig {
            init_backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(200),
            base: 2.0,
            deadline: Some(WAIT_LIMIT),
        });
    builder.build().await.expect("Kafka responses")
}

/// Waits for the leader of a partition and connects to it.
async fn leader(client: &Client, topic: &str, partition: i32) -> PartitionClient {
    // The metadata of a broker may lack a new partition, and the client caches them until the list is requested.
    until(&format!("the leader of {topic} {partition}"), WAIT_LIMIT, async || {
        client.list_topics().await.ok()?;
        let found = client.partition_client(topic, partition, UnknownTopicHandling::Error);
        found.await.ok()
    })
    .await
}

async fn make(client: &Client, name: &str, partitions: i32) {
    let controller = client.controller_client().expect("the cluster has a controller");
    match controller.create_topic(name, partitions, -1, 10_000).await {
        // Gateway and worker create their topics as well.
        Ok(())
        | Err(Error::ServerError {
            protocol_error: ProtocolError::TopicAlreadyExists,
            ..
        }) => {}
        Err(error) => panic!("{name}: {error}"),
    }
}

//! A partition of a topic as Kafka has it: records written and read without any code of the gateway or the worker.
//!
//! Workers announce themselves among the replies, whenever it is time. Whoever reads replies does not see that, unless
//! he asks for it.

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

use crate::wait::{SOON, until, within};

/// The key of the records by which workers say that they are there.
const ANNOUNCEMENT: &[u8] = b"pingpong_worker";

/// A partition of a topic.
#[derive(Debug)]
pub struct Topic {
    name: String,
    reader: PartitionClient,
    writer: PartitionClient,
}

/// A record to be written.
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
    /// Connects to partition 0 of a topic, and creates it with one partition if it is not there.
    ///
    /// # Panics
    /// When Kafka is not there.
    pub async fn open(brokers: &str, name: &str) -> Self {
        Self::partition(brokers, name, 0).await
    }

    /// Connects to a partition, and creates the topic with as many as it takes if it is not there.
    ///
    /// # Panics
    /// When Kafka is not there, or the topic has too few.
    pub async fn partition(brokers: &str, name: &str, partition: i32) -> Self {
        let what = format!("topic {name} at {brokers}");
        within(&what, SOON, async {
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

    /// Writes a record as a batch of its own and gives its offset.
    ///
    /// # Panics
    /// When Kafka does not take it.
    pub async fn write(&self, key: Option<&[u8]>, value: Option<&[u8]>) -> i64 {
        let offsets = self.write_batch(vec![record(key, value)]).await;
        offsets.into_iter().next().expect("one record has one offset")
    }

    /// Writes records as one batch.
    ///
    /// # Panics
    /// When Kafka does not take it.
    pub async fn write_batch(&self, records: Vec<Record>) -> Vec<i64> {
        self.call(self.writer.produce(records, Compression::NoCompression))
            .await
    }

    /// Deletes all records before an offset.
    ///
    /// # Panics
    /// When Kafka does not.
    pub async fn delete_before(&self, offset: i64) {
        self.call(self.writer.delete_records(offset, 10_000)).await;
    }

    /// The offset behind the last record, announcements included.
    ///
    /// # Panics
    /// When Kafka does not answer.
    pub async fn end(&self) -> i64 {
        self.call(self.reader.get_offset(OffsetAt::Latest)).await
    }

    /// Waits for so many records from an offset on, announcements left out.
    ///
    /// # Panics
    /// When they do not come soon; says which did.
    pub async fn read(&self, from: i64, count: usize) -> Vec<RecordAndOffset> {
        let mut records: Vec<RecordAndOffset> = Vec::new();
        let mut offset = from;
        let read = async {
            while records.len() < count {
                let more = self.read_on(&mut offset).await;
                records.extend(more.into_iter().filter(|it| !is_announcement(it)));
            }
        };
        if tokio::time::timeout(SOON, read).await.is_err() {
            panic!(
                "{} has not {count} records from offset {from} on: {records:?}",
                self.name
            );
        }
        records.truncate(count);
        records
    }

    /// All records that are there now, announcements left out.
    ///
    /// # Panics
    /// When Kafka does not give them soon.
    pub async fn read_all(&self) -> Vec<RecordAndOffset> {
        let mut records = self.read_everything().await;
        records.retain(|it| !is_announcement(it));
        records
    }

    /// How many announcements are there now.
    ///
    /// # Panics
    /// When Kafka does not say soon.
    pub async fn announcements(&self) -> usize {
        let records = self.read_everything().await;
        records.iter().filter(|it| is_announcement(it)).count()
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
        within(&format!("all of {}", self.name), SOON, Box::pin(read)).await;
        records.retain(|it| it.offset < end);
        records
    }

    /// What is there from an offset on, after half a second at the latest, which may be nothing.
    ///
    /// # Panics
    /// When Kafka does not answer.
    pub async fn read_some(&self, from: i64) -> Vec<RecordAndOffset> {
        let (records, _) = self.call(self.reader.fetch_records(from, 1..1 << 20, 500)).await;
        records
    }

    /// The same, and moves the offset on.
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
    /// When it does not come soon.
    pub async fn read_one(&self, offset: i64) -> Record {
        let records = self.read(offset, 1).await;
        let found = records.into_iter().next().expect("one was read");
        assert_eq!(found.offset, offset, "{}", self.name);
        found.record
    }

    /// Waits for the reply number `index`, where 0 is the first of all.
    ///
    /// # Panics
    /// When it does not come soon.
    pub async fn reply(&self, index: usize) -> Record {
        let replies = self.read(0, index + 1).await;
        replies.into_iter().next_back().expect("they were read").record
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> T {
        match within(&format!("an answer of Kafka about {}", self.name), SOON, call).await {
            Ok(answer) => answer,
            Err(error) => panic!("{}: {error}", self.name),
        }
    }
}

fn is_announcement(it: &RecordAndOffset) -> bool {
    it.record.key.as_deref() == Some(ANNOUNCEMENT)
}

/// The names of all topics, and how many partitions each has.
///
/// # Panics
/// When Kafka does not answer.
pub async fn list(brokers: &str) -> BTreeMap<String, usize> {
    let listed = within("a list of topics", SOON, async {
        connect(brokers).await.list_topics().await
    })
    .await;
    let topics = listed.expect("Kafka lists its topics");
    topics.into_iter().map(|it| (it.name, it.partitions.len())).collect()
}

/// Creates a topic with so many partitions, and waits for their leaders.
///
/// # Panics
/// When Kafka does not.
pub async fn create(brokers: &str, name: &str, partitions: i32) {
    within("a topic", SOON, async {
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
/// When Kafka does not.
pub async fn delete(brokers: &str, name: &str) {
    within("the end of a topic", SOON, async {
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
            deadline: Some(SOON),
        });
    builder.build().await.expect("Kafka answers")
}

/// Waits for the leader of a partition and connects to it.
async fn leader(client: &Client, topic: &str, partition: i32) -> PartitionClient {
    // A broker may not have heard yet of a partition that was just made. The client keeps what it has heard until it is told
    // to ask again, and to retry by itself it does not.
    until(&format!("the leader of {topic} {partition}"), SOON, async || {
        client.list_topics().await.ok()?;
        let found = client.partition_client(topic, partition, UnknownTopicHandling::Error);
        found.await.ok()
    })
    .await
}

async fn make(client: &Client, name: &str, partitions: i32) {
    let controller = client.controller_client().expect("the cluster has a controller");
    match controller.create_topic(name, partitions, -1, 10_000).await {
        // The processes under test make theirs, too.
        Ok(())
        | Err(Error::ServerError {
            protocol_error: ProtocolError::TopicAlreadyExists,
            ..
        }) => {}
        Err(error) => panic!("{name}: {error}"),
    }
}

//! A script: calls to one engine, and its recorded responses.

use std::{fmt::Debug, future::Future, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use e2e::{
    engine::Engine,
    topic::{list, record},
    wait::{WAIT_LIMIT, until_eq, within},
};
use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder,
        error::{Error, ServerErrorResponse},
        partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};
use uuid::Uuid;

/// A fetch size above that of every response here.
pub(crate) const MUCH: i32 = 1 << 20;

/// The calls and the responses of one engine.
pub(crate) type Notes = Vec<(String, String)>;

/// One engine, the topic of one script, and the responses so far.
pub(crate) struct Script {
    pub(crate) brokers: String,
    pub(crate) client: Client,
    /// The same on both engines.
    pub(crate) topic: String,
    /// The time of the first record, the same on both engines.
    pub(crate) began: DateTime<Utc>,
    pub(crate) notes: Notes,
}

/// Runs a script on both engines and compares the responses.
pub(crate) async fn compare(built_in: &Engine, kafka: &Engine, script: impl AsyncFn(&mut Script)) {
    let topic = format!("same-{}", Uuid::new_v4().simple());
    let began = Utc::now();
    let responses = async |engine: &Engine| {
        let mut running = Script::begin(engine.brokers().await, &topic, began).await;
        Box::pin(script(&mut running)).await;
        running.notes
    };
    let (built_in, kafka) = tokio::join!(responses(built_in), responses(kafka));
    let differences: Vec<_> = built_in
        .iter()
        .zip(&kafka)
        .filter(|(ours, theirs)| ours != theirs)
        .collect();
    assert!(
        differences.is_empty(),
        "the built-in broker (left) differs from Kafka (right): {differences:#?}"
    );
    assert_eq!(built_in.len(), kafka.len());
}

// === impl Script ===

impl Script {
    async fn begin(brokers: &str, topic: &str, began: DateTime<Utc>) -> Self {
        Self {
            brokers: brokers.to_owned(),
            client: connect(brokers).await,
            topic: topic.to_owned(),
            began,
            notes: Notes::new(),
        }
    }

    /// Records the response to a call.
    pub(crate) async fn note<T: Debug>(&mut self, what: &str, call: impl Future<Output = Result<T, Error>>) {
        let response = within(what, WAIT_LIMIT, call).await;
        self.notes.push((what.to_owned(), reduced(response)));
    }

    /// Records a response that is a text already.
    pub(crate) fn say(&mut self, what: &str, response: &str) {
        self.notes.push((what.to_owned(), response.replace(&self.topic, "…")));
    }

    pub(crate) async fn create(&mut self, name: &str, partitions: i32, replicas: i16) {
        let controller = self.client.controller_client().unwrap();
        let what = format!("create {name:?}, {partitions} partitions, {replicas} replicas");
        self.note(&what, controller.create_topic(name, partitions, replicas, 10_000))
            .await;
    }

    pub(crate) async fn delete(&mut self, name: &str) {
        let controller = self.client.controller_client().unwrap();
        self.note(&format!("delete {name:?}"), controller.delete_topic(name, 10_000))
            .await;
    }

    /// Waits until the metadata have this number of partitions of the topic; 0 for a deleted one.
    pub(crate) async fn until_known(&self, partitions: usize) {
        until_eq("the partitions of the topic", WAIT_LIMIT, partitions, async || {
            list(&self.brokers).await.get(&self.topic).copied().unwrap_or_default()
        })
        .await;
    }

    /// A new topic, and a client of its partition 0.
    pub(crate) async fn fresh(&mut self) -> PartitionClient {
        let name = self.topic.clone();
        self.create(&name, 1, -1).await;
        self.until_known(1).await;
        self.partition(0).await
    }

    /// A client of a partition that exists. Its calls fail when the partition is deleted.
    pub(crate) async fn partition(&self, index: i32) -> PartitionClient {
        let retrying = UnknownTopicHandling::Retry;
        let found = self
            .client
            .partition_client(&self.topic, index, retrying)
            .await
            .unwrap();
        // The leader has learnt of it when it responses.
        within("the leader", WAIT_LIMIT, found.get_offset(OffsetAt::Latest))
            .await
            .unwrap();
        let client = self
            .client
            .partition_client(&self.topic, index, UnknownTopicHandling::Error);
        client.await.unwrap()
    }

    pub(crate) async fn produce(&mut self, to: &PartitionClient, what: &str, records: Vec<Record>, codec: Compression) {
        self.note(what, to.produce(records, codec)).await;
    }

    pub(crate) async fn fetch(&mut self, of: &PartitionClient, what: &str, offset: i64) {
        let what = format!("fetch {what} from {offset}");
        self.note(&what, of.fetch_records(offset, 1..MUCH, 50)).await;
    }

    pub(crate) async fn ends(&mut self, of: &PartitionClient, what: &str) {
        for at in [OffsetAt::Earliest, OffsetAt::Latest] {
            self.note(&format!("{at:?} {what}"), of.get_offset(at)).await;
        }
    }

    /// The offsets of timestamps around those of the records of [`Script::at`].
    pub(crate) async fn times(&mut self, of: &PartitionClient, what: &str) {
        for ms in [-1_000_000, -1, 0, 1, 9, 10, 11, 20, 25, 30, 31, 1_000, 1_000_000] {
            let at = OffsetAt::Timestamp(self.time(ms));
            self.note(&format!("time {ms} {what}"), of.get_offset(at)).await;
        }
    }

    pub(crate) fn time(&self, ms: i64) -> DateTime<Utc> {
        self.began + TimeDelta::milliseconds(ms)
    }

    /// A record of this many ms after the first one.
    pub(crate) fn at(&self, ms: i64) -> Record {
        Record {
            timestamp: self.time(ms),
            ..record(Some(format!("key {ms}").as_bytes()), Some(b"value"))
        }
    }
}

async fn connect(brokers: &str) -> Client {
    let builder = ClientBuilder::new(brokers.split(',').map(str::to_owned).collect())
        .client_id("e2e")
        .backoff_config(BackoffConfig {
            init_backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(200),
            base: 2.0,
            deadline: Some(WAIT_LIMIT / 2),
        });
    builder.build().await.unwrap()
}

/// The value, or the error code.
///
/// # Panics
/// On an error without a code, such as a closed connection.
fn reduced<T: Debug>(response: Result<T, Error>) -> String {
    match response {
        Ok(value) => format!("{value:?}"),
        Err(Error::ServerError {
            protocol_error,
            response,
            ..
        }) => match response {
            Some(ServerErrorResponse::PartitionFetchState {
                high_watermark,
                last_stable_offset,
            }) => format!("{protocol_error:?}, {high_watermark}, {last_stable_offset:?}"),
            _ => format!("{protocol_error:?}"),
        },
        // The client reports a partition that is missing in the metadata.
        Err(Error::InvalidResponse(text)) => text,
        Err(error) => panic!("{error}"),
    }
}

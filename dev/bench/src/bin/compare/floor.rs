//! Kafka alone: how long the two records of a request take with the bare client, one after the other.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use chrono::Utc;
use hdrhistogram::Histogram;
use rskafka::{
    client::{
        ClientBuilder,
        partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};
use tokio::time::{Instant, timeout};

use crate::topic;

/// The topics of the two records.
const TOPICS: [&str; 2] = ["floor-ping", "floor-pong"];

/// On one of its four calls.
const LIMIT: Duration = Duration::from_secs(5);

/// The way of a record through a topic; each direction has a connection of its own.
struct Way {
    produce: PartitionClient,
    fetch: PartitionClient,
    offset: i64,
}

/// Produce, fetch, produce, fetch; again and again for `measured` after a `warmup`. Gives the latency in microseconds.
pub(crate) async fn measure(brokers: &str, warmup: Duration, measured: Duration) -> Result<Histogram<u64>> {
    let [ping, pong] = TOPICS;
    let mut there = Way::open(brokers, ping).await?;
    let mut back = Way::open(brokers, pong).await?;
    let mut latency = Histogram::new(3)?;
    let begin = Instant::now();
    while begin.elapsed() < warmup + measured {
        let sent = Instant::now();
        there.travel().await?;
        back.travel().await?;
        if sent >= begin + warmup {
            latency.saturating_record(u64::try_from(sent.elapsed().as_micros())?);
        }
    }
    Ok(latency)
}

// === impl Way ===

impl Way {
    async fn open(brokers: &str, topic: &str) -> Result<Self> {
        let client = ClientBuilder::new(vec![brokers.to_owned()]).build().await?;
        topic::create(&client, topic, 1).await?;
        let produce = client.partition_client(topic, 0, UnknownTopicHandling::Retry).await?;
        let fetch = client.partition_client(topic, 0, UnknownTopicHandling::Retry).await?;
        let offset = fetch.get_offset(OffsetAt::Latest).await?;
        Ok(Self { produce, fetch, offset })
    }

    async fn travel(&mut self) -> Result<()> {
        // As large as the contract's.
        let record = Record {
            key: Some(vec![b'k'; 36]),
            value: Some(vec![b'v'; 77]),
            headers: BTreeMap::new(),
            timestamp: Utc::now(),
        };
        timeout(LIMIT, self.produce.produce(vec![record], Compression::NoCompression)).await??;
        let (records, _) = timeout(LIMIT, self.fetch.fetch_records(self.offset, 1..1 << 20, 500)).await??;
        self.offset = records.last().context("an acknowledged record is not there")?.offset + 1;
        Ok(())
    }
}

//! Conformance: the built-in broker and Apache Kafka answer the same calls equally.
//!
//! - A script of calls runs on both engines and records every response: values, and error codes without their texts.
//! - The records are compared. No test here states an expected response, Kafka defines it.

pub(crate) mod client;
mod groups;
mod offsets;
mod script;

use std::time::Duration;

use e2e::{
    engine::Engine,
    environment::has,
    fixture::Fixture,
    kcat,
    topic::{create, record},
    wait::{WAIT_LIMIT, until_eq},
};
use libtest_mimic::Completion;
use rskafka::{
    client::partition::{
        Compression::{Gzip, NoCompression, Snappy},
        OffsetAt, PartitionClient, UnknownTopicHandling,
    },
    record::Record,
};
use tokio::time::{Instant, sleep};

use self::script::{MUCH, Script, compare};
pub(crate) use self::{groups::groups_match, offsets::offsets_match};

/// A fetch wait that is longer than a test: a fetch that returns was woken.
const LONG_MS: i32 = 150_000;

pub(crate) async fn topics_match(built_in: &Engine, kafka: &Engine) {
    compare(built_in, kafka, async |script| {
        let name = script.topic.clone();
        let listed = async |script: &mut Script, what: &str| {
            let mut ours = script.client.list_topics().await.unwrap();
            ours.retain(|topic| topic.name.starts_with(&script.topic));
            ours.sort_by(|one, other| one.name.cmp(&other.name));
            script.notes.push((format!("list {what}"), format!("{ours:?}")));
        };

        listed(script, "without it").await;
        let unknown = script
            .client
            .partition_client(&name, 0, UnknownTopicHandling::Error)
            .await;
        script.note("a missing topic", async { unknown }).await;
        // A topic that the request created would be listed by now.
        sleep(Duration::from_millis(200)).await;
        listed(script, "after a request for it").await;

        for wrong in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
            script.create(wrong, 1, -1).await;
            let unknown = script
                .client
                .partition_client(wrong, 0, UnknownTopicHandling::Error)
                .await;
            script.note(&format!("a leader in {wrong:?}"), async { unknown }).await;
        }
        for (partitions, replicas) in [(0, -1), (-2, -1), (1, 0), (1, -2), (1, 100), (0, 100), (0, 0), (2, 1)] {
            script.create(&name, partitions, replicas).await;
        }
        script.until_known(2).await;
        for (partitions, replicas) in [(2, -1), (0, -1), (1, 100)] {
            script.create(&name, partitions, replicas).await;
        }
        listed(script, "with it").await;
        let missing = script
            .client
            .partition_client(&name, 2, UnknownTopicHandling::Error)
            .await;
        script.note("a partition that is not there", async { missing }).await;

        // Metric names have `_` for `.`, so these two collide.
        script.create(&format!("{name}.a"), 1, -1).await;
        script.create(&format!("{name}_a"), 1, -1).await;
        script.create(&format!("{name}.a"), 1, -1).await;
        script.create(&format!("{name}-a"), 1, -1).await;

        script.delete(&format!("{name}-other")).await;
        script.delete("a b").await;
        for suffix in [".a", "-a", ""] {
            script.delete(&format!("{name}{suffix}")).await;
        }
        script.until_known(0).await;
        listed(script, "of what is left").await;
        script.delete(&name).await;
    })
    .await;
}

pub(crate) async fn records_match(built_in: &Engine, kafka: &Engine) {
    compare(built_in, kafka, async |script| {
        let partition = script.fresh().await;
        let began = script.began;
        let plain = |key: Option<&[u8]>, value: Option<&[u8]>| Record {
            timestamp: began,
            ..record(key, value)
        };
        let mut with_headers = plain(Some(b"k"), Some(b"v"));
        with_headers.headers = [("name", "value"), ("", ""), ("ä", "\0\u{1f}")]
            .map(|(name, value)| (name.to_owned(), value.into()))
            .into();
        let all = [
            ("null key", plain(None, Some(b"value"))),
            ("null value", plain(Some(b"key"), None)),
            ("nulls", plain(None, None)),
            ("nothing", plain(Some(b""), Some(b""))),
            ("headers", with_headers),
            ("bytes", plain(Some(&[0xff, 0, 0xfe]), Some(&[7; 50_000]))),
        ];

        for (what, one) in &all {
            script.produce(&partition, what, vec![one.clone()], NoCompression).await;
        }
        for codec in [NoCompression, Gzip, Snappy] {
            let batch = all.iter().map(|(_, one)| one.clone()).collect();
            script
                .produce(&partition, &format!("a batch, {codec:?}"), batch, codec)
                .await;
        }
        for offset in 0..=24 {
            script.fetch(&partition, "records", offset).await;
        }
        script.ends(&partition, "of records").await;

        // The largest record, a batch that is too large, and records that are too large.
        let sizes: [&[usize]; 4] = [&[1_000_000], &[600_000, 600_000], &[1 << 20], &[2 << 20]];
        for sizes in sizes {
            let large = sizes.iter().map(|size| plain(None, Some(&vec![0; *size]))).collect();
            script
                .produce(&partition, &format!("{sizes:?} bytes"), large, NoCompression)
                .await;
        }
        let packed = vec![plain(None, Some(&vec![0; 2 << 20]))];
        script
            .produce(&partition, "2 MiB that are less when packed", packed, Gzip)
            .await;
        script.ends(&partition, "after large ones").await;
    })
    .await;
}

pub(crate) async fn fetches_match(built_in: &Engine, kafka: &Engine) {
    compare(built_in, kafka, async |script| {
        let partition = script.fresh().await;
        for offset in [0, 1, -1, -5] {
            script.fetch(&partition, "an empty log", offset).await;
        }
        for n in 0..4 {
            let batch = (0..3).map(|record| script.at(n * 3 + record)).collect();
            script.produce(&partition, "three", batch, NoCompression).await;
        }

        for offset in [i64::MIN, -2, -1, 0, 4, 11, 12, 13, i64::MAX] {
            script.fetch(&partition, "twelve in batches of three", offset).await;
        }
        // One batch of any size (KIP-74), or as many as fit.
        for max in [2, 100, 200, 300, 400, 1_000] {
            for offset in [0, 3, 4, 11, 12] {
                let what = format!("fetch less than {max} bytes from {offset}");
                script.note(&what, partition.fetch_records(offset, 1..max, 50)).await;
            }
        }
        script.note("fetch no bytes", partition.fetch_records(0, 0..1, 0)).await;
        script
            .note("fetch without a wait", partition.fetch_records(12, 1..MUCH, 0))
            .await;

        let began = Instant::now();
        let more = partition.fetch_records(0, MUCH / 2..MUCH, 300);
        script.note("more than there is", more).await;
        // Less than 300 ms: timers have a resolution.
        assert!(began.elapsed() >= Duration::from_millis(250), "{}", script.brokers);

        let began = Instant::now();
        let reader = script.partition(0).await;
        let record = script.at(12);
        let (polled, produced) = tokio::join!(reader.fetch_records(12, 1..MUCH, LONG_MS), async {
            sleep(Duration::from_millis(300)).await;
            partition.produce(vec![record], NoCompression).await
        });
        script.note("a record that wakes a reader", async { produced }).await;
        script.note("the reader woken by it", async { polled }).await;
        let past_the_end = partition.fetch_records(14, 1..MUCH, LONG_MS);
        script.note("no wait for an error", past_the_end).await;
        assert!(began.elapsed() < WAIT_LIMIT, "{}", script.brokers);
    })
    .await;
}

pub(crate) async fn timestamps_and_deletions_match(built_in: &Engine, kafka: &Engine) {
    compare(built_in, kafka, async |script| {
        let partition = script.fresh().await;
        script.ends(&partition, "of an empty log").await;
        script.times(&partition, "in an empty log").await;
        for offset in [0, -1, 1] {
            let what = format!("delete below {offset} in an empty log");
            script.note(&what, partition.delete_records(offset, 10_000)).await;
        }

        // In order, equal, and out of order.
        for times in [&[0, 10, 10][..], &[30], &[20, 25, 1_000]] {
            let batch = times.iter().map(|ms| script.at(*ms)).collect();
            script
                .produce(&partition, &format!("{times:?}"), batch, NoCompression)
                .await;
        }
        script.ends(&partition, "of seven").await;
        script.times(&partition, "in seven").await;

        // Inside a batch, back, closed_port, beyond the end, to the end of a batch, and all.
        for offset in [2, 1, -2, 8, 3, 5, 7, -1] {
            let what = format!("delete below {offset} of seven");
            script.note(&what, partition.delete_records(offset, 10_000)).await;
            let after = format!("after the deletion below {offset}");
            script.ends(&partition, &after).await;
            script.times(&partition, &after).await;
            for from in [0, 1, 2, 3, 5, 6, 7, 8] {
                script.fetch(&partition, &after, from).await;
            }
        }
        let next = vec![script.at(30)];
        script.produce(&partition, "one more", next, NoCompression).await;
        script.fetch(&partition, "what follows a deletion", 7).await;
        script.times(&partition, "in what follows a deletion").await;

        // Known difference, not compared: within a compressed batch the built-in broker returns the first record.
        let packed = [2_000, 2_001, 2_002].map(|ms| script.at(ms)).to_vec();
        script.produce(&partition, "a packed batch", packed, Gzip).await;
        for ms in [1_999, 2_000, 2_003] {
            let at = OffsetAt::Timestamp(script.time(ms));
            script
                .note(&format!("time {ms} around a packed batch"), partition.get_offset(at))
                .await;
        }
    })
    .await;
}

pub(crate) async fn deleted_topics_match(built_in: &Engine, kafka: &Engine) {
    compare(built_in, kafka, async |script| {
        let name = script.topic.clone();
        script.create(&name, 2, -1).await;
        script.until_known(2).await;
        let partitions = [script.partition(0).await, script.partition(1).await];
        for partition in &partitions {
            let batch = vec![script.at(0), script.at(1)];
            script.produce(partition, "two", batch, NoCompression).await;
        }

        script.delete(&name).await;
        script.until_known(0).await;
        for partition in &partitions {
            // The metadata change before the partition is gone.
            until_eq("the partition is gone", WAIT_LIMIT, true, async || {
                partition.get_offset(OffsetAt::Latest).await.is_err()
            })
            .await;
            calls(script, partition, "after the deletion").await;
        }

        script.create(&name, 1, -1).await;
        script.until_known(1).await;
        script.partition(0).await;
        for partition in &partitions {
            calls(script, partition, "after it was made again").await;
        }
    })
    .await;
}

/// Every call of a partition once.
async fn calls(script: &mut Script, partition: &PartitionClient, when: &str) {
    script.fetch(partition, when, 0).await;
    script.fetch(partition, when, 2).await;
    script.ends(partition, when).await;
    script.times(partition, when).await;
    script
        .note(&format!("delete records {when}"), partition.delete_records(1, 10_000))
        .await;
    let record = vec![script.at(0)];
    script
        .produce(partition, &format!("produce {when}"), record, NoCompression)
        .await;
    script.fetch(partition, "what was produced", 0).await;
}

/// librdkafka with every codec.
pub(crate) async fn kcat_reads_what_it_wrote_to_the_built_in_broker(engine: &Engine) -> Completion {
    if !has("kcat", "-V") {
        return Completion::ignored_with("kcat is not installed");
    }
    let fixture = Fixture::shared(engine).await;
    let topic = fixture.ping_name();
    create(fixture.brokers(), topic, 1).await;
    let names = ["none", "gzip", "snappy", "lz4", "zstd"];
    let mut lines = String::new();
    for codec in names {
        // librdkafka sends a batch uncompressed when the compressed form is longer.
        let batch: String = (0..20).map(|n| format!("{codec} {n}:the value {n}\n")).collect();
        kcat::run(
            fixture.brokers(),
            &["-P", "-t", topic, "-p", "0", "-K", ":", "-z", codec],
            &batch,
        )
        .await;
        lines.push_str(&batch);
    }

    let numbered: String = (0..)
        .zip(lines.lines())
        .map(|(n, line)| format!("{n} {line}\n"))
        .collect();
    assert_eq!(kcat::read(fixture.brokers(), topic, "%o %k:%s\n").await, numbered);
    let listed = kcat::run(fixture.brokers(), &["-L", "-t", topic], "").await;
    assert!(
        listed.contains(&format!(
            "topic \"{topic}\" with 1 partitions:\n    partition 0, leader "
        )),
        "{listed}"
    );
    Completion::Completed
}

//! Request records that cannot be processed: skipped, counted, logged and committed.

use e2e::{
    engine::Engine,
    environment::has,
    fixture::Fixture,
    kcat,
    topic::{Topic, record},
};
use libtest_mimic::Completion;
use serde_json::json;

use crate::{coordinator::Coordinator, load::reply_ids, offsets::DEFAULT_GROUP};

fn valid(id: &str) -> Vec<u8> {
    json!({ "id": id, "name": "n", "value": "v" }).to_string().into_bytes()
}

/// Waits for the replies to these requests, in this order, and checks that there are no others.
async fn assert_replies(pong: &Topic, ids: &[String]) {
    pong.read(0, ids.len()).await;
    assert_eq!(reply_ids(pong).await, ids);
}

pub(crate) async fn invalid_requests_are_skipped_counted_and_logged(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let worker = fixture.worker().ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());

    let escapes = [&b"\x1b[31mred\nWARN forged: line\r\xff"[..], &[b'x'; 5_000]].concat();
    let invalid = [
        Some(escapes.clone()),
        Some(Vec::new()),
        Some(br#"{"id":7,"name":"b","value":"c"}"#.to_vec()),
        Some(b"{\"id\":\"a\",\"name\":\"b\",\"value\":\"\xff\"}".to_vec()),
        None,
        Some(vec![b'['; 100_000]),
        Some(vec![b'x'; 1_000_000]),
    ];
    let mut ids = Vec::new();
    for (n, value) in invalid.iter().enumerate() {
        let id = format!("after {n}");
        ping.write_batch(vec![
            record(Some(b"any key"), value.as_deref()),
            record(None, Some(&valid(&id))),
        ])
        .await;
        ids.push(id);
    }
    assert_replies(&pong, &ids).await;

    worker
        .until_metric("worker_replies_total{fate=\"acknowledged\"}", 7)
        .await;
    let skipped = "worker_records_skipped_total{reason=\"bad_value\"}";
    assert_eq!(worker.metric(skipped).await, 7);
    assert_eq!(worker.metric("worker_requests_total").await, 14);
    worker.until_ready().await;
    let line = worker.until_logged("skipping a request").await;
    assert!(line.contains(r"\x1b[31mred\nWARN forged: line\r\xffxxx"), "{line}");
    assert!(line.contains(&format!("({} bytes)", escapes.len())), "{line}");
    assert!(line.contains("offset=0"), "{line}");
    assert!(line.len() < 1_000, "{line}");
    let log = worker.log();
    let mut forged = log
        .iter()
        .filter(|line| line.starts_with("WARN forged") || line.contains('\x1b'));
    assert_eq!(forged.next(), None);
}

pub(crate) async fn every_codec_is_read_and_committed(engine: &Engine) -> Completion {
    if !has("kcat", "-V") {
        return Completion::ignored_with("kcat, which writes these batches, is not installed");
    }
    let fixture = Fixture::shared(engine).await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    // This worker commits offset 0. The next one resumes there and reads all batches in one fetch.
    drop(fixture.worker().ready().await);
    let lines = |name: &str| -> Vec<_> { (0..20).map(|n| valid(&format!("{name} {n}"))).collect() };
    let write = async |name: &str, args: &[&str]| {
        kcat::write(fixture.brokers(), fixture.ping_name(), args, &lines(name)).await;
    };
    let mut ids = Vec::new();
    // The last is a header without a value.
    for args in [
        ["-z", "gzip"],
        ["-z", "snappy"],
        ["-z", "zstd"],
        ["-z", "lz4"],
        ["-H", "name"],
    ] {
        let name = args.concat();
        write(&name, &args).await;
        ids.extend((0..20).map(|n| format!("{name} {n}")));
    }

    let worker = fixture.worker().ready().await;

    assert_replies(&pong, &ids).await;
    worker
        .until_metric("worker_kafka_tail_records_undecodable_total", 0)
        .await;
    worker.until_ready().await;
    let end = ping.end().await;
    let mut coordinator = Coordinator::of(&fixture, DEFAULT_GROUP).await;
    coordinator.until_position(0, end).await;
    Completion::Completed
}

//! Records that nobody can make sense of, between good ones, on either topic.

use e2e::{
    engine::Engine,
    environment::has,
    http::get,
    kcat,
    process::Process,
    scene::Scene,
    topic::{Topic, record},
};
use libtest_mimic::Completion;
use serde_json::json;
use uuid::Uuid;

fn good(id: &str) -> Vec<u8> {
    json!({ "id": id, "name": "n", "value": "v" }).to_string().into_bytes()
}

/// Waits for the replies to these ids, in this order, and for nothing else.
async fn only_these_are_answered(pong: &Topic, ids: &[String]) {
    let replies = pong.read(0, ids.len()).await;
    let keys: Vec<_> = replies
        .into_iter()
        .map(|it| String::from_utf8(it.record.key.unwrap()).unwrap())
        .collect();
    assert_eq!(keys, ids);
    assert_eq!(pong.read_all().await.len(), ids.len());
}

fn bad_requests() -> Vec<Option<Vec<u8>>> {
    let mut bad: Vec<_> = [
        &b"Ping"[..],
        b"",
        b"\0\xff\x80",
        b"null",
        b"{}",
        br#"["a","b","c"]"#,
        br#"{"id":"a","name":"b"}"#,
        br#"{"id":"a","name":"b","value":null}"#,
        br#"{"id":7,"name":"b","value":"c"}"#,
        br#"{"id":"a","name":"b","value":"c"}{"id":"a","name":"b","value":"c"}"#,
        b"{\"id\":\"a\",\"name\":\"b\",\"value\":\"\xff\"}",
    ]
    .into_iter()
    .map(|it| Some(it.to_vec()))
    .collect();
    bad.push(None);
    bad.push(Some(vec![b'['; 100_000]));
    bad.push(Some(vec![b'x'; 1_000_000]));
    bad
}

pub(crate) async fn requests_between_good_ones_are_skipped_and_counted(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let worker = scene.worker().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    let bad = bad_requests();
    let mut ids = Vec::new();
    for (n, value) in bad.iter().enumerate() {
        ping.write(Some(b"any key"), value.as_deref()).await;
        let id = format!("good {n}");
        // A key is not looked at.
        let key = [None, Some(&b""[..]), Some(b"\xff")][n % 3];
        ping.write(key, Some(&good(&id))).await;
        ids.push(id);
    }
    only_these_are_answered(&pong, &ids).await;

    // The same in one batch, the large ones aside.
    let small: Vec<_> = bad
        .iter()
        .filter(|it| it.as_ref().is_none_or(|it| it.len() < 1_000))
        .collect();
    let mut batch = Vec::new();
    for (n, value) in small.iter().enumerate() {
        batch.push(record(None, value.as_deref()));
        let id = format!("good {n} in a batch");
        batch.push(record(None, Some(&good(&id))));
        ids.push(id);
    }
    ping.write_batch(batch).await;
    only_these_are_answered(&pong, &ids).await;

    let [answered, skipped] = [ids.len(), bad.len() + small.len()].map(|it| i64::try_from(it).unwrap());
    worker
        .until_metric("worker_replies_total{fate=\"acknowledged\"}", answered)
        .await;
    let bad_values = "worker_records_skipped_total{reason=\"bad_value\"}";
    assert_eq!(worker.metric(bad_values).await, skipped);
    assert_eq!(worker.metric("worker_requests_total").await, answered + skipped);
    worker.until_ready().await;
}

pub(crate) async fn a_request_is_logged_escaped_and_cut(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let worker = scene.worker().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    let start = b"\x1b[31mred\nWARN forged: line\r\xff";
    let hostile = [&start[..], &[b'x'; 5_000]].concat();
    ping.write(None, Some(&hostile)).await;
    ping.write(None, Some(&good("after it"))).await;
    pong.reply(0).await;

    let line = worker.logged("skipping a request").await;
    assert!(line.contains(r"\x1b[31mred\nWARN forged: line\r\xffxxx"), "{line}");
    assert!(line.contains(&format!("({} bytes)", hostile.len())), "{line}");
    assert!(line.contains("offset=0"), "{line}");
    assert!(line.len() < 1_000, "{line}");
    assert!(
        !worker
            .log()
            .iter()
            .any(|it| it.starts_with("WARN forged") || it.contains('\x1b'))
    );
}

pub(crate) async fn replies_between_good_ones_are_skipped_and_counted(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().set("REPLY_TIMEOUT", "60s").ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    let mut caller = gateway.connect().await;
    caller.send(get("/ping")).await.unwrap();
    let key = ping.read_one(0).await.key.unwrap();
    let id = Uuid::try_parse_ascii(&key).unwrap();

    let malformed: Vec<Option<Vec<u8>>> = vec![
        None,
        Some(Vec::new()),
        Some(b"no uuid".to_vec()),
        Some(vec![b'-'; 36]),
        Some(vec![0xff; 36]),
        Some(vec![b'k'; 100_000]),
        // Other forms of the very id: the contract has one.
        Some(id.as_bytes().to_vec()),
        Some(id.simple().to_string().into_bytes()),
        Some(id.braced().to_string().into_bytes()),
        Some([&key[..], b" "].concat()),
    ];
    let foreign = 5;
    for key in &malformed {
        pong.write(key.as_deref(), Some(b"not for you")).await;
    }
    for n in 0..foreign {
        let value = [None, Some(&b""[..]), Some(b"\xff")][n % 3];
        pong.write(Some(Uuid::new_v4().to_string().as_bytes()), value).await;
    }
    // Three times in one batch, so that the caller cannot be gone before the second.
    pong.write_batch(vec![
        record(Some(&key), Some(b"first")),
        record(Some(&key), Some(b"second")),
        record(Some(&key), None),
    ])
    .await;
    assert_eq!(caller.answer().await.message(), "first");
    gateway.until_metric("gateway_in_flight", 0).await;
    // And once more, when the caller has gone.
    pong.write(Some(&key), Some(b"late")).await;

    gateway
        .until_metric("gateway_replies_total{kind=\"duplicate\"}", 3)
        .await;
    for (kind, count) in [
        ("malformed", malformed.len()),
        ("foreign", foreign),
        ("late", 0),
        ("answered", 1),
    ] {
        let series = format!("gateway_replies_total{{kind=\"{kind}\"}}");
        assert_eq!(usize::try_from(gateway.metric(&series).await), Ok(count), "{kind}");
    }
    // The connection is as good as before.
    caller.send(get("/ping")).await.unwrap();
    let key = ping.read_one(1).await.key.unwrap();
    pong.write(Some(&key), Some(b"next")).await;
    assert_eq!(caller.answer().await.message(), "next");
}

async fn undecodable(worker: &Process) -> i64 {
    worker.metric("worker_kafka_tail_records_undecodable_total").await
}

pub(crate) async fn a_batch_that_cannot_be_decoded_costs_only_itself(engine: &Engine) -> Completion {
    if !has("kcat", "-V") {
        return Completion::ignored_with("kcat, which writes such batches, is not installed");
    }
    let scene = Scene::shared(engine).await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    // Batches of twenty, written before the worker looks, so that one fetch finds them all.
    let lines = |name: &str| -> Vec<_> { (0..20).map(|n| good(&format!("{name} {n}"))).collect() };
    let mut ids = Vec::new();
    for (n, args) in [
        &["-z", "lz4"][..],
        &["-z", "zstd"],
        // A header without a value.
        &["-H", "name"],
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("before {n}");
        ping.write(None, Some(&good(&id))).await;
        ids.push(id);
        kcat::write(scene.brokers(), scene.ping_name(), args, &lines("lost")).await;
    }
    for codec in ["gzip", "snappy"] {
        kcat::write(scene.brokers(), scene.ping_name(), &["-z", codec], &lines(codec)).await;
        ids.extend((0..20).map(|n| format!("{codec} {n}")));
    }
    ping.write(None, Some(&good("last"))).await;
    ids.push("last".to_owned());

    let worker = scene.worker().set("START_FROM", "earliest").ready().await;

    only_these_are_answered(&pong, &ids).await;
    assert_eq!(undecodable(&worker).await, 60);
    worker.until_ready().await;
    Completion::Completed
}

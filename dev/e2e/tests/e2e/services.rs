//! Services on the worker library, and an HTTP server behind the worker. Requests are written by hand.

use std::path::Path;

use e2e::{
    engine::Engine,
    fixture::Fixture,
    process::{Process, Setup},
    topic::{Topic, create, record},
    wait::{WAIT_LIMIT, until, until_eq},
};
use futures_util::future::join_all;
use rskafka::record::Record;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// What a request has beside its path.
const DEADLINE: &str = "60000@test";

/// A request for the reply topic of the fixture.
fn call(fixture: &Fixture, key: &str, path: &str) -> Record {
    let mut call = event(key, path);
    let reply_topic = fixture.pong_name().as_bytes().to_vec();
    call.headers.insert("kafka_replyTopic".to_owned(), reply_topic);
    call.headers
        .insert("kafka_correlationId".to_owned(), key.as_bytes().to_vec());
    call.headers.insert("pingpong_deadline".to_owned(), DEADLINE.into());
    call
}

/// A request that no caller waits for.
fn event(key: &str, path: &str) -> Record {
    let mut event = record(Some(key.as_bytes()), Some(b"text"));
    let headers = [(":method", "PUT"), (":path", path), (":param.id", "7")];
    event.headers = headers
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .into();
    event
}

/// A service whose request topics are these.
fn service(fixture: &Fixture, topics: &[&str]) -> Setup {
    let setup = Setup::service(Path::new(env!("CARGO_BIN_EXE_service"))).arg("multi");
    let setup = topics.iter().fold(setup, |setup, topic| setup.arg(topic));
    fixture
        .configure(setup)
        .set("WORKER_GROUP", fixture.group_name())
        .set("CONCURRENCY", "8")
        // Settings of another logger: those of a library's host are none of the library's.
        .set("RUST_LOG", "info,sqlx")
        .set("LOG_FORMAT", "pretty")
}

async fn header(replies: &Topic, key: &str, name: &str) -> Option<String> {
    let reply = reply(replies, key).await;
    reply
        .headers
        .get(name)
        .map(|value| String::from_utf8(value.clone()).unwrap())
}

/// Waits for the reply with this key.
async fn reply(replies: &Topic, key: &str) -> Record {
    until(&format!("the reply to {key}"), WAIT_LIMIT, async || {
        let mut all = replies.read_all().await.into_iter();
        all.find(|read| read.record.key.as_deref() == Some(key.as_bytes()))
    })
    .await
    .record
}

pub(crate) async fn handler_answers_with_status_headers_and_failures(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (requests, replies) = tokio::join!(fixture.ping(), fixture.pong());
    let service = service(&fixture, &[fixture.ping_name()]).ready().await;
    let paths = [
        ("echo", "/orders?dry=1"),
        ("fail", "/fail"),
        ("error", "/error"),
        ("panic", "/panic"),
    ];
    let calls = paths.map(|(key, path)| call(&fixture, key, path));
    requests.write_batch(calls.into()).await;

    let echo = reply(&replies, "echo").await;
    let body: Value = serde_json::from_slice(echo.value.as_deref().unwrap()).unwrap();
    let expected = json!({ "topic": fixture.ping_name(), "method": "PUT", "id": "7", "body": "text" });
    assert_eq!(body, expected);
    for (key, status, body) in [
        ("fail", "422", r#"{"error":"not like this"}"#),
        ("error", "500", r#"{"error":"the service failed"}"#),
        ("panic", "500", r#"{"error":"the service failed"}"#),
    ] {
        let found = reply(&replies, key).await;
        assert_eq!(String::from_utf8_lossy(found.value.as_deref().unwrap()), body);
        assert_eq!(header(&replies, key, ":status").await.as_deref(), Some(status), "{key}");
    }
    assert_eq!(header(&replies, "echo", ":status").await.as_deref(), Some("201"));
    assert_eq!(header(&replies, "echo", "location").await.as_deref(), Some("/orders"));
    service.until_logged("a secret").await;
    assert_eq!(service.metric("worker_handler_panics_total").await, 1);
    let heartbeat = replies.last_heartbeat().await;
    let heartbeat: Value = serde_json::from_slice(&heartbeat).unwrap();
    assert_eq!(
        (&heartbeat["name"], &heartbeat["version"]),
        (&json!("service"), &json!("1.2.3"))
    );
    assert_eq!(heartbeat["partitions"], json!({ (fixture.ping_name()): [0] }));
}

/// One key's requests are handled in order, those of others meanwhile.
pub(crate) async fn slow_request_holds_up_its_key_only(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (requests, replies) = tokio::join!(fixture.ping(), fixture.pong());
    let _service = service(&fixture, &[fixture.ping_name()]).ready().await;
    let mut calls = vec![call(&fixture, "a", "/sleep?1500"), call(&fixture, "a", "/echo")];
    calls.extend((0..50).map(|n| call(&fixture, &format!("b {n}"), "/sleep?10")));
    requests.write_batch(calls).await;

    let read = replies.read(0, 52).await;
    let keys: Vec<_> = read
        .iter()
        .map(|read| String::from_utf8_lossy(read.record.key.as_ref().unwrap()))
        .collect();
    assert!(keys[..50].iter().all(|key| key.starts_with('b')), "{keys:?}");
    let status = |index: usize| read[index].record.headers.contains_key(":status");
    assert_eq!((status(50), status(51)), (false, true), "the slow one comes first");
}

/// A member that reads one topic is replaced by members that read two.
pub(crate) async fn rolling_update_adds_a_topic(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let added = format!("{}-added", fixture.ping_name());
    tokio::join!(
        create(fixture.brokers(), fixture.ping_name(), 3),
        create(fixture.brokers(), &added, 3)
    );
    let replies = fixture.pong().await;
    let mut old = service(&fixture, &[fixture.ping_name()]).ready().await;
    old.until_metric("worker_partitions", 3).await;
    let (one, two) = (
        service(&fixture, &[fixture.ping_name(), &added]).ready().await,
        service(&fixture, &[fixture.ping_name(), &added]).ready().await,
    );
    until_partitions(&[&old, &one, &two], 6).await;
    old.signal(Signal::TERM);
    assert_eq!(old.exit(WAIT_LIMIT).await, 0);
    until_partitions(&[&one, &two], 6).await;

    let mut count = 0;
    for topic in [fixture.ping_name(), &added] {
        for partition in 0..3 {
            let requests = Topic::partition(fixture.brokers(), topic, partition).await;
            requests
                .write_batch(vec![call(&fixture, &format!("{topic} {partition}"), "/echo")])
                .await;
            count += 1;
        }
    }
    let read = replies.read(0, count).await;
    let topics = read.iter().map(|read| {
        let body: Value = serde_json::from_slice(read.record.value.as_deref().unwrap()).unwrap();
        body["topic"].as_str().unwrap().to_owned()
    });
    assert_eq!(topics.filter(|topic| *topic == added).count(), 3);
}

async fn until_partitions(services: &[&Process], expected: i64) {
    until_eq("assigned partitions", WAIT_LIMIT, expected, async || {
        let counts = join_all(services.iter().map(|service| service.metric("worker_partitions"))).await;
        counts.into_iter().sum()
    })
    .await;
    join_all(services.iter().map(|service| service.until_ready())).await;
}

pub(crate) async fn refused_reply_topic_is_not_executed(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (requests, replies) = tokio::join!(fixture.ping(), fixture.pong());
    let service = service(&fixture, &[fixture.ping_name()]).ready().await;
    let mut refused = call(&fixture, "refused", "/panic");
    refused
        .headers
        .insert("kafka_replyTopic".to_owned(), b"elsewhere".to_vec());
    requests
        .write_batch(vec![refused, call(&fixture, "allowed", "/echo")])
        .await;

    reply(&replies, "allowed").await;
    let skipped = "worker_records_skipped_total{reason=\"reply_topic_refused\"}";
    service.until_metric(skipped, 1).await;
    assert_eq!(service.metric("worker_handler_panics_total").await, 0);
    let line = service.until_logged("skipping a request").await;
    assert!(line.contains("elsewhere") && line.contains("REPLY_TOPICS"), "{line}");
}

pub(crate) async fn failed_event_becomes_a_dead_letter(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let dead = format!("{}-dead", fixture.ping_name());
    let (requests, dead_letters) = tokio::join!(fixture.ping(), Topic::open(fixture.brokers(), &dead));
    let service = service(&fixture, &[fixture.ping_name()]);
    let service = service.set("DEAD_LETTER_TOPIC", &dead).ready().await;
    requests
        .write_batch(vec![event("k", "/fail"), event("other", "/echo")])
        .await;

    let letter = dead_letters.read(0, 1).await.remove(0).record;
    assert_eq!(
        (letter.key.as_deref(), letter.value.as_deref()),
        (Some(&b"k"[..]), Some(&b"text"[..]))
    );
    for (name, value) in [
        (":path", "/fail"),
        (":error", "not like this"),
        (":origin.topic", fixture.ping_name()),
        (":origin.partition", "0"),
        (":origin.offset", "0"),
    ] {
        assert_eq!(
            letter.headers.get(name).map(Vec::as_slice),
            Some(value.as_bytes()),
            "{name}"
        );
    }
    service.until_metric("worker_dead_letters_total", 1).await;
    assert_eq!(service.metric("worker_handled_total").await, 4);
    assert_eq!(fixture.pong().await.read_all().await.len(), 0);
}

/// A killed service leaves requests unfinished; the next one handles all of them.
pub(crate) async fn killed_service_repeats_what_was_not_done(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (requests, replies) = tokio::join!(fixture.ping(), fixture.pong());
    let first = service(&fixture, &[fixture.ping_name()]).ready().await;
    let mut calls = vec![call(&fixture, "slow", "/sleep?60000")];
    calls.extend((0..20).map(|n| call(&fixture, &n.to_string(), "/echo")));
    requests.write_batch(calls).await;
    replies.read(0, 20).await;
    first.signal(Signal::KILL);

    let _second = service(&fixture, &[fixture.ping_name()]).ready().await;
    // The lowest one was not done, so those behind it come again.
    let all = replies.read(0, 40).await;
    assert!(
        all[20..].iter().all(|read| read.record.key.as_deref() != Some(b"slow")),
        "{all:?}"
    );
}

/// The thread of the handlers is blocked. Another service of the group gets no more partitions.
pub(crate) async fn blocking_handler_costs_no_membership(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (requests, replies) = tokio::join!(fixture.ping(), fixture.pong());
    let service = service(&fixture, &[fixture.ping_name()]).ready().await;
    // Longer than the session timeout of the tests, which is 4 s. Both threads of its runtime are blocked.
    let blocking = [call(&fixture, "a", "/block?10000"), call(&fixture, "b", "/block?10000")];
    requests.write_batch(blocking.into()).await;

    reply(&replies, "a").await;
    reply(&replies, "b").await;
    assert_eq!(service.metric("worker_partitions").await, 1);
    let lost = service
        .log()
        .into_iter()
        .find(|line| line.contains("partitions are lost"));
    assert_eq!(lost, None);
}

pub(crate) async fn stuck_handler_ends_the_worker(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let requests = fixture.ping().await;
    let service = service(&fixture, &[fixture.ping_name()]);
    let mut service = service
        .set("HANDLER_STUCK_AFTER", "1s")
        .set("DRAIN_TIMEOUT", "1s")
        .ready()
        .await;
    requests.write_batch(vec![call(&fixture, "a", "/block?3600000")]).await;

    assert_eq!(service.exit(WAIT_LIMIT).await, 1);
    service.until_logged("a handler has run for").await;
    // Its offset was not passed: the next service has it again.
    let next = self::service(&fixture, &[fixture.ping_name()]).ready().await;
    next.until_metric("worker_requests_total", 1).await;
}

/// What a test service of HTTP answers. It counts the requests, and closes each connection.
async fn serve_http(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 64 * 1024];
        let Ok(read @ 1..) = stream.read(&mut request).await else {
            continue;
        };
        let line = String::from_utf8_lossy(&request[..read]);
        let line = line.lines().next().unwrap_or_default();
        let head = "HTTP/1.1 202 Accepted\r\ncontent-type: text/plain\r\nlocation: /7\r\nconnection: close";
        let response = format!("{head}\r\ncontent-length: {}\r\n\r\n{line}", line.len());
        let _ = stream.write_all(response.as_bytes()).await;
    }
}

pub(crate) async fn requests_are_forwarded_to_an_http_server(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (requests, replies) = tokio::join!(fixture.ping(), fixture.pong());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let worker = Setup::worker()
        .arg(&format!("--topics={}", fixture.ping_name()))
        .arg(&format!("--forward-to=http://{addr}"))
        .set("FORWARD_REPLY_HEADERS", "location");
    // The request topic is not PING_TOPIC.
    let worker = fixture
        .configure(worker)
        .set("PING_TOPIC", "unused")
        .set("PARTITIONS", "0")
        .start()
        .await;
    let server = tokio::spawn(serve_http(listener));
    worker.until_ready().await;
    requests
        .write_batch(vec![call(&fixture, "first", "/orders?dry=1")])
        .await;
    let first = reply(&replies, "first").await;
    assert_eq!(first.value.as_deref(), Some(&b"PUT /orders?dry=1 HTTP/1.1"[..]));
    assert_eq!(header(&replies, "first", ":status").await.as_deref(), Some("202"));
    assert_eq!(header(&replies, "first", "location").await.as_deref(), Some("/7"));

    // The server ends, and no request is lost until it is there again.
    server.abort();
    let _ = server.await;
    let calls = (0..20).map(|n| call(&fixture, &format!("later {n}"), "/orders"));
    requests.write_batch(calls.collect()).await;
    let causes = worker.until_unready().await;
    assert!(causes.contains("forward_to"), "{causes}");
    let server = tokio::spawn(serve_http(TcpListener::bind(addr).await.unwrap()));
    let read = replies.read(0, 21).await;
    let accepted = read.iter().filter(|read| {
        read.record
            .headers
            .get(":status")
            .is_some_and(|status| status == b"202")
    });
    assert_eq!(accepted.count(), 21);
    worker.until_ready().await;
    server.abort();
}

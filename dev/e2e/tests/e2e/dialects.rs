//! Record headers: dialects of correlation and reply address, deadline, trace, errors; and the reply partition.

use std::{collections::BTreeMap, future::Future};

use e2e::{
    closed_port::ClosedPort,
    engine::Engine,
    fixture::Fixture,
    http::{Connection, get, request},
    process::Process,
    topic::{self, Topic, record},
    wait::{WAIT_LIMIT, until},
};
use rskafka::record::Record;
use uuid::Uuid;

type Headers = BTreeMap<String, Vec<u8>>;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Sends a GET with these header lines, and reads the request record at the end of the topic.
async fn send(gateway: &Process, ping: &Topic, lines: &[&str]) -> (Connection, Record) {
    let end = ping.end().await;
    let mut caller = gateway.connect().await;
    caller.send(request("GET", "/ping", lines, "")).await.unwrap();
    let record = ping.read_one(end).await;
    (caller, record)
}

fn headers(headers: &[(&str, &[u8])]) -> Headers {
    headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
        .collect()
}

fn reply(key: Option<&[u8]>, with: &[(&str, &[u8])], value: &str) -> Record {
    let mut reply = record(key, Some(value.as_bytes()));
    reply.headers = headers(with);
    reply
}

/// Removes the deadline header and returns its milliseconds and the name of the gateway.
fn take_deadline(headers: &mut Headers) -> (String, String) {
    let text = String::from_utf8(headers.remove("pingpong_deadline").unwrap()).unwrap();
    let (left, gateway) = text.split_once('@').unwrap();
    (left.to_owned(), gateway.to_owned())
}

fn pong_partition(fixture: &Fixture, partition: i32) -> impl Future<Output = Topic> {
    Topic::partition(fixture.brokers(), fixture.pong_name(), partition)
}

pub(crate) async fn each_dialect_names_the_reply_address(engine: &Engine) {
    const SPRING: [&str; 3] = ["kafka_correlationId", "kafka_replyTopic", "kafka_replyPartition"];
    const SMALLRYE: [&str; 3] = ["REPLY_CORRELATION_ID", "REPLY_TOPIC", "REPLY_PARTITION"];
    const COMMON: [&str; 3] = ["kafka_correlationId", "kafka_replyTopic", "pingpong_replyPartition"];

    let fixture = Fixture::shared(engine).await;
    let one = pong_partition(&fixture, 1).await;
    let (ping, zero) = tokio::join!(fixture.ping(), fixture.pong());
    // The names of the headers, and the bytes of the partition; without bytes there is no such header.
    for (dialect, partition, names, bytes) in [
        ("common", "0", &COMMON[..2], &b""[..]),
        ("common", "1", &COMMON, b"1"),
        ("spring", "0", &SPRING, b"\0\0\0\0"),
        ("spring", "1", &SPRING, b"\0\0\0\x01"),
        ("nest", "0", &SPRING, b"0"),
        ("nest", "1", &SPRING, b"1"),
        ("smallrye", "0", &SMALLRYE, b"\0\0\0\0"),
        ("smallrye", "1", &SMALLRYE, b"\0\0\0\x01"),
        ("none", "0", &[], b""),
    ] {
        let setup = fixture.gateway().set("WIRE_HEADERS", dialect);
        let gateway = setup.set("REPLY_PARTITION", partition).ready().await;

        let (mut caller, mut request) = send(&gateway, &ping, &[]).await;

        if dialect != "none" {
            let (left, gateway) = take_deadline(&mut request.headers);
            assert_eq!((&*left, gateway.len()), ("10000", 16), "{gateway}");
        }
        let id = request.key.unwrap();
        assert_eq!(id.len(), 36);
        let values = [&id, fixture.pong_name().as_bytes(), bytes];
        let expected: Headers = names
            .iter()
            .zip(values)
            .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
            .collect();
        assert_eq!(request.headers, expected, "{dialect} {partition}");
        let text = format!("{dialect} {partition}");
        let pong = if partition == "1" { &one } else { &zero };
        pong.write(Some(&id), Some(text.as_bytes())).await;
        assert_eq!(caller.response().await.message(), text);
    }
    let default = fixture.gateway().ready().await;
    let (_caller, request) = send(&default, &ping, &[]).await;
    let names: Vec<_> = request.headers.keys().collect();
    assert_eq!(names, ["kafka_correlationId", "kafka_replyTopic", "pingpong_deadline"]);
}

pub(crate) async fn deadline_header_has_the_reply_timeout_and_the_gateway(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (one, two) = tokio::join!(
        fixture.gateway().set("REPLY_TIMEOUT", "2500ms").ready(),
        fixture.gateway().set("REPLY_TIMEOUT", "1m").ready()
    );
    let ping = fixture.ping().await;

    let mut names = Vec::new();
    for (gateway, expected) in [(&one, "2500"), (&two, "60000"), (&one, "2500")] {
        let (_caller, mut request) = send(gateway, &ping, &[]).await;
        let (left, name) = take_deadline(&mut request.headers);
        assert_eq!(left, expected);
        names.push(name);
    }
    // Each process has one name, different from that of every other process.
    assert!(names[0] == names[2] && names[0] != names[1], "{names:?}");
}

pub(crate) async fn reply_is_matched_by_its_correlation_header(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());

    for (name, is_binary, key) in [
        ("kafka_correlationId", false, Some(&b"another"[..])),
        ("kafka_correlationId", false, None),
        ("kafka_correlationId", true, Some(b"")),
        ("REPLY_CORRELATION_ID", false, None),
        ("REPLY_CORRELATION_ID", true, Some(b"another")),
    ] {
        let (mut caller, request) = send(&gateway, &ping, &[]).await;
        let id = request.key.unwrap();
        let uuid = Uuid::try_parse_ascii(&id).unwrap();
        let correlation = if is_binary { uuid.as_bytes() } else { &id[..] };
        let text = format!("{name} {is_binary} {key:?}");
        pong.write_batch(vec![reply(key, &[(name, correlation)], &text)]).await;
        assert_eq!(caller.response().await.message(), text);
    }
}

pub(crate) async fn reply_with_a_foreign_correlation_header_is_not_delivered(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    let (mut caller, request) = send(&gateway, &ping, &[]).await;
    let id = request.key.unwrap();
    let key = Some(&id[..]);

    let other = Uuid::new_v4();
    pong.write_batch(vec![
        reply(key, &[("kafka_correlationId", b"c1t2h3")], "no UUID"),
        reply(key, &[("REPLY_CORRELATION_ID", b"")], "empty"),
        reply(key, &[("kafka_correlationId", other.as_bytes())], "another UUID"),
        reply(key, &[("unrelated", b"x")], "matched by its key"),
    ])
    .await;

    assert_eq!(caller.response().await.message(), "matched by its key");
    gateway
        .until_metric("gateway_replies_total{kind=\"malformed\"}", 2)
        .await;
    assert_eq!(gateway.metric("gateway_replies_total{kind=\"foreign\"}").await, 1);
}

/// The caller sees a fixed text; the text of the service is logged at debug level only.
pub(crate) async fn nest_error_reply_returns_500(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (info, debug) = tokio::join!(
        fixture.gateway().ready(),
        fixture.gateway().set("RUST_LOG", "gateway=debug,info").ready()
    );
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());

    for gateway in [&info, &debug] {
        let (mut caller, request) = send(gateway, &ping, &[]).await;
        let id = request.key.unwrap();
        // A NestJS server writes neither key nor value.
        let mut failed = record(None, None);
        failed.headers = headers(&[
            ("kafka_correlationId", &id),
            ("kafka_nest-err", b"table \"secrets\" is gone"),
            ("kafka_nest-is-disposed", b"\0"),
        ]);
        pong.write_batch(vec![failed]).await;

        assert_eq!(caller.response().await.error(), (500, "the service failed".to_owned()));
        let series = "gateway_requests_total{outcome=\"service_failed\",status=\"500\",route=\"GET, POST /ping\"}";
        assert_eq!(gateway.metric(series).await, 1);
    }
    let line = debug.until_logged("table").await;
    assert!(line.contains("DEBUG") && line.contains("secrets"), "{line}");
    assert!(!info.log().iter().any(|line| line.contains("secrets")));
}

pub(crate) async fn traceparent_and_tracestate_are_forwarded(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (common, none) = tokio::join!(
        fixture.gateway().set("RUST_LOG", "gateway=debug,info").ready(),
        fixture.gateway().set("WIRE_HEADERS", "none").ready()
    );
    let ping = fixture.ping().await;
    let parent = format!("traceparent: {TRACEPARENT}");
    let lines = [
        &*parent,
        "tracestate: rojo=00f067aa0ba902b7",
        "TraceState: congo=t61rcWkgMzE",
        "x-request-id: of-the-caller",
    ];

    for (gateway, dialect_headers) in [(&common, 3), (&none, 0)] {
        let (_caller, request) = send(gateway, &ping, &lines).await;
        assert_eq!(request.headers["traceparent"], TRACEPARENT.as_bytes());
        let state = &request.headers["tracestate"];
        assert_eq!(state, b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
        assert_eq!(request.headers.len(), 2 + dialect_headers);
        if dialect_headers > 0 {
            let id = String::from_utf8(request.key.unwrap()).unwrap();
            let line = gateway.until_logged(TRACEPARENT).await;
            for word in ["DEBUG", &id, "of-the-caller", "congo=t61rcWkgMzE"] {
                assert!(line.contains(word), "{word}: {line}");
            }
        }
    }
    assert!(!none.log().iter().any(|line| line.contains(TRACEPARENT)));

    // Malformed headers are dropped.
    let upper = parent.replace("0af7", "0AF7");
    let long = format!("tracestate: a={}", "b".repeat(512));
    for (lines, names) in [
        (&[][..], &[][..]),
        (&["tracestate: a=b"], &[]),
        (&[&upper, "tracestate: a=b"], &[]),
        (&[&parent, &parent], &[]),
        (&[&parent, "tracestate: no list"], &["traceparent"]),
        (&[&parent, &long], &["traceparent"]),
    ] {
        let (_caller, request) = send(&none, &ping, lines).await;
        let found: Vec<_> = request.headers.keys().collect();
        assert_eq!(found, names, "{lines:?}");
    }
}

pub(crate) async fn x_request_id_is_echoed(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, _worker) = fixture.pair().await;
    let mut connection = gateway.connect().await;

    for (n, (method, path, status, body)) in [
        ("GET", "/ping", 200, ""),
        ("GET", "/", 404, ""),
        ("PUT", "/ping", 405, ""),
        ("POST", "/ping", 400, "no JSON"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("!~request-{n}");
        let line = format!("X-Request-ID: {id}");
        let response = connection.exchange(request(method, path, &[&line], body)).await;
        assert_eq!((response.status, response.header("x-request-id")), (status, Some(&*id)));
    }

    let long = format!("x-request-id: {}", "i".repeat(129));
    for lines in [
        &[][..],
        &["x-request-id: "],
        &["x-request-id: a b"],
        &["x-request-id: \u{e4}"],
        &[&long],
        &["x-request-id: a", "x-request-id: b"],
    ] {
        let response = connection.exchange(request("GET", "/ping", lines, "")).await;
        assert_eq!(
            (response.status, response.header("x-request-id")),
            (200, None),
            "{lines:?}"
        );
    }
    // It is not sent to the worker.
    let first = fixture.ping().await.read_one(0).await;
    let mut values = first.headers.values();
    assert!(!values.any(|value| value.starts_with(b"!~request-")), "{first:?}");
}

/// The number at the end of HOSTNAME, modulo the number of partitions.
pub(crate) async fn auto_reply_partition_follows_the_hostname(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (ping, last) = tokio::join!(fixture.ping(), pong_partition(&fixture, 2));
    let setup = fixture
        .gateway()
        .set("REPLY_PARTITION", "auto")
        .set("WIRE_HEADERS", "nest");
    let gateway = setup.set("HOSTNAME", "gw-05").ready().await;

    let (mut caller, request) = send(&gateway, &ping, &[]).await;
    assert_eq!(request.headers["kafka_replyPartition"], b"2");
    last.write(request.key.as_deref(), Some(b"there")).await;
    assert_eq!(caller.response().await.message(), "there");
}

pub(crate) async fn missing_reply_partition_is_not_ready(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let _pong = fixture.pong().await;
    let gateway = fixture.gateway().set("REPLY_PARTITION", "1").start().await;

    let missing = format!("topic {:?} has no partition 1", fixture.pong_name());
    until("/ready names the partition", WAIT_LIMIT, async || {
        let (status, causes) = gateway.page("/ready").await;
        let causes = causes.replace('\\', "");
        (status == 503 && causes.contains(&missing)).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/ping").await.error(), (503, "not ready".to_owned()));
    assert_eq!(gateway.page("/live").await.0, 200);

    topic::delete(fixture.brokers(), fixture.pong_name()).await;
    let (ping, pong) = tokio::join!(fixture.ping(), pong_partition(&fixture, 1));
    gateway.until_ready().await;
    let (mut caller, request) = send(&gateway, &ping, &[]).await;
    pong.write(request.key.as_deref(), Some(b"there")).await;
    assert_eq!(caller.response().await.message(), "there");
}

pub(crate) async fn auto_reply_partition_is_not_ready_without_kafka() {
    let closed_port = ClosedPort::reserve();
    let fixture = Fixture::at(&closed_port.addr());
    let gateway = fixture.gateway().set("REPLY_PARTITION", "auto").start().await;

    until("/ready names the cause", WAIT_LIMIT, async || {
        let (status, causes) = gateway.page("/ready").await;
        let replies = causes.split("\"replies in ").nth(1)?.split("\":\"").nth(1)?.to_owned();
        (status == 503 && !replies.starts_with("starting")).then_some(())
    })
    .await;
    assert_eq!(
        gateway.exchange(get("/ping")).await.error(),
        (503, "not ready".to_owned())
    );
}

//! What the gateway's requests say in their headers, and what it takes from the headers of replies: against a test that
//! plays the other side by hand, byte for byte.

use std::collections::BTreeMap;

use e2e::{
    engine::Engine,
    http::{Connection, get, request},
    nowhere::Nowhere,
    process::{Process, Setup},
    scene::Scene,
    topic::{self, Topic, record},
    wait::{SOON, until},
};
use rskafka::record::Record;
use uuid::Uuid;

type Headers = BTreeMap<String, Vec<u8>>;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Asks, and gives the request's record; the answer is awaited later.
async fn asked(gateway: &Process, ping: &Topic, with: &[&str]) -> (Connection, Record) {
    let offset = ping.end().await;
    let mut caller = gateway.connect().await;
    caller.send(request("GET", "/ping", with, "")).await.unwrap();
    (caller, ping.read_one(offset).await)
}

/// A reply as a service would write it.
fn reply(key: Option<&[u8]>, headers: &[(&str, &[u8])], value: &str) -> Record {
    let mut reply = record(key, Some(value.as_bytes()));
    reply.headers = with(headers);
    reply
}

fn with(headers: &[(&str, &[u8])]) -> Headers {
    headers
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()))
        .collect()
}

/// Takes out what says how long its caller waits, and who is asking.
fn take_deadline(headers: &mut Headers) -> (String, String) {
    let text = String::from_utf8(headers.remove("pingpong_deadline").unwrap()).unwrap();
    let (left, gateway) = text.split_once('@').unwrap();
    (left.to_owned(), gateway.to_owned())
}

fn pong_partition(scene: &Scene, partition: i32) -> impl Future<Output = Topic> {
    Topic::partition(scene.brokers(), scene.pong_name(), partition)
}

pub(crate) async fn say_where_the_reply_goes(engine: &Engine) {
    type Row = (&'static str, i32, fn(id: &[u8], topic: &[u8]) -> Headers);
    let rows: [Row; 9] = [
        ("common", 0, |id, topic| {
            with(&[("kafka_correlationId", id), ("kafka_replyTopic", topic)])
        }),
        ("common", 1, |id, topic| {
            with(&[
                ("kafka_correlationId", id),
                ("kafka_replyTopic", topic),
                ("pingpong_replyPartition", b"1"),
            ])
        }),
        ("spring", 0, |id, topic| {
            with(&[
                ("kafka_correlationId", id),
                ("kafka_replyTopic", topic),
                ("kafka_replyPartition", b"\0\0\0\0"),
            ])
        }),
        ("spring", 1, |id, topic| {
            with(&[
                ("kafka_correlationId", id),
                ("kafka_replyTopic", topic),
                ("kafka_replyPartition", b"\0\0\0\x01"),
            ])
        }),
        ("nest", 0, |id, topic| {
            with(&[
                ("kafka_correlationId", id),
                ("kafka_replyTopic", topic),
                ("kafka_replyPartition", b"0"),
            ])
        }),
        ("nest", 1, |id, topic| {
            with(&[
                ("kafka_correlationId", id),
                ("kafka_replyTopic", topic),
                ("kafka_replyPartition", b"1"),
            ])
        }),
        ("smallrye", 0, |id, topic| {
            with(&[
                ("REPLY_CORRELATION_ID", id),
                ("REPLY_TOPIC", topic),
                ("REPLY_PARTITION", b"\0\0\0\0"),
            ])
        }),
        ("smallrye", 1, |id, topic| {
            with(&[
                ("REPLY_CORRELATION_ID", id),
                ("REPLY_TOPIC", topic),
                ("REPLY_PARTITION", b"\0\0\0\x01"),
            ])
        }),
        ("none", 0, |_, _| with(&[])),
    ];
    let scene = Scene::shared(engine).await;
    let (mut pongs, ping) = (vec![pong_partition(&scene, 1).await], scene.ping().await);
    pongs.insert(0, scene.pong().await);
    for (dialect, partition, headers) in rows {
        let setup = scene.gateway().set("WIRE_HEADERS", dialect);
        let gateway = setup.set("REPLY_PARTITION", partition.to_string()).ready().await;

        let (mut caller, mut request) = asked(&gateway, &ping, &[]).await;

        if dialect != "none" {
            let (left, gateway) = take_deadline(&mut request.headers);
            assert_eq!((&*left, gateway.len()), ("10000", 16), "{gateway}");
        }
        let id = request.key.unwrap();
        assert_eq!(id.len(), 36);
        let expected = headers(&id, scene.pong_name().as_bytes());
        assert_eq!(request.headers, expected, "{dialect} {partition}");
        let text = format!("{dialect} {partition}");
        let pong = &pongs[usize::try_from(partition).unwrap()];
        pong.write(Some(&id), Some(text.as_bytes())).await;
        assert_eq!(caller.answer().await.message(), text);
    }
    // The first is the default.
    let gateway = scene.gateway().ready().await;
    let (_caller, request) = asked(&gateway, &ping, &[]).await;
    let names: Vec<_> = request.headers.keys().collect();
    assert_eq!(names, ["kafka_correlationId", "kafka_replyTopic", "pingpong_deadline"]);
}

pub(crate) async fn say_how_long_their_callers_wait(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (one, other) = tokio::join!(
        scene.gateway().set("REPLY_TIMEOUT", "2500ms").ready(),
        scene.gateway().set("REPLY_TIMEOUT", "1m").ready()
    );
    let ping = scene.ping().await;

    let mut names = Vec::new();
    for (gateway, expected) in [(&one, "2500"), (&other, "60000"), (&one, "2500")] {
        let (_caller, mut request) = asked(gateway, &ping, &[]).await;
        let (left, name) = take_deadline(&mut request.headers);
        assert_eq!(left, expected);
        names.push(name);
    }
    // Each gateway has a name of its own, and keeps it.
    assert!(names[0] == names[2] && names[0] != names[1], "{names:?}");
}

pub(crate) async fn are_answered_by_correlation_whatever_the_key(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    for (name, binary, key) in [
        ("kafka_correlationId", false, Some(&b"another"[..])),
        ("kafka_correlationId", false, None),
        ("kafka_correlationId", true, Some(b"")),
        ("REPLY_CORRELATION_ID", false, None),
        ("REPLY_CORRELATION_ID", true, Some(b"another")),
    ] {
        let (mut caller, request) = asked(&gateway, &ping, &[]).await;
        let id = request.key.unwrap();
        let uuid = Uuid::try_parse_ascii(&id).unwrap();
        let correlation = if binary { uuid.as_bytes() } else { &id[..] };
        let text = format!("{name} {binary} {key:?}");
        pong.write_batch(vec![reply(key, &[(name, correlation)], &text)]).await;
        assert_eq!(caller.answer().await.message(), text);
    }
}

pub(crate) async fn leave_what_is_somebody_elses(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    let (mut caller, request) = asked(&gateway, &ping, &[]).await;
    let id = request.key.unwrap();
    let key = Some(&id[..]);

    let other = Uuid::new_v4();
    pong.write_batch(vec![
        reply(key, &[("kafka_correlationId", b"c1t2h3")], "no UUID"),
        reply(key, &[("REPLY_CORRELATION_ID", b"")], "nothing"),
        reply(key, &[("kafka_correlationId", other.as_bytes())], "another UUID"),
        reply(key, &[("unrelated", b"x")], "ours"),
    ])
    .await;

    assert_eq!(caller.answer().await.message(), "ours");
    gateway
        .until_metric("gateway_replies_total{kind=\"malformed\"}", 2)
        .await;
    assert_eq!(gateway.metric("gateway_replies_total{kind=\"foreign\"}").await, 1);
}

pub(crate) async fn tell_of_a_service_that_failed(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (quiet, talkative) = tokio::join!(
        scene.gateway().ready(),
        scene.gateway().set("RUST_LOG", "gateway=debug,info").ready()
    );
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    for gateway in [&quiet, &talkative] {
        let (mut caller, request) = asked(gateway, &ping, &[]).await;
        let id = request.key.unwrap();
        // As a NestJS server writes it: no key, no value.
        let mut failed = record(None, None);
        failed.headers = with(&[
            ("kafka_correlationId", &id),
            ("kafka_nest-err", b"table \"secrets\" is gone"),
            ("kafka_nest-is-disposed", b"\0"),
        ]);
        pong.write_batch(vec![failed]).await;

        assert_eq!(caller.answer().await.error(), (500, "the service failed".to_owned()));
        let series = "gateway_requests_total{outcome=\"service_failed\",status=\"500\"}";
        assert_eq!(gateway.metric(series).await, 1);
    }
    let line = talkative.logged("table").await;
    assert!(line.contains("DEBUG") && line.contains("secrets"), "{line}");
    assert!(!quiet.log().iter().any(|line| line.contains("secrets")));
}

pub(crate) async fn hand_a_trace_on(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (common, none) = tokio::join!(
        scene.gateway().set("RUST_LOG", "gateway=debug,info").ready(),
        scene.gateway().set("WIRE_HEADERS", "none").ready()
    );
    let ping = scene.ping().await;
    let caller_says = [
        &format!("traceparent: {PARENT}"),
        "tracestate: rojo=00f067aa0ba902b7",
        "TraceState: congo=t61rcWkgMzE",
        "x-request-id: of-the-caller",
    ];

    for gateway in [&common, &none] {
        let (_caller, request) = asked(gateway, &ping, &caller_says).await;
        assert_eq!(request.headers["traceparent"], PARENT.as_bytes());
        assert_eq!(
            request.headers["tracestate"],
            b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
        );
        let others = if std::ptr::eq(gateway, &common) { 3 } else { 0 };
        assert_eq!(request.headers.len(), 2 + others);
        if others > 0 {
            let id = String::from_utf8(request.key.unwrap()).unwrap();
            let line = common.logged(PARENT).await;
            for word in ["DEBUG", &id, "of-the-caller", "congo=t61rcWkgMzE"] {
                assert!(line.contains(word), "{word}: {line}");
            }
        }
    }
    assert!(!none.log().iter().any(|line| line.contains(PARENT)));
}

pub(crate) async fn ignore_a_malformed_trace(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().set("WIRE_HEADERS", "none").ready().await;
    let ping = scene.ping().await;

    let line = format!("traceparent: {PARENT}");
    let upper = line.replace("0af7", "0AF7");
    let long = format!("tracestate: a={}", "b".repeat(512));
    for (lines, names) in [
        (&[][..], &[][..]),
        (&["tracestate: a=b"], &[]),
        (&[&upper, "tracestate: a=b"], &[]),
        (&[&line, &line], &[]),
        (&[&line, "tracestate: no list"], &["traceparent"]),
        (&[&line, &long], &["traceparent"]),
    ] {
        let (_caller, request) = asked(&gateway, &ping, lines).await;
        let found: Vec<_> = request.headers.keys().collect();
        assert_eq!(found, names, "{lines:?}");
    }
}

pub(crate) async fn name_a_request_as_its_caller_does(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, _worker) = scene.pair().await;
    let mut connection = gateway.connect().await;

    for (n, (method, path, status)) in [("GET", "/ping", 200), ("GET", "/", 404), ("PUT", "/ping", 405)]
        .into_iter()
        .enumerate()
    {
        let id = format!("request-{n}");
        let line = format!("X-Request-ID: {id}");
        let answer = connection.ask(request(method, path, &[&line], "")).await;
        assert_eq!((answer.status, answer.header("x-request-id")), (status, Some(&*id)));
    }
    let answer = connection
        .ask(request("POST", "/ping", &["x-request-id: !~"], "not JSON"))
        .await;
    assert_eq!((answer.status, answer.header("x-request-id")), (400, Some("!~")));

    let long = format!("x-request-id: {}", "i".repeat(129));
    for lines in [
        &[][..],
        &["x-request-id: "],
        &["x-request-id: a b"],
        &["x-request-id: \u{e4}"],
        &[&long],
        &["x-request-id: a", "x-request-id: b"],
    ] {
        let answer = connection.ask(request("GET", "/ping", lines, "")).await;
        assert_eq!((answer.status, answer.header("x-request-id")), (200, None), "{lines:?}");
    }
    // It is the caller's name for the request, and no business of the worker's.
    let first = scene.ping().await.read_one(0).await;
    assert!(
        !first.headers.values().any(|it| it.starts_with(b"request-")),
        "{first:?}"
    );
}

pub(crate) async fn spread_gateways_over_partitions_by_their_hosts(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (ping, last) = tokio::join!(scene.ping(), pong_partition(&scene, 2));
    let auto = |hostname: &str| {
        let setup = scene.gateway().set("REPLY_PARTITION", "auto");
        setup.set("WIRE_HEADERS", "nest").set("HOSTNAME", hostname)
    };

    for (hostname, partition) in [("gw-1", "1"), ("gw-3", "0"), ("gw-05", "2")] {
        let gateway = auto(hostname).ready().await;
        let (mut caller, request) = asked(&gateway, &ping, &[]).await;
        let said = String::from_utf8(request.headers["kafka_replyPartition"].clone()).unwrap();
        assert_eq!(said, partition, "{hostname}");
        if partition == "2" {
            last.write(request.key.as_deref(), Some(b"there")).await;
            assert_eq!(caller.answer().await.message(), "there");
        }
    }
    // Without a number, any that there is.
    let gateway = auto("gateway-x7k").ready().await;
    let (_caller, request) = asked(&gateway, &ping, &[]).await;
    let said = &request.headers["kafka_replyPartition"];
    assert!(matches!(&said[..], b"0" | b"1" | b"2"), "{}", said.escape_ascii());
}

pub(crate) async fn wait_for_the_partition_of_the_replies(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let _pong = scene.pong().await;
    let gateway = scene.gateway().set("REPLY_PARTITION", "1").start().await;

    let missing = format!("topic {:?} has no partition 1", scene.pong_name());
    until("the partition is missed", SOON, async || {
        let (status, causes) = gateway.page("/ready").await;
        let causes = causes.replace('\\', "");
        (status == 503 && causes.contains(&missing)).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/ping").await.error(), (503, "not ready".to_owned()));
    assert_eq!(gateway.page("/live").await.0, 200);

    topic::delete(scene.brokers(), scene.pong_name()).await;
    until("the topic is gone", SOON, async || {
        let topics = topic::list(scene.brokers()).await;
        (!topics.contains_key(scene.pong_name())).then_some(())
    })
    .await;
    let (ping, pong) = tokio::join!(scene.ping(), pong_partition(&scene, 1));
    gateway.until_ready().await;
    let (mut caller, request) = asked(&gateway, &ping, &[]).await;
    pong.write(request.key.as_deref(), Some(b"there")).await;
    assert_eq!(caller.answer().await.message(), "there");
}

pub(crate) async fn wait_for_kafka_to_choose_a_partition() {
    let nowhere = Nowhere::reserve();
    let scene = Scene::at(&nowhere.addr());
    let gateway: Setup = scene.gateway().set("REPLY_PARTITION", "auto");
    let gateway = gateway.start().await;

    until("it says what is in the way", SOON, async || {
        let (status, causes) = gateway.page("/ready").await;
        let replies = causes.split("\"replies\":\"").nth(1)?.to_owned();
        (status == 503 && !replies.starts_with("starting")).then_some(())
    })
    .await;
    assert_eq!(gateway.ask(get("/ping")).await.error(), (503, "not ready".to_owned()));
}

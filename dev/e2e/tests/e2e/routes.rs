//! Routes from a file: requests of any path become records of any topic, and replies the responses.

use std::{collections::BTreeMap, time::Duration};

use e2e::{
    cluster::Cluster,
    engine::Engine,
    environment::has,
    http::{get, request},
    kcat,
    process::{Process, Setup},
    routes::{RoutesFile, header, reply_to},
    topic::{Topic, list},
    wait::{WAIT_LIMIT, until},
};
use futures_util::future::join_all;
use libtest_mimic::Completion;
use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

/// Two topics with a reply topic each, and one route without replies.
const SHOP: &str = r#"
[[route]]
on = "POST /orders"
topic = "@orders"
reply_topic = "@replies"
request_headers = ["x-customer", "cookie"]
reply_headers = ["location", "set-cookie"]
timeout = "2s"

[[route]]
on = "GET, PUT /customers/{id}"
topic = "@customers"
reply_topic = "@answers"
max_in_flight = 1
timeout = "30s"

[[route]]
on = "POST /events/{*path}"
topic = "@events"
reply = false
key = "{path}"
"#;

async fn shop(engine: &Engine) -> RoutesFile {
    let routes = RoutesFile::new(engine.brokers().await, SHOP);
    for topic in ["orders", "replies", "customers", "answers", "events"] {
        routes.create(topic, 1).await;
    }
    routes
}

/// Waits for the record at an offset, and replies.
async fn answer(requests: &Topic, offset: i64, replies: &Topic, headers: &[(&str, &str)], value: &[u8]) {
    let record = requests.read_one(offset).await;
    replies.write_batch(vec![reply_to(&record, headers, value)]).await;
}

async fn heartbeat(replies: &Topic, topics: &[String]) {
    let value = json!({ "topics": topics, "id": "scripted" }).to_string();
    replies.write(Some(b"pingpong_worker"), Some(value.as_bytes())).await;
}

pub(crate) async fn broken_files_are_refused_with_every_line() {
    let ok = "[[route]]\non = \"GET /a/{id}\"\ntopic = \"a\"\n";
    let second = "[[route]]\non = \"GET /b\"\ntopic = \"b\"\n";
    for (text, lines) in [
        ("", &[(1, "at least one [[route]]")][..]),
        ("[[route]\n", &[(1, "not TOML")]),
        ("[[route]]\ntopic = \"a\"\n", &[(1, "on is missing")]),
        ("[[route]]\non = \"GET /a\"\n", &[(1, "topic is missing")]),
        (&format!("{ok}time_out = \"1s\"\n"), &[(4, "did you mean \"timeout\"?")]),
        (
            &format!("{ok}timeout = \"5 apples\"\n"),
            &[(4, "a duration above zero")],
        ),
        (
            &format!("{ok}key = \"{{ident}}\"\n"),
            &[(4, "/a/{id} has no {ident}; it has {id}")],
        ),
        (
            &format!("{ok}\n\n[[route]]\non = \"GET /a/{{name}}\"\ntopic = \"b\"\n"),
            &[(7, "the same requests as line 2")],
        ),
        (
            &format!("{ok}reply_headers = [\"Connection\"]\n"),
            &[(4, "belongs to one connection")],
        ),
        (
            &format!("{ok}dialect = \"none\"\nkey = \"{{id}}\"\n"),
            &[(5, "needs the correlation id as key")],
        ),
        (
            &format!("{ok}max_body = \"1GiB\"\n{second}on = 5\n"),
            &[(4, "512KiB"), (8, "not TOML")],
        ),
        (
            &format!(
                "typo = 1\n{ok}reply = false\nreply_topic = \"r\"\n{second}partitions = \"x\"\nmax_in_flight = 0\n"
            ),
            &[
                (1, "unknown key \"typo\""),
                (6, "leave it out"),
                (10, "partition numbers"),
                (11, "from 1 to"),
            ],
        ),
    ] {
        let file = RoutesFile::new("", text);
        for setup in [
            Setup::gateway().arg("check").arg(file.path()),
            file.gateway().set("KAFKA_BROKERS", "a:1"),
        ] {
            let ended = setup.run().await;
            assert_eq!(
                (ended.code, ended.stdout.as_str()),
                (64, ""),
                "{text}\n{}",
                ended.stderr
            );
            for (line, expected) in lines {
                let start = format!("{}:{line}: ", file.path());
                let is_found = |found: &str| found.starts_with(&start) && found.contains(expected);
                assert!(
                    ended.stderr.lines().any(is_found),
                    "{start}{expected}\n{}",
                    ended.stderr
                );
            }
            assert!(
                ended.stderr.lines().count() <= lines.len() + 1,
                "{text}\n{}",
                ended.stderr
            );
        }
    }
    let ended = Setup::gateway().set("ROUTES", "/nowhere.toml").run().await;
    assert_eq!(ended.code, 64);
    assert!(
        ended.stderr.contains("ROUTES: cannot read \"/nowhere.toml\""),
        "{}",
        ended.stderr
    );
}

pub(crate) async fn example_is_checked_and_printed() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/routes.toml");
    let ended = Setup::gateway().arg("check").arg(example).run().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert!(lines[0].starts_with("ON"), "{lines:#?}");
    let orders: Vec<_> = lines[2].split_whitespace().collect();
    assert_eq!(
        orders[..6],
        ["POST", "/orders", "orders", "replies", "{header:x-customer}", "5s"]
    );
}

pub(crate) async fn requests_and_replies_are_verbatim(engine: &Engine) {
    let routes = shop(engine).await;
    let gateway = routes.ready(routes.gateway()).await;
    let (orders, replies) = tokio::join!(routes.topic("orders"), routes.topic("replies"));
    let (customers, answers) = tokio::join!(routes.topic("customers"), routes.topic("answers"));

    let body = b"\x00\xff {not json";
    let headers = [
        "x-customer: 7",
        "authorization: secret",
        "x-request-id: r1",
        "content-type: a/b",
    ];
    let mut caller = gateway.connect().await;
    caller
        .send(request("POST", "/orders?dry=1", &headers, body))
        .await
        .unwrap();
    let found = orders.read_one(0).await;
    assert_eq!(found.value.as_deref(), Some(&body[..]));
    assert_eq!(found.key.as_ref().map(Vec::len), Some(36));
    for (name, value) in [
        (":method", "POST"),
        (":path", "/orders?dry=1"),
        ("content-type", "a/b"),
        ("x-customer", "7"),
        ("x-request-id", "r1"),
        ("kafka_replyTopic", &routes.name("replies")),
    ] {
        assert_eq!(header(&found, name), value, "{name}");
    }
    assert!(header(&found, "pingpong_deadline").starts_with("2000@"));
    let names: Vec<_> = found.headers.keys().collect();
    assert_eq!(names.len(), 8, "neither a cookie nor credentials: {names:?}");
    let sent = [
        (":status", "201"),
        ("content-type", "c/d"),
        ("location", "/orders/1"),
        ("x-internal", "secret"),
    ];
    replies.write_batch(vec![reply_to(&found, &sent, body)]).await;
    let response = caller.response().await;
    assert_eq!((response.status, response.body.as_slice()), (201, &body[..]));
    assert_eq!(response.header("content-type"), Some("c/d"));
    assert_eq!(response.header("location"), Some("/orders/1"));
    assert_eq!(response.header("x-request-id"), Some("r1"));
    assert_eq!(
        (response.header("x-internal"), response.header("x-content-type-options")),
        (None, None)
    );

    // HEAD is a GET without the body. A cookie is passed on where it is listed.
    caller
        .send("HEAD /customers/a%20b HTTP/1.1\r\nhost: test\r\ncookie: c=1\r\n\r\n")
        .await
        .unwrap();
    let found = customers.read_one(0).await;
    assert_eq!(
        (header(&found, ":method"), header(&found, ":param.id")),
        ("GET".into(), "a b".into())
    );
    assert_eq!(
        (found.value.as_deref(), found.headers.get("cookie")),
        (Some(&b""[..]), None)
    );
    assert_eq!(header(&found, "kafka_replyTopic"), routes.name("answers"));
    answers.write_batch(vec![reply_to(&found, &[], b"{}")]).await;
    let response = caller.response().await;
    assert_eq!((response.status, response.header("content-length")), (200, Some("2")));
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    caller
        .send(request("POST", "/orders", &["cookie: a=1"], ""))
        .await
        .unwrap();
    assert_eq!(header(&orders.read_one(1).await, "cookie"), "a=1");
    gateway.until_metric("gateway_in_flight", 0).await;
    let counted = "gateway_requests_total{outcome=\"answered\",status=\"201\",route=\"POST /orders\"}";
    assert_eq!(gateway.metric(counted).await, 1);
}

/// Each record in the log may be executed: a status that says "not executed" writes none.
pub(crate) async fn status_says_whether_the_request_was_executed(engine: &Engine) {
    let text = format!(
        "{SHOP}\n[[route]]\non = \"POST /keyed\"\ntopic = \"@orders\"\nreply_topic = \"@replies\"\nkey = \"{{header:x-customer}}\"\nmax_body = \"8B\"\n"
    );
    let routes = RoutesFile::new(engine.brokers().await, &text);
    for topic in ["orders", "replies", "customers", "answers", "events"] {
        routes.create(topic, 1).await;
    }
    let gateway = routes.ready(routes.gateway()).await;
    let (orders, replies) = tokio::join!(routes.topic("orders"), routes.topic("replies"));

    let customer = &["x-customer: 1"][..];
    for (sent, status, error) in [
        (
            request("POST", "/keyed", &[], "{}"),
            400,
            "header x-customer is missing",
        ),
        (
            request("POST", "/keyed", &["x-customer: "], "{}"),
            400,
            "header x-customer is missing",
        ),
        (
            request("POST", "/keyed", customer, "more than 8"),
            413,
            "body too large",
        ),
        (
            request("POST", "/keyed", &["x-customer: 1", "content-encoding: gzip"], "{}"),
            415,
            "content-encoding must be identity",
        ),
        (
            request("POST", &format!("/keyed?{}", "q".repeat(8200)), customer, "{}"),
            414,
            "path or query too long",
        ),
        (
            request("POST", "/orders", &[&format!("x-customer: {}", "x".repeat(8200))], "{}"),
            431,
            "headers too large",
        ),
        (
            request("GET", "/customers/%ff", &[], ""),
            400,
            "path must be percent-encoded UTF-8",
        ),
        (request("DELETE", "/orders", &[], ""), 405, "method not allowed"),
        (request("GET", "/nowhere", &[], ""), 404, "not found"),
    ] {
        let response = gateway.exchange(sent).await;
        assert_eq!(response.error(), (status, error.to_owned()));
        if status == 415 {
            assert_eq!(response.header("accept-encoding"), Some("identity"));
        }
    }
    assert_eq!(orders.read_all().await.len(), 0, "4xx: not executed");

    let mut caller = gateway.connect().await;
    caller.send(request("POST", "/orders", &[], "{}")).await.unwrap();
    answer(&orders, 0, &replies, &[(":status", "422")], b"{\"error\":\"no\"}").await;
    let response = caller.response().await;
    assert_eq!((response.status, response.text()), (422, r#"{"error":"no"}"#));
    caller.send(request("POST", "/orders", &[], "{}")).await.unwrap();
    answer(&orders, 1, &replies, &[(":status", "OK")], b"").await;
    assert_eq!(
        caller.response().await.error(),
        (502, "the reply has an invalid status".to_owned())
    );
    let line = gateway.until_logged_once("three digits from 200 to 599").await;
    let place = format!("reply_topic=\"{}\" partition=0 offset=1 ", routes.name("replies"));
    assert!(
        line.contains(&place) && line.contains("headers=\":status, kafka_correlationId\""),
        "{line}"
    );
    assert!(!line.contains("OK"), "values are not logged: {line}");
    caller.send(request("POST", "/orders", &[], "{}")).await.unwrap();
    answer(&orders, 2, &replies, &[("kafka_nest-err", "boom")], b"").await;
    assert_eq!(caller.response().await.error(), (500, "the service failed".to_owned()));
    let response = caller.exchange(request("POST", "/orders", &[], "{}")).await;
    assert_eq!(response.error(), (504, "timeout".to_owned()));
    assert_eq!(response.header("retry-after"), None);
    assert_eq!(orders.read_all().await.len(), 4, "one record for each request");
}

/// Kafka refuses the record for good, as it is larger than the topic allows.
pub(crate) async fn record_that_kafka_refuses_returns_502(cluster: &Cluster) {
    let text = "[[route]]\non = \"POST /orders\"\ntopic = \"@orders\"\nreply_topic = \"@replies\"\n\
                [[route]]\non = \"POST /events\"\ntopic = \"@orders\"\nreply = false\n";
    let routes = RoutesFile::new(cluster.brokers(), text);
    let orders = routes.name("orders");
    cluster
        .administer(&format!("topic {orders} 1 max.message.bytes=2000\n"))
        .await;
    routes.create("replies", 1).await;
    let gateway = routes.ready(routes.gateway()).await;
    let (orders, replies) = tokio::join!(routes.topic("orders"), routes.topic("replies"));

    let large = "x".repeat(4_000);
    let mut caller = gateway.connect().await;
    for path in ["/orders", "/events", "/orders"] {
        let response = caller.exchange(request("POST", path, &[], &large)).await;
        assert_eq!(response.error(), (502, "refused by Kafka".to_owned()), "{path}");
        assert_eq!(response.header("retry-after"), None);
    }
    assert_eq!(
        orders.read_all().await.len(),
        0,
        "not executed, which the caller cannot know"
    );
    // The route goes on, on the same connection.
    caller.send(request("POST", "/orders", &[], "small")).await.unwrap();
    answer(&orders, 0, &replies, &[], b"{}").await;
    assert_eq!(caller.response().await.status, 200);
    let stored = caller.exchange(request("POST", "/events", &[], "small")).await;
    assert_eq!(stored.status, 202);
    assert_eq!(orders.read_all().await.len(), 2);
}

pub(crate) async fn reply_of_5_mb_is_delivered(cluster: &Cluster) {
    let routes = RoutesFile::new(
        cluster.brokers(),
        "[[route]]\non = \"GET /a\"\ntopic = \"@a\"\nreply_topic = \"@replies\"\n",
    );
    let replies = routes.name("replies");
    cluster
        .administer(&format!("topic {replies} 1 max.message.bytes=6000000\n"))
        .await;
    routes.create("a", 1).await;
    let gateway = routes.ready(routes.gateway()).await;
    let (requests, replies) = tokio::join!(routes.topic("a"), routes.topic("replies"));
    let (mut caller, mut other) = (gateway.connect().await, gateway.connect().await);
    for offset in [0, 2] {
        let large: Vec<u8> = (0..5_000_000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
        caller.send(get("/a")).await.unwrap();
        answer(&requests, offset, &replies, &[("content-type", "a/b")], &large).await;
        let response = caller.response().await;
        assert_eq!((response.status, response.header("content-type")), (200, Some("a/b")));
        assert!(response.body == large, "{} bytes", response.body.len());
        // A large response closes its own connection, and harms no other.
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(caller.closed().await, b"");
        other.send(get("/a")).await.unwrap();
        answer(&requests, offset + 1, &replies, &[], b"{}").await;
        assert_eq!(other.response().await.status, 200);
        caller = gateway.connect().await;
    }
    gateway.until_metric("gateway_in_flight", 0).await;
}

pub(crate) async fn stored_request_is_202_without_a_reply_address(engine: &Engine) {
    let routes = shop(engine).await;
    let gateway = routes.ready(routes.gateway()).await;
    let events = routes.topic("events").await;
    let mut caller = gateway.connect().await;
    for count in 1..=3 {
        let response = caller
            .exchange(request("POST", "/events/a/b", &["content-type: text/plain"], "e"))
            .await;
        assert_eq!(response.status, 202, "{response:?}");
        let records = events.read_all().await;
        assert_eq!(records.len(), count, "it is stored before the response");
        let stored = &records.last().unwrap().record;
        assert_eq!(stored.key.as_deref(), Some(&b"a/b"[..]));
        let id = header(stored, "kafka_correlationId");
        assert_eq!(response.text(), json!({ "id": id }).to_string());
        let names: Vec<_> = stored.headers.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [":method", ":param.path", ":path", "content-type", "kafka_correlationId"]
        );
    }
}

/// 100 callers, each with a key of its own, which wait for each response.
pub(crate) async fn records_of_a_key_are_in_order(engine: &Engine) {
    const KEYS: usize = 100;
    const REQUESTS: usize = 100;
    const PARTITIONS: i32 = 3;
    let routes = RoutesFile::new(
        engine.brokers().await,
        "[[route]]\non = \"POST /events/{key}\"\ntopic = \"@events\"\nreply = false\nkey = \"k{key}\"\n",
    );
    routes.create("events", PARTITIONS).await;
    let gateway = routes.ready(routes.gateway()).await;
    let send = async |key: usize| {
        let mut caller = gateway.connect().await;
        for number in 0..REQUESTS {
            let response = caller
                .exchange(request("POST", &format!("/events/{key}"), &[], number.to_string()))
                .await;
            assert_eq!(response.status, 202, "{response:?}");
        }
    };
    join_all((0..KEYS).map(send)).await;

    let mut by_key: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    let mut partitions_with_records = 0;
    for partition in 0..PARTITIONS {
        let records = routes.partition("events", partition).await.read_all().await;
        partitions_with_records += i32::from(!records.is_empty());
        let mut here: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        for read in records {
            let number = String::from_utf8(read.record.value.unwrap()).unwrap().parse().unwrap();
            here.entry(read.record.key.unwrap()).or_default().push(number);
        }
        for (key, numbers) in here {
            assert!(by_key.insert(key, numbers).is_none(), "a key has one partition");
        }
    }
    assert_eq!((by_key.len(), partitions_with_records), (KEYS, PARTITIONS));
    for (key, numbers) in by_key {
        assert_eq!(numbers, (0..REQUESTS).collect::<Vec<_>>(), "{}", key.escape_ascii());
    }
}

pub(crate) async fn silent_topic_refuses_its_routes_only(engine: &Engine) {
    let text = SHOP.replace("@answers", "@replies");
    let routes = RoutesFile::new(engine.brokers().await, &text);
    for topic in ["orders", "replies", "customers", "events"] {
        routes.create(topic, 1).await;
    }
    let gateway = routes.ready(routes.gateway()).await;
    let replies = routes.topic("replies").await;
    let names = ["orders", "customers"].map(|topic| routes.name(topic));
    heartbeat(&replies, &names).await;
    let read = "gateway_replies_total{kind=\"announcement\"}";
    gateway.until_metric(read, 1).await;

    // From now on a worker reads the customers only.
    let silent = Instant::now();
    let customers = routes.topic("customers").await;
    let serve = async {
        for offset in 0.. {
            heartbeat(&replies, &names[1..]).await;
            let mut caller = gateway.connect().await;
            caller.send(get("/customers/1")).await.unwrap();
            answer(&customers, offset, &replies, &[], b"{}").await;
            assert_eq!(caller.response().await.status, 200, "the other topic is unhurt");
        }
    };
    let refused = async {
        gateway.until_logged("no heartbeat and no reply").await;
        silent.elapsed()
    };
    let waited = tokio::select! {
        waited = refused => waited,
        () = serve => unreachable!("it has no end"),
    };
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    let response = gateway.exchange(request("POST", "/orders", &[], "{}")).await;
    assert_eq!(response.error(), (503, "no worker available".to_owned()));
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(routes.topic("orders").await.read_all().await.len(), 0, "not executed");
    let stored = gateway.exchange(request("POST", "/events/a", &[], "e")).await;
    assert_eq!(stored.status, 202, "a route without replies needs no worker");
}

pub(crate) async fn missing_topic_refuses_its_routes_only(engine: &Engine) {
    let brokers = engine.brokers().await;
    let routes = RoutesFile::new(brokers, SHOP);
    for topic in ["orders", "replies", "events"] {
        routes.create(topic, 1).await;
    }
    let gateway = routes.gateway().ready().await;
    let cause = gateway.until_logged("does not exist").await;
    let missing = ["customers", "answers"].map(|topic| routes.name(topic));
    assert!(missing.iter().any(|name| cause.contains(name)), "{cause}");
    let response = gateway.get("/customers/1").await;
    assert_eq!(response.error(), (503, "not ready".to_owned()));
    assert_eq!(response.header("retry-after"), Some("1"));
    // The gateway is ready as soon as one route is.
    for (check, topic) in [
        ("requests to", "events"),
        ("requests to", "orders"),
        ("replies in", "replies"),
    ] {
        let check = format!(": ready health_check=\"{check} {}\"", routes.name(topic));
        gateway.until_logged(&check).await;
    }
    let stored = gateway.exchange(request("POST", "/events/a", &[], "e")).await;
    assert_eq!(stored.status, 202, "{stored:?}");
    let (orders, replies) = tokio::join!(routes.topic("orders"), routes.topic("replies"));
    let mut caller = gateway.connect().await;
    caller.send(request("POST", "/orders", &[], "{}")).await.unwrap();
    answer(&orders, 0, &replies, &[], b"{}").await;
    assert_eq!(caller.response().await.status, 200);
    let topics = list(brokers).await;
    for topic in ["customers", "answers"] {
        assert!(!topics.contains_key(&routes.name(topic)), "nothing is created");
    }
    // Created later, the topic is found.
    routes.create("customers", 1).await;
    routes.create("answers", 1).await;
    let (customers, answers) = tokio::join!(routes.topic("customers"), routes.topic("answers"));
    until("the topic is found", WAIT_LIMIT, async || {
        let response = gateway
            .exchange(request("GET", "/customers/1", &["prefer: wait=1"], ""))
            .await;
        (response.status == 504).then_some(())
    })
    .await;
    let offset = customers.end().await;
    caller.send(get("/customers/1")).await.unwrap();
    answer(&customers, offset, &answers, &[], b"{}").await;
    assert_eq!(caller.response().await.status, 200);
}

pub(crate) async fn cluster_is_checked(engine: &Engine) {
    let brokers = engine.brokers().await;
    let routes = shop(engine).await;
    let check = |routes: &RoutesFile| {
        let setup = Setup::gateway().set("KAFKA_BROKERS", brokers);
        setup.arg("check").arg("--cluster").arg(routes.path())
    };
    let ended = check(&routes).run().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.stdout);
    let orders = format!(
        "topic {}: 1 partition, may write, max.message.bytes ",
        routes.name("orders")
    );
    assert!(ended.stdout.contains(&orders), "{}", ended.stdout);
    // The built-in broker does not know the call.
    let is_known = !ended.stdout.contains("max.message.bytes unknown");
    assert_eq!(is_known, engine.name() == "kafka", "{}", ended.stdout);
    let replies = format!("reply topic {}: 1 partition, may read", routes.name("replies"));
    assert!(ended.stdout.contains(&replies), "{}", ended.stdout);

    let missing = RoutesFile::new(brokers, SHOP);
    let ended = check(&missing).run().await;
    assert_eq!(ended.code, 1);
    assert_eq!(ended.stderr.matches("does not exist").count(), 5, "{}", ended.stderr);
}

pub(crate) async fn impossible_replies_do_not_harm_the_connection(engine: &Engine) {
    let routes = shop(engine).await;
    let gateway = routes.ready(routes.gateway()).await;
    let (orders, replies) = tokio::join!(routes.topic("orders"), routes.topic("replies"));
    let mut caller = gateway.connect().await;
    for (offset, (headers, status)) in (0..).zip([
        (&[(":status", "099")][..], 502),
        (&[(":status", "101")], 502),
        (&[("location", "/a\r\nset-cookie: x=1")], 200),
        (&[("content-type", "a/b\r\n\r\n")], 200),
        (
            &[
                ("content-length", "9999"),
                ("transfer-encoding", "chunked"),
                ("connection", "close"),
            ],
            200,
        ),
        (&[(":status", "204"), ("content-type", "a/b")], 204),
        (&[(":status", "304")], 304),
        (&[(":status", "205")], 205),
    ]) {
        caller.send(request("POST", "/orders", &[], "{}")).await.unwrap();
        answer(&orders, offset, &replies, headers, b"body").await;
        // On the same connection: it was neither closed nor left with bytes of the last response.
        let response = caller.response().await;
        assert_eq!(response.status, status, "{headers:?}");
        assert_eq!(
            (response.header("set-cookie"), response.header("location")),
            (None, None)
        );
        assert_eq!(
            (response.header("connection"), response.header("transfer-encoding")),
            (None, None)
        );
        assert_eq!(response.body == b"body", status == 200, "{response:?}");
    }
    assert_eq!(gateway.metric("gateway_reply_headers_dropped_total").await, 2);
    caller.send(request("POST", "/orders", &[], "{}")).await.unwrap();
    let mut without_value = reply_to(&orders.read_one(8).await, &[], b"");
    without_value.value = None;
    replies.write_batch(vec![without_value]).await;
    let response = caller.response().await;
    assert_eq!((response.status, response.body.as_slice()), (200, &b""[..]));

    // A large reply is delivered, and closes its connection.
    let large = vec![b'x'; 900_000];
    caller.send(request("POST", "/orders", &[], "{}")).await.unwrap();
    answer(&orders, 9, &replies, &[], &large).await;
    let response = caller.response().await;
    assert_eq!((response.status, response.body.len()), (200, large.len()));
    assert_eq!(response.header("connection"), Some("close"));
}

/// Of two `content-type` headers, which most clients cannot write.
pub(crate) async fn last_content_type_of_a_reply_counts(engine: &Engine) -> Completion {
    if !has("kcat", "-V") {
        return Completion::ignored_with("kcat is not installed");
    }
    let routes = shop(engine).await;
    let gateway = routes.ready(routes.gateway()).await;
    let mut caller = gateway.connect().await;
    caller.send(request("POST", "/orders", &[], "{}")).await.unwrap();
    let found = routes.topic("orders").await.read_one(0).await;
    let id = format!("kafka_correlationId={}", header(&found, "kafka_correlationId"));
    let topic = routes.name("replies");
    let mut args = vec!["-P", "-t", &topic, "-p", "0", "-H", &id];
    args.extend(["-H", "content-type=a/b", "-H", "content-type=c/d"]);
    kcat::run(engine.brokers().await, &args, "body\n").await;
    let response = caller.response().await;
    assert_eq!((response.status, response.text()), (200, "body"));
    assert_eq!(response.header("content-type"), Some("c/d"));
    Completion::Completed
}

/// Callers of a route whose service does not answer fill it.
pub(crate) async fn full_route_leaves_the_others_alone(engine: &Engine) {
    const SLOW: usize = 20;
    let ping = "[[route]]\non = \"GET /ping\"\ntopic = \"@ping\"\nreply_topic = \"@replies\"\ncontract = \"ping\"\n";
    let text = SHOP.replace("max_in_flight = 1\n", &format!("max_in_flight = {SLOW}\n")) + ping;
    let routes = RoutesFile::new(engine.brokers().await, &text);
    for topic in ["orders", "replies", "customers", "answers", "events", "ping"] {
        routes.create(topic, 1).await;
    }
    let worker = Setup::worker()
        .set("KAFKA_BROKERS", engine.brokers().await)
        .set("PING_TOPIC", routes.name("ping"))
        .set("PONG_TOPIC", routes.name("replies"))
        .set("POSITION_GROUP", routes.name("group"));
    let (gateway, _worker) = tokio::join!(routes.ready(routes.gateway()), worker.ready());
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut caller = gateway.connect().await;
        caller.send(get("/customers/1")).await.unwrap();
        slow.push(caller);
    }
    let in_flight = "gateway_route_in_flight{route=\"GET, PUT /customers/{id}\"}";
    gateway.until_metric(in_flight, i64::try_from(SLOW).unwrap()).await;
    let callers = (0..10).map(async |_| {
        let (mut refused, mut answered) = (gateway.connect().await, gateway.connect().await);
        for _ in 0..20 {
            let response = refused.exchange(get("/customers/2")).await;
            assert_eq!(response.error(), (503, "too many requests in flight".to_owned()));
            assert_eq!(response.header("retry-after"), Some("1"));
            assert!(
                answered
                    .exchange(get("/ping"))
                    .await
                    .message()
                    .starts_with("Ping Pong ( ")
            );
        }
    });
    join_all(callers).await;
    let customers = routes.topic("customers").await.read_all().await;
    assert_eq!(customers.len(), SLOW, "a refused request is not executed");
}

pub(crate) async fn methods_of_a_path_are_told(engine: &Engine) {
    let routes = shop(engine).await;
    let gateway = routes.ready(routes.gateway()).await;
    let response = gateway
        .exchange("OPTIONS /customers/1 HTTP/1.1\r\nhost: test\r\n\r\n")
        .await;
    let allow = Some("GET, PUT, HEAD, OPTIONS");
    assert_eq!((response.status, response.header("allow")), (204, allow));
    let response = gateway.exchange(request("DELETE", "/customers/1", &[], "")).await;
    assert_eq!((response.status, response.header("allow")), (405, allow));
    assert_eq!(routes.topic("customers").await.read_all().await.len(), 0);
}

pub(crate) async fn end_of_the_drain_returns_504(engine: &Engine) {
    let routes = shop(engine).await;
    let mut gateway: Process = routes.ready(routes.gateway().set("DRAIN_TIMEOUT", "300ms")).await;
    let mut caller = gateway.connect().await;
    caller.send(get("/customers/1")).await.unwrap();
    gateway.until_metric("gateway_in_flight", 1).await;
    gateway.signal(Signal::TERM);
    let response = caller.response().await;
    assert_eq!(response.error(), (504, "shutting down".to_owned()));
    assert_eq!(response.header("retry-after"), None);
    assert_eq!(gateway.exit(WAIT_LIMIT).await, 0);
}

pub(crate) async fn time_of_the_caller_is_in_the_deadline(engine: &Engine) {
    let routes = shop(engine).await;
    let gateway = routes.ready(routes.gateway()).await;
    let start = Instant::now();
    let response = gateway
        .exchange(request("PUT", "/customers/1", &["prefer: respond-async, wait=1"], ""))
        .await;
    assert_eq!(response.error(), (504, "timeout".to_owned()));
    assert_eq!(response.header("preference-applied"), Some("wait=1"));
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&start.elapsed()));
    let found = routes.topic("customers").await.read_one(0).await;
    assert!(header(&found, "pingpong_deadline").starts_with("1000@"), "{found:?}");
}

pub(crate) async fn missing_topics_are_created_if_asked(engine: &Engine) {
    let routes = RoutesFile::new(engine.brokers().await, SHOP);
    let gateway = routes
        .gateway()
        .set("CREATE_TOPICS", "true")
        .set("PING_TOPIC", "other")
        .ready()
        .await;
    gateway.until_logged("ROUTES names the topics").await;
    let stored = until("the topic is written to", WAIT_LIMIT, async || {
        let response = gateway.exchange(request("POST", "/events/a", &[], "e")).await;
        (response.status == 202).then_some(response)
    })
    .await;
    assert_eq!(stored.status, 202);
    let topics = list(engine.brokers().await).await;
    for topic in ["orders", "replies", "customers", "answers", "events"] {
        assert_eq!(topics.get(&routes.name(topic)), Some(&1), "{topic}");
    }
    assert!(!topics.contains_key("other"));
}

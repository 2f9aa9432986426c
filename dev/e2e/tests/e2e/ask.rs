//! `gateway ask`: one request through Kafka, and words about what came.

use std::path::Path;

use e2e::{
    engine::Engine,
    fixture::Fixture,
    process::{Ended, Setup},
    routes::{RoutesFile, reply_to},
    topic::{Topic, create, list, record},
};
use rskafka::record::Record;
use uuid::Uuid;

const ROUTES: &str = r#"
[[route]]
on = "POST /orders/{id}"
topic = "@orders"
reply_topic = "@replies"
reply_headers = ["location"]
timeout = "2s"

[[route]]
on = "POST /events"
topic = "@events"
reply = false
"#;

/// A reply that a service writes: where to, and the record.
type WrongReply = (&'static str, fn(&Record) -> Record, &'static [&'static str]);

fn ask(routes: &RoutesFile, topic: &str) -> Setup {
    routes.gateway().arg("ask").arg(&routes.name(topic))
}

fn assert_says(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!(ended.code, code, "{ended:?}");
    let said = format!("{}{}", ended.stdout, ended.stderr);
    for text in texts {
        assert!(said.contains(text), "{text:?}: {said}");
    }
}

fn id(request: &Record) -> Vec<u8> {
    request.headers["kafka_correlationId"].clone()
}

pub(crate) async fn ask_tells_the_answer_of_a_service(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    // They exist before the service and `ask`, which create none.
    let (_requests, _replies) = tokio::join!(fixture.ping(), fixture.pong());
    let service = Setup::service(Path::new(env!("CARGO_BIN_EXE_service")));
    let service = fixture.configure(service.arg("multi").arg(fixture.ping_name()));
    let service = service.set("WORKER_GROUP", fixture.group_name()).ready().await;
    // The topic of the service is not that of `/ping`.
    let unused = format!("unused-{}", Uuid::new_v4().simple());
    let ask = |topic: &str| {
        let setup = fixture.gateway().set("PING_TOPIC", &unused);
        setup.arg("ask").arg(topic)
    };
    let topic = fixture.ping_name();
    let ended = ask(topic).arg("--path=/orders/7?dry=1").arg("--data=text").run().await;
    assert_says(
        &ended,
        0,
        &[
            "POST /orders/7?dry=1, id ",
            &format!("to {topic}/0; waiting for the reply in {}/0", fixture.pong_name()),
            &format!("the reply came to {}/0 at offset ", fixture.pong_name()),
            "\n201 Created\n",
            "\nlocation: /orders/7\n",
            r#""body":"text""#,
        ],
    );
    assert_eq!(ended.stderr, "");

    // It holds its offset beyond its deadline.
    let setup = ask(topic).arg("--path=/block?20000").arg("--timeout=500ms");
    let ended = setup.run().await;
    assert_says(
        &ended,
        2,
        &[
            "no reply came to",
            r#"worker "service" "1.2.3" announced the topic: in flight "#,
            &format!(
                r#"group "{}" is not past the request at offset 1 (committed offset 1, lag 1)"#,
                fixture.group_name()
            ),
        ],
    );
    assert!(service.is_running());

    // Nothing is created.
    let missing = format!("missing-{}", Uuid::new_v4().simple());
    let ended = ask(&missing).run().await;
    assert_says(&ended, 1, &[&format!("topic \"{missing}\" does not exist")]);
    let ended = ask(topic).set("PONG_TOPIC", &missing).run().await;
    assert_says(&ended, 1, &["the reply topic: ", "does not exist"]);
    let topics = list(engine.brokers().await).await;
    for name in [&missing, &unused, &format!("{topic}.reply")] {
        assert!(!topics.contains_key(name), "{name} was created");
    }
}

pub(crate) async fn ask_tells_what_is_wrong_with_a_reply(engine: &Engine) {
    let cases: &[WrongReply] = &[
        (
            "replies 0",
            |request| reply_to(request, &[(":status", "OK")], b""),
            &["the reply has :status \"OK\"", "its caller gets 502"],
        ),
        (
            "replies 1",
            |request| reply_to(request, &[], b""),
            &["came to REPLIES/1 at offset 0, but the request asks for REPLIES/0"],
        ),
        (
            "orders.reply 0",
            |request| reply_to(request, &[], b""),
            &["came to ORDERS.reply/0 at offset 0, but the request asks for REPLIES/0"],
        ),
        (
            "replies 0",
            |request| {
                let mut reply = reply_to(request, &[], b"");
                let quoted = [b"b'", &id(request)[..], b"'"].concat();
                reply.headers.insert("kafka_correlationId".to_owned(), quoted);
                reply
            },
            &["its kafka_correlationId is \"b\\'", "copy the header unchanged"],
        ),
        (
            "replies 0",
            |request| {
                let mut reply = record(None, Some(b""));
                reply.headers.insert("correlation-id".to_owned(), id(request));
                reply
            },
            &["the id is only in the header correlation-id; copy the header kafka_correlationId"],
        ),
        (
            "replies 0",
            |_| {
                let mut reply = record(Some(b"7"), Some(b""));
                reply.headers.insert(":status".to_owned(), b"200".to_vec());
                reply
            },
            &[
                "has no correlation id; its headers: :status",
                "no reply came to REPLIES/0 within 2s",
            ],
        ),
        (
            "replies 0",
            |_| record(Some(Uuid::new_v4().to_string().as_bytes()), Some(b"")),
            &["1 replies with other ids came to REPLIES/0"],
        ),
    ];
    let routes = RoutesFile::new(engine.brokers().await, ROUTES);
    let (orders_name, replies_name) = (routes.name("orders"), routes.name("replies"));
    routes.create("orders", 1).await;
    routes.create("replies", 2).await;
    create(engine.brokers().await, &format!("{orders_name}.reply"), 1).await;
    let orders = routes.topic("orders").await;
    for (offset, (place, reply, texts)) in (0..).zip(cases) {
        let (topic, partition) = place.split_once(' ').unwrap();
        let replies = routes.partition(topic, partition.parse().unwrap()).await;
        let answer = async {
            let request = orders.read_one(offset).await;
            replies.write_batch(vec![reply(&request)]).await;
        };
        let (ended, ()) = tokio::join!(ask(&routes, "orders").run(), answer);
        let texts: Vec<_> = texts
            .iter()
            .map(|text| text.replace("REPLIES", &replies_name).replace("ORDERS", &orders_name))
            .collect();
        assert_says(&ended, 2, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(ended.stdout.starts_with("POST /orders/1, id "), "{ended:?}");
    }
}

pub(crate) async fn ask_without_a_service_says_that_none_is_there(engine: &Engine) {
    let routes = RoutesFile::new(engine.brokers().await, ROUTES);
    for topic in ["orders", "replies", "events"] {
        routes.create(topic, 1).await;
    }
    let orders: Topic = routes.topic("orders").await;
    let setup = ask(&routes, "orders").arg("--group=nobody").arg("--timeout=300ms");
    let ended = setup.run().await;
    assert_says(
        &ended,
        2,
        &[
            &format!("no reply came to {}/0 within 300ms", routes.name("replies")),
            &format!("no worker announced topic {}", routes.name("orders")),
            "group \"nobody\" has no committed offset",
        ],
    );
    assert_eq!(orders.end().await, 1, "one request");

    let ended = ask(&routes, "events").arg("--data=e").run().await;
    assert_says(
        &ended,
        0,
        &["no reply is awaited", "stored: all in-sync replicas have the record"],
    );
    let event = routes.topic("events").await.read_one(0).await;
    assert_eq!(event.value.as_deref(), Some(&b"e"[..]));

    for (args, text) in [
        (&["--path=/order"][..], "its routes are POST /orders/{id}"),
        (
            &["--timeout=soon"],
            "--timeout: \"soon\" is not allowed: it must be a duration above zero",
        ),
        (&["--group"], "--group"),
    ] {
        let setup = args.iter().fold(ask(&routes, "orders"), |setup, arg| setup.arg(arg));
        assert_says(&setup.run().await, 64, &[text]);
    }
}

//! The first signal drains, the second ends at once.

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use e2e::{
    engine::Engine,
    http::{Connection, Next, get, post},
    nowhere::Nowhere,
    process::Process,
    scene::Scene,
    topic::record,
    wait::{SOON, until},
};
use futures_util::future::join_all;
use rskafka::record::Record;
use rustix::process::Signal;
use serde_json::json;
use tokio::time::{Instant, interval, sleep_until};
use uuid::Uuid;

/// How long the gateway keeps idle connections when it drains. A request that comes later than this after the signal may find its
/// connection closed, however soon after an answer it was sent: on a busy machine somebody may have been slow.
const LAST_CALL: Duration = Duration::from_millis(250);

/// What ends within this has not waited for the default of `DRAIN_TIMEOUT`, 8 s.
const BEFORE_THE_DEFAULT: Duration = Duration::from_secs(7);

async fn refused(gateway: &Process) {
    until("new connections are refused", SOON, async || {
        Connection::open(gateway.http()).await.is_err().then_some(())
    })
    .await;
}

/// Asks again and again on one connection until it is told that an answer was the last.
async fn ask_until_closed(gateway: &Process, name: usize, answered: &Cell<u32>, signalled: &Cell<Option<Instant>>) {
    let mut connection = gateway.connect().await;
    for turn in 0.. {
        let value = format!("turn {turn}");
        let body = json!({ "name": format!("caller {name}"), "value": value }).to_string();
        let sent = connection.send(post("/ping", body)).await;
        match connection.next().await {
            Next::Answer(answer) => {
                assert!(answer.message().starts_with(&format!("caller {name} {value} ( ")));
                answered.set(answered.get() + 1);
                if answer.header("connection") == Some("close") {
                    assert!(matches!(connection.next().await, Next::Closed));
                    return;
                }
            }
            Next::Closed if signalled.get().is_some_and(|it| it.elapsed() > LAST_CALL) => return,
            other => panic!("a request was cut off: {sent:?}, {other:?}"),
        }
    }
}

pub(crate) async fn of_a_gateway_under_load_cuts_nobody_off(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (mut gateway, _worker) = scene.pair().await;

    let (answered, told) = (Cell::new(0), Cell::new(None));
    let callers = (0..16).map(|name| ask_until_closed(&gateway, name, &answered, &told));
    let signalled = async {
        until("the load is on", SOON, async || (answered.get() > 500).then_some(())).await;
        let signalled = Instant::now();
        told.set(Some(signalled));
        gateway.signal(Signal::TERM);
        refused(&gateway).await;
        signalled
    };
    let (_, signalled) = tokio::join!(join_all(callers), signalled);

    assert_eq!(gateway.exit(Duration::from_secs(9)).await, 0);
    assert!(
        signalled.elapsed() < Duration::from_secs(9),
        "{:?}",
        signalled.elapsed()
    );
}

/// A request that is under way when the gateway begins to drain is not met by a closed connection.
pub(crate) async fn of_a_gateway_listens_for_last_requests(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (mut gateway, _worker) = scene.pair().await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut connection = gateway.connect().await;
        assert_eq!(connection.ask(get("/ping")).await.status, 200);
        idle.push(connection);
    }

    let mut ticks = interval(LAST_CALL / 50);
    let signalled = Instant::now();
    gateway.signal(Signal::TERM);
    for connection in &mut idle {
        ticks.tick().await;
        let sent = connection.send(get("/ping")).await;
        match connection.next().await {
            Next::Answer(answer) => assert_eq!(answer.status, 200),
            Next::Closed if signalled.elapsed() > LAST_CALL => break,
            other => panic!("{sent:?}, {other:?} after {:?}", signalled.elapsed()),
        }
    }
    assert_eq!(gateway.exit(SOON).await, 0);
}

/// The same where the machine stands still meanwhile: what was sent in time is not met by a closed connection either.
pub(crate) async fn of_a_gateway_that_was_stopped_listens_for_last_requests(engine: &Engine) {
    loop {
        let scene = Scene::shared(engine).await;
        let (mut gateway, _worker) = scene.pair().await;
        let idle = (0..20).map(async |_| {
            let mut connection = gateway.connect().await;
            assert_eq!(connection.ask(get("/ping")).await.status, 200);
            connection
        });
        let mut idle = join_all(idle).await;

        let signalled = Instant::now();
        gateway.signal(Signal::TERM);
        refused(&gateway).await;
        gateway.signal(Signal::STOP);
        // On a busy machine the last call may be over by then.
        if signalled.elapsed() > LAST_CALL {
            continue;
        }
        for connection in &mut idle {
            connection.send(get("/ping")).await.unwrap();
        }
        sleep_until(signalled + 2 * LAST_CALL).await;
        gateway.signal(Signal::CONT);
        let answers = idle.iter_mut().map(async |it| it.answer().await.status);
        assert_eq!(join_all(answers).await, [200; 20]);
        assert_eq!(gateway.exit(SOON).await, 0);
        return;
    }
}

/// Connected, and as far as they know taken: more than a turn of the runtime has time for.
pub(crate) async fn of_a_gateway_answers_all_in_the_backlog(engine: &Engine) {
    let mut gateway = Scene::shared(engine).await.gateway().start().await;

    gateway.signal(Signal::STOP);
    let connecting = (0..500).map(async |_| {
        let mut connection = Connection::open(gateway.http()).await.unwrap();
        connection.send(get("/")).await.unwrap();
        connection
    });
    let connected = join_all(connecting).await;
    gateway.signal(Signal::TERM);
    gateway.signal(Signal::CONT);
    let answers = connected.into_iter().map(async |mut it| it.answer().await.status);
    assert_eq!(join_all(answers).await, vec![404; 500]);
    assert_eq!(gateway.exit(Duration::from_secs(9)).await, 0);
}

pub(crate) async fn of_a_gateway_waits_for_the_replies(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let mut gateway = scene.gateway().set("DRAIN_TIMEOUT", "60s").ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    let mut callers = Vec::new();
    for _ in 0..5 {
        let mut caller = gateway.connect().await;
        caller.send(get("/ping")).await.unwrap();
        callers.push(caller);
    }
    let mut idle = gateway.connect().await;
    assert_eq!(idle.ask(get("/")).await.status, 404);
    let requests = ping.read(0, 5).await;

    gateway.signal(Signal::TERM);
    refused(&gateway).await;
    assert!(matches!(idle.next().await, Next::Closed));
    let (status, body) = gateway.page("/ready").await;
    assert_eq!(
        (status, body.as_str()),
        (503, r#"{"causes":{"serving":"shutting down"},"ready":false}"#)
    );
    assert_eq!(gateway.metric("gateway_in_flight").await, 5);

    pong.write_batch(
        requests
            .into_iter()
            .map(|it| record(it.record.key.as_deref(), Some(b"at last")))
            .collect(),
    )
    .await;
    for mut caller in callers {
        let answer = caller.answer().await;
        assert_eq!(answer.message(), "at last");
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(matches!(caller.next().await, Next::Closed));
    }
    assert_eq!(gateway.exit(SOON).await, 0);
}

pub(crate) async fn of_a_gateway_has_an_end(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let mut gateway = scene.gateway().set("DRAIN_TIMEOUT", "1s").ready().await;
    let mut stuck = gateway.connect().await;
    stuck.send(get("/ping")).await.unwrap();
    let mut half_sent = gateway.connect().await;
    half_sent
        .send("POST /ping HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n{")
        .await
        .unwrap();
    gateway.until_metric("gateway_in_flight", 1).await;

    let start = Instant::now();
    gateway.signal(Signal::TERM);
    let answer = stuck.answer().await;
    let waited = start.elapsed();

    assert_eq!(answer.error(), (503, "shutting down".to_owned()));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(
        (Duration::from_millis(900)..BEFORE_THE_DEFAULT).contains(&waited),
        "{waited:?}"
    );
    assert_eq!(gateway.exit(SOON).await, 0);
}

pub(crate) async fn is_at_once_at_the_second_signal(engine: &Engine) {
    for (first, second, code) in [
        (Signal::TERM, Signal::TERM, 143),
        (Signal::INT, Signal::INT, 130),
        (Signal::TERM, Signal::INT, 130),
    ] {
        let scene = Scene::shared(engine).await;
        let mut gateway = scene.gateway().set("DRAIN_TIMEOUT", "10m").ready().await;
        let mut stuck = gateway.connect().await;
        stuck.send(get("/ping")).await.unwrap();
        gateway.until_metric("gateway_in_flight", 1).await;

        gateway.signal(first);
        gateway.logged("shutting down").await;
        gateway.signal(second);
        assert_eq!(gateway.exit(SOON).await, code);
    }
}

pub(crate) async fn of_an_idle_process_is_quick(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    for signal in [Signal::TERM, Signal::INT] {
        let (mut gateway, mut worker) = scene.pair().await;
        for process in [&mut gateway, &mut worker] {
            process.signal(signal);
            assert_eq!(process.exit(BEFORE_THE_DEFAULT).await, 0);
        }
    }
}

pub(crate) async fn without_kafka_is_quick_too() {
    let nowhere = Nowhere::reserve();
    let scene = Scene::at(&nowhere.addr());
    let (mut gateway, mut worker) = tokio::join!(scene.gateway().start(), scene.worker().start());
    for process in [&mut gateway, &mut worker] {
        process.signal(Signal::TERM);
        assert_eq!(process.exit(BEFORE_THE_DEFAULT).await, 0);
    }
}

pub(crate) async fn of_a_worker_under_load_answers_what_it_has_read(engine: &Engine) {
    Box::pin(end_under_load(engine, 2_000, 10)).await;
}

/// Large ones fill the outbox, so that the worker is often about to hand a reply in.
pub(crate) async fn of_a_worker_under_heavy_load_answers_what_it_has_read(engine: &Engine) {
    Box::pin(end_under_load(engine, 2, 300_000)).await;
}

/// Ends a worker while batches of so many requests, with words of so many bytes, come in without a pause.
async fn end_under_load(engine: &Engine, batch: usize, bytes: usize) {
    let scene = Scene::shared(engine).await;
    let mut worker = scene.worker().set("RUST_LOG", "info,worker=debug").ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());

    let enough = i64::try_from(3 * batch).unwrap();
    let words = "w".repeat(bytes);
    let stop = Cell::new(false);
    let load = async {
        while !stop.get() {
            ping.write_batch((0..batch).map(|_| request(&words)).collect()).await;
        }
    };
    let signalled = async {
        until("the load is on", SOON, async || {
            (pong.end().await > enough).then_some(())
        })
        .await;
        worker.signal(Signal::TERM);
        let code = worker.exit(Duration::from_secs(9)).await;
        stop.set(true);
        code
    };
    let ((), code) = tokio::join!(load, signalled);

    assert_eq!(code, 0);
    let read: BTreeSet<String> = worker.log().iter().filter_map(|line| received_id(line)).collect();
    let replies = pong.read_all().await;
    let count = replies.len();
    let answered: BTreeSet<String> = replies
        .into_iter()
        .map(|it| String::from_utf8(it.record.key.unwrap()).unwrap())
        .collect();
    assert_eq!(count, answered.len(), "none was answered twice");
    let unanswered: Vec<_> = read.difference(&answered).collect();
    assert!(unanswered.is_empty(), "read, but not answered: {unanswered:?}");
    assert_eq!(read.len(), count, "all that were read are in the log");
    assert!(!worker.log().iter().any(|it| it.contains("unanswered")));
}

fn request(words: &str) -> Record {
    let id = Uuid::new_v4().to_string();
    let value = json!({ "id": id, "name": "n", "value": words }).to_string();
    record(Some(id.as_bytes()), Some(value.as_bytes()))
}

/// The id in `Received message offset=… value={"id":"…`, in which quotes are escaped.
fn received_id(line: &str) -> Option<String> {
    let (_, received) = line.split_once("Received message")?;
    let (_, id) = received.split_once(r#"id\":\""#)?;
    Some(id.get(..36)?.to_owned())
}

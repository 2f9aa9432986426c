//! Workers say that they are there, so that gateways can say at once when nobody is.

use std::time::Duration;

use broker::Poison;
use e2e::{
    engine::Engine,
    http::get,
    kcat,
    process::Process,
    scene::Scene,
    topic::{Topic, create, record},
    wait::{SOON, until, until_eq},
};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::load::{assert_answered, open_loop};

/// An announcement each second, and three that are missed.
const SILENCE: Duration = Duration::from_secs(3);

async fn until_announced(pong: &Topic, count: usize) {
    until("announcements", SOON, async || {
        (pong.announcements().await >= count).then_some(())
    })
    .await;
}

async fn until_heard_of(gateway: &Process) {
    until("the worker is heard of", SOON, async || {
        let heard = gateway.metric("gateway_replies_total{kind=\"announcement\"}").await;
        (heard > 0).then_some(())
    })
    .await;
}

async fn refused(gateway: &Process) -> i64 {
    let series = "gateway_requests_total{outcome=\"no_worker\",status=\"503\"}";
    gateway.metric(series).await
}

pub(crate) async fn that_end_are_told_to_callers(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, worker) = scene.pair().await;
    until_heard_of(&gateway).await;

    let killed = Instant::now();
    worker.signal(Signal::KILL);
    gateway.logged("no worker has been heard of").await;
    // The last announcement may be a second old when the worker dies.
    let waited = killed.elapsed();
    assert!(waited >= SILENCE - Duration::from_millis(1_200), "{waited:?}");
    for _ in 0..3 {
        let asked = Instant::now();
        let answer = gateway.get("/ping").await;
        assert_eq!(answer.error(), (503, "no worker available".to_owned()));
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(asked.elapsed() < SILENCE, "{:?}", asked.elapsed());
    }
    assert_eq!(refused(&gateway).await, 3);
    // What the gateway itself can do, it can do.
    assert_eq!(gateway.page("/ready").await.0, 200);

    let _next = scene.worker().ready().await;
    gateway.logged("a worker is there again").await;
    assert_eq!(gateway.get("/ping").await.status, 200);
}

pub(crate) async fn bridge_a_restart(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    // A restart is a small part of it, and no queue to the gateway, which would say so.
    let gateway = scene.gateway().set("REPLY_TIMEOUT", "30s");
    let (gateway, mut worker) = tokio::join!(gateway.ready(), scene.worker().ready());

    let load = tokio::spawn(open_loop(gateway.http(), 100, Duration::from_secs(8)).run());
    until_announced(&scene.pong().await, 2).await;
    // The next announcement is due when it ends, and its place stays empty for as long as it may.
    sleep(Duration::from_millis(800)).await;
    let told = Instant::now();
    worker.signal(Signal::TERM);
    assert_eq!(worker.exit(SOON).await, 0);
    sleep(SILENCE - Duration::from_millis(800)).await;
    let _next = scene.worker().ready().await;
    until_eq("the next one answers", SOON, 200, async || {
        gateway.get("/ping").await.status
    })
    .await;
    let away = told.elapsed();
    let report = load.await.unwrap().unwrap();

    // On a machine that is too busy for a start in time, callers are told.
    let refusals: &[u16] = if away < SILENCE { &[] } else { &[503] };
    assert_answered(&report, refusals);
}

/// Whoever never announced itself is never judged by its silence.
pub(crate) async fn are_not_expected_of_strangers(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    let mut caller = gateway.connect().await;
    for offset in [0, 2] {
        caller.send(get("/ping")).await.unwrap();
        let key = ping.read_one(offset).await.key.unwrap();
        pong.write(Some(&key), Some(b"by hand")).await;
        assert_eq!(caller.answer().await.message(), "by hand");
        if offset == 0 {
            // It says nothing for longer than a worker may.
            let answer = caller.ask(get("/ping")).await;
            assert_eq!(answer.error(), (500, "timeout waiting for response".to_owned()));
        }
    }
    assert_eq!(refused(&gateway).await, 0);
}

pub(crate) async fn are_not_missed_while_kafka_is_away(engine: &Engine) {
    let cluster = engine.own_steady(1).await;
    let scene = Scene::on(&cluster);
    let gateway = scene.gateway().set("REPLY_TIMEOUT", "6s");
    let (gateway, _worker) = tokio::join!(gateway.ready(), scene.worker().ready());
    until_announced(&scene.pong().await, 2).await;

    cluster.pause().await;
    let paused = Instant::now();
    // Longer than any silence: a caller's whole wait, or until it is known that Kafka does not answer.
    until("enough time has passed", SOON, async || {
        let answer = gateway.get("/ping").await;
        assert_ne!(answer.status, 503, "{answer:?}");
        // Kafka may have answered the first one before it stopped.
        (answer.status == 500 && paused.elapsed() > 2 * SILENCE).then_some(())
    })
    .await;
    cluster.resume().await;

    until("requests are answered again", SOON, async || {
        let answer = gateway.get("/ping").await;
        assert_ne!(answer.status, 503, "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(refused(&gateway).await, 0);
}

/// Whatever is behind somebody's open transaction is not missing: it cannot be read yet.
pub(crate) async fn are_not_missed_behind_a_transaction(engine: &Engine) {
    const STALLS: &str = "gateway_kafka_tail_stalls_total";

    let cluster = engine.own_steady(1).await;
    let scene = Scene::on(&cluster);
    let (gateway, _worker) = scene.pair().await;
    until_heard_of(&gateway).await;

    // One request is sent and not refused while it is open.
    let held = async {
        gateway.until_metric("gateway_in_flight", 1).await;
        sleep(Duration::from_millis(1_500)).await;
    };
    let transaction = async {
        let pong = scene.pong_name();
        let Some(faults) = cluster.faults() else {
            let args = ["-X", "transactional.id=somebody", "-X", "linger.ms=0"];
            // More than kcat reads at a time.
            let lines = vec![vec![b'x'; 1_000]; 10];
            return kcat::write_held(scene.brokers(), pong, &args, &lines, held).await;
        };
        let (producer_id, commit) = (7, true);
        faults
            .append(pong, 0, Poison::OpenTransaction { producer_id }, 1)
            .unwrap();
        held.await;
        faults
            .append(pong, 0, Poison::Marker { producer_id, commit }, 1)
            .unwrap();
    };
    let caller = async {
        until("it is noticed", SOON, async || {
            (gateway.metric(STALLS).await > 0).then_some(())
        })
        .await;
        sleep(SILENCE + Duration::from_millis(1_500)).await;
        gateway.get("/ping").await
    };
    let ((), answer) = tokio::join!(transaction, caller);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(refused(&gateway).await, 0);
}

pub(crate) async fn can_be_left_out(engine: &Engine) {
    let (quiet, usual) = (Scene::shared(engine).await, Scene::shared(engine).await);
    let quiet_worker = quiet.worker().set("ANNOUNCE_INTERVAL", "0");
    let (_quiet, _usual, gateway) = tokio::join!(quiet_worker.ready(), usual.worker().ready(), quiet.gateway().ready());
    assert_eq!(gateway.get("/ping").await.status, 200);

    // The other one shows how much time has passed.
    until_announced(&usual.pong().await, 3).await;
    assert_eq!(quiet.pong().await.end().await, 1);
}

pub(crate) async fn go_where_gateways_listen_and_nowhere_else(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    create(scene.brokers(), scene.pong_name(), 3).await;
    let other = format!("pong-other-{}", Uuid::new_v4().simple());
    let foreign = Topic::open(scene.brokers(), &other).await;
    let _worker = scene.worker().ready().await;
    let value = json!({ "id": "id", "name": "n", "value": "v" }).to_string();
    let mut request = record(None, Some(value.as_bytes()));
    request.headers = [("kafka_replyTopic".to_owned(), other.into_bytes())].into();
    scene.ping().await.write_batch(vec![request]).await;
    foreign.read(0, 1).await;

    for partition in 0..3 {
        let pong = Topic::partition(scene.brokers(), scene.pong_name(), partition).await;
        until_announced(&pong, 3).await;
    }
    until_eq("the reply is all there is", SOON, 1, async || foreign.end().await).await;
    assert_eq!(foreign.announcements().await, 0);
}

//! Kafka goes away and comes back; the processes stay.

use std::time::Duration;

use e2e::{
    cluster::{Cluster, Habits},
    engine::Engine,
    http::get,
    process::Process,
    scene::Scene,
    wait::{SOON, until, within},
};
use libtest_mimic::Completion;
use rustix::process::Signal;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval},
};

/// What a caller may be told while Kafka is away.
const NOT_SENT: &str = "failed to send message to Kafka";
const TIMED_OUT: &str = "timeout waiting for response";

/// Asks until a request is answered; until then every one is refused in an orderly way.
async fn until_answered(gateway: &Process) {
    until("requests are answered again", SOON, async || {
        let answer = gateway.get("/ping").await;
        if answer.status == 200 {
            return Some(());
        }
        let (status, error) = answer.error();
        assert!(status == 500 && [NOT_SENT, TIMED_OUT].contains(&&*error), "{answer:?}");
        None
    })
    .await;
}

async fn all_is_well(gateway: &Process, worker: &Process) {
    until_answered(gateway).await;
    tokio::join!(gateway.until_ready(), worker.until_ready());
    for turn in 0..100 {
        let body = serde_json::json!({ "name": "turn", "value": turn.to_string() }).to_string();
        let message = gateway.post("/ping", body).await.message();
        assert!(message.starts_with(&format!("turn {turn} ( ")), "{message}");
    }
    gateway.until_metric("gateway_in_flight", 0).await;
}

pub(crate) async fn of_a_killed_broker_is_told_at_once_and_outlived(engine: &Engine) {
    let cluster = engine.own(1).await;
    let scene = Scene::on(&cluster);
    let (gateway, worker) = tokio::join!(
        // The first request after a start of Kafka may take seconds.
        scene.gateway().set("REPLY_TIMEOUT", "20s").ready(),
        scene.worker().ready()
    );
    all_is_well(&gateway, &worker).await;

    // Between two requests it goes unnoticed: once both are ready again, the first request is answered.
    cluster.kill(1).await;
    tokio::join!(gateway.until_unready(), worker.until_unready());
    cluster.start(1).await;
    tokio::join!(gateway.until_ready(), worker.until_ready());
    assert_eq!(gateway.get("/ping").await.status, 200);

    cluster.kill(1).await;
    until("a request is refused because Kafka is away", SOON, async || {
        let (status, error) = gateway.get("/ping").await.error();
        assert_eq!(status, 500);
        (error == NOT_SENT).then_some(())
    })
    .await;
    for process in [&gateway, &worker] {
        let causes = process.until_unready().await;
        assert!(causes.contains(scene.brokers()) || causes.contains("Kafka"), "{causes}");
        assert_eq!(process.page("/live").await.0, 200);
    }
    for _ in 0..10 {
        let start = Instant::now();
        assert_eq!(
            gateway.get("/ping").await.text(),
            r#"{"error":"failed to send message to Kafka"}"#
        );
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
    assert_eq!(gateway.metric("gateway_in_flight").await, 0);

    cluster.start(1).await;
    all_is_well(&gateway, &worker).await;
}

pub(crate) async fn of_a_stopped_broker_lets_nobody_wait_too_long(engine: &Engine) {
    let cluster = engine.own_steady(1).await;
    let scene = Scene::on(&cluster);
    let (gateway, worker) = tokio::join!(
        scene.gateway().set("REPLY_TIMEOUT", "5s").ready(),
        scene.worker().ready()
    );
    all_is_well(&gateway, &worker).await;

    cluster.pause().await;
    let mut ticks = interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopped = Instant::now();
    let mut callers = Vec::new();
    // Open loop: nobody waits for the answer of another.
    let asking = async {
        while stopped.elapsed() < Duration::from_secs(5) {
            ticks.tick().await;
            let addr = gateway.http();
            callers.push(tokio::spawn(async move {
                let start = Instant::now();
                let answer = e2e::http::ask(addr, get("/ping")).await;
                (answer, start.elapsed())
            }));
        }
    };
    asking.await;
    let (gateway_causes, worker_causes) = tokio::join!(gateway.until_unready(), worker.until_unready());
    for causes in [gateway_causes, worker_causes] {
        assert!(causes.contains("Kafka"), "{causes}");
    }
    for caller in callers {
        let (answer, waited) = caller.await.unwrap();
        let (status, error) = answer.error();
        assert!(status == 500 && [NOT_SENT, TIMED_OUT].contains(&&*error), "{answer:?}");
        assert!(waited < Duration::from_secs(10), "{waited:?}");
    }
    assert_eq!(gateway.metric("gateway_in_flight").await, 0);

    cluster.resume().await;
    all_is_well(&gateway, &worker).await;
}

/// More bytes wait than may, although there are places for callers.
pub(crate) async fn that_fills_the_outbox_is_told_at_once(engine: &Engine) {
    /// The outbox takes 16 MiB, which is 33 of them, and four are under way.
    const CALLERS: usize = 45;
    const PATIENCE: Duration = Duration::from_secs(8);

    let cluster = engine.own_steady(1).await;
    let scene = Scene::on(&cluster);
    let (gateway, worker) = tokio::join!(
        scene
            .gateway()
            .set("MAX_BODY", "512KiB")
            .set("REPLY_TIMEOUT", format!("{PATIENCE:?}"))
            .ready(),
        scene.worker().ready()
    );
    all_is_well(&gateway, &worker).await;

    cluster.pause().await;
    let body = serde_json::json!({ "name": "large", "value": "x".repeat(500_000) }).to_string();
    // A busy machine may take so long to read them that the first ones are given up before the last ones come.
    until("some of a crowd are refused", SOON, async || {
        let asked = (0..CALLERS).map(|_| async {
            let start = Instant::now();
            (gateway.post("/ping", body.clone()).await, start.elapsed())
        });
        let answers = futures_util::future::join_all(asked).await;
        let (refused, failed): (Vec<_>, Vec<_>) = answers.iter().partition(|(it, _)| it.status == 503);
        for (answer, waited) in &refused {
            assert_eq!(answer.error().1, "too many requests in flight");
            assert_eq!(answer.header("retry-after"), Some("1"));
            // Its own body has to be read first, among all the others.
            assert!(*waited < 2 * PATIENCE, "{waited:?}");
        }
        for (answer, _) in failed {
            let (status, error) = answer.error();
            assert!(status == 500 && [NOT_SENT, TIMED_OUT].contains(&&*error), "{answer:?}");
        }
        assert!(refused.len() < CALLERS, "{} refused", refused.len());
        (!refused.is_empty()).then_some(())
    })
    .await;

    cluster.resume().await;
    all_is_well(&gateway, &worker).await;
}

pub(crate) async fn at_the_start_is_waited_for(engine: &Engine) {
    let cluster = engine.own(1).await;
    let scene = Scene::on(&cluster);
    cluster.kill(1).await;

    let (gateway, worker) = tokio::join!(scene.gateway().start(), scene.worker().start());
    for process in [&gateway, &worker] {
        process.logged("not ready").await;
        assert_eq!(process.page("/live").await.0, 200);
        // An attempt that took too long has another cause; the next one has not.
        until("the cause is told", SOON, async || {
            let (status, body) = process.page("/ready").await;
            assert_eq!(status, 503);
            (body.contains(scene.brokers()) && body.contains("refused")).then_some(())
        })
        .await;
    }
    let answer = gateway.get("/ping").await;
    assert_eq!(answer.error(), (503, "not ready".to_owned()));

    cluster.start(1).await;
    tokio::join!(gateway.until_ready(), worker.until_ready());
    // Ready means it: the very first request is answered.
    assert_eq!(gateway.get("/ping").await.status, 200);
    all_is_well(&gateway, &worker).await;
}

pub(crate) async fn does_not_keep_a_process_from_its_end(engine: &Engine) {
    let cluster = engine.own_steady(1).await;
    let scene = Scene::on(&cluster);
    let (mut gateway, mut worker) = tokio::join!(
        scene
            .gateway()
            .set("REPLY_TIMEOUT", "1m")
            .set("DRAIN_TIMEOUT", "2s")
            .ready(),
        scene.worker().set("DRAIN_TIMEOUT", "2s").ready()
    );
    all_is_well(&gateway, &worker).await;

    cluster.pause().await;
    let mut stuck = gateway.connect().await;
    stuck.send(get("/ping")).await.unwrap();
    gateway.until_metric("gateway_in_flight", 1).await;
    let start = Instant::now();
    for process in [&gateway, &worker] {
        process.signal(Signal::TERM);
    }
    let (status, _) = stuck.answer().await.error();
    // Until the deadline of the drain, or until it is known that the request did not reach Kafka.
    assert!([500, 503].contains(&status), "{status}");
    for process in [&mut gateway, &mut worker] {
        assert_eq!(process.exit(Duration::from_secs(10)).await, 0);
    }
    // The drain, and nearly a second for the worker's last position. The default of a drain is 8 s.
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    cluster.resume().await;
}

/// Kafka does not say in time whether it has the record: it may, so its caller waits on, and it is not sent again.
pub(crate) async fn leaves_the_fate_of_a_record_open(engine: &Engine) {
    let cluster = engine.own_steady(1).await;
    let scene = Scene::on(&cluster);
    let (gateway, worker) = tokio::join!(
        scene.gateway().set("REPLY_TIMEOUT", "2m").ready(),
        scene.worker().ready()
    );
    all_is_well(&gateway, &worker).await;
    let ping = scene.ping().await;
    let before = ping.end().await;

    cluster.pause().await;
    let mut caller = gateway.connect().await;
    caller.send(get("/ping")).await.unwrap();
    until("the outbox gives up on its connection", SOON, async || {
        let causes = gateway.until_unready().await;
        causes.contains("\"outbox\"").then_some(())
    })
    .await;
    cluster.resume().await;

    assert_eq!(caller.answer().await.status, 200);
    assert_eq!(ping.end().await, before + 1);
    all_is_well(&gateway, &worker).await;
}

pub(crate) async fn of_a_leader_ends_with_the_next_leader(engine: &Engine) {
    let cluster = engine.own(3).await;
    let scene = Scene::on(&cluster);
    let (gateway, worker) = tokio::join!(
        scene.gateway().set("REPLY_TIMEOUT", "5s").ready(),
        scene.worker().ready()
    );
    all_is_well(&gateway, &worker).await;

    // It moves while the old one lives.
    for node in [1, 2] {
        lead(&cluster, &scene, node).await;
        all_is_well(&gateway, &worker).await;
    }
    // It dies.
    cluster.kill(2).await;
    all_is_well(&gateway, &worker).await;
    cluster.start(2).await;
    // It leaves in order.
    lead(&cluster, &scene, 3).await;
    all_is_well(&gateway, &worker).await;
    cluster.term(3).await;
    all_is_well(&gateway, &worker).await;
}

async fn lead(cluster: &Cluster, scene: &Scene, node: u32) {
    for topic in [scene.ping_name(), scene.pong_name()] {
        cluster.lead(topic, 0, node).await;
    }
}

/// Its connections stay open, and so do those over which it would tell who leads now.
pub(crate) async fn of_a_leader_that_hangs_ends_with_the_next_leader(engine: &Engine) -> Completion {
    if !engine.has_separate_nodes() {
        return Completion::ignored_with("this engine stops as a whole");
    }
    let cluster = engine.own(3).await;
    let scene = Scene::on(&cluster);
    let (gateway, worker) = tokio::join!(
        scene.gateway().set("REPLY_TIMEOUT", "5s").ready(),
        scene.worker().ready()
    );
    for node in 1..=3 {
        lead(&cluster, &scene, node).await;
        all_is_well(&gateway, &worker).await;
        cluster.pause_node(node).await;
        all_is_well(&gateway, &worker).await;
        cluster.resume_node(node).await;
        all_is_well(&gateway, &worker).await;
    }
    Completion::Completed
}

pub(crate) async fn of_idle_connections_goes_unnoticed(engine: &Engine) {
    let habits = Habits {
        max_idle: Some(Duration::from_secs(3)),
        ..Habits::STEADY
    };
    let cluster = engine.own_with(1, habits).await;
    let scene = Scene::on(&cluster);
    let (gateway, worker) = scene.pair().await;
    all_is_well(&gateway, &worker).await;

    // This connection is idle for a shorter time than those that the last request and its reply were written to.
    let mut idle = TcpStream::connect(scene.brokers()).await.unwrap();
    let closed = within("the broker closes idle connections", SOON, idle.read(&mut [0])).await;
    assert_eq!(closed.unwrap(), 0);

    assert_eq!(gateway.get("/ping").await.status, 200);
    assert_eq!(
        (gateway.page("/ready").await.0, worker.page("/ready").await.0),
        (200, 200)
    );
}

//! The only broker, or one of three, goes away in every way there is, and comes back.

use std::time::Duration;

use broker::{ApiKey, Faults};
use e2e::{
    cluster::{Cluster, Habits},
    process::Process,
    scene::Scene,
    wait::{SOON, until, within},
};
use futures_util::future::join_all;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    stage::{Common, Pair, Stage, opened},
    traffic::{Record, Traffic, Window},
    verdict::{Verdict, ms},
    watch::{Watch, twice},
};

const SECOND: Duration = Duration::from_secs(1);

/// What comes before a fault, to see that all is well.
const CALM: Duration = Duration::from_secs(3);

/// Lets a fault last, and compares the memory half-way with that at the end.
async fn endure(traffic: &Traffic, length: Duration, watch: &mut Watch<'_>, verdict: &mut Verdict) {
    for _ in 0..2 {
        traffic.run_for(length / 2).await;
        watch.look();
    }
    watch.judge_memory(verdict);
}

pub(crate) async fn killed(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = stage.engine.own(1).await;
    let pair = Pair::ready(&Scene::on(&cluster)).await;
    let rate = stage.rate(1, &pair.gateway).await;
    let mut watch = Watch::of(&pair.processes());
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(CALM).await;
    cluster.kill(1).await;
    endure(&traffic, 10 * SECOND, &mut watch, &mut verdict).await;
    let (open, ()) = tokio::join!(opened(cluster.brokers()), cluster.start(1));
    traffic.run_until(open + 10 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(&mut verdict);
    let after = record.due_from(open + 5 * SECOND);
    after.judge_share(&mut verdict, "from 5 s after the port opened", 0.999);
    let last = record.due_from(open).last_failure_after(open);
    verdict.note(format!("last failure {} after it; {}", ms(last), stage.load(1)));
    verdict.note(format!(
        "all: {}, longest {}",
        record.all().summary(),
        ms(record.all().longest())
    ));
    watch.judge(&mut verdict).await;
    verdict
}

pub(crate) async fn stopped(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = stage.engine.own(1).await;
    let pair = Pair::ready(&Scene::on(&cluster)).await;
    let rate = stage.rate(1, &pair.gateway).await;
    let mut watch = Watch::of(&pair.processes());
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(CALM).await;
    cluster.pause().await;
    endure(&traffic, 30 * SECOND, &mut watch, &mut verdict).await;
    let resumed = Instant::now();
    cluster.resume().await;
    traffic.run_until(resumed + 10 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(&mut verdict);
    let longest = record.all().longest();
    verdict.judge(
        longest <= Duration::from_millis(2_100),
        format!("longest wait {}", ms(longest)),
    );
    let after = record.due_from(resumed + 3 * SECOND);
    after.judge_share(&mut verdict, "from 3 s after SIGCONT", 0.999);
    let last = record.due_from(resumed).last_failure_after(resumed);
    verdict.note(format!(
        "last failure {} after it; {}; all: {}",
        ms(last),
        stage.load(1),
        record.all().summary()
    ));
    watch.judge(&mut verdict).await;
    verdict
}

pub(crate) async fn absent_at_the_start(stage: &Stage<'_>) -> Verdict {
    absent(stage, 1).await
}

pub(crate) async fn all_absent_at_the_start(stage: &Stage<'_>) -> Verdict {
    absent(stage, 3).await
}

async fn absent(stage: &Stage<'_>, nodes: u32) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = stage.engine.own(nodes).await;
    let scene = Scene::on(&cluster);
    join_all((1..=nodes).map(|node| cluster.kill(node))).await;
    let start = Instant::now();
    let (gateway, worker) = tokio::join!(scene.gateway().common().start(), scene.worker().start());
    let pair = Pair { gateway, worker };
    for process in [&pair.gateway, &pair.worker] {
        let (live, ready) = (process.page("/live").await.0, process.page("/ready").await.0);
        verdict.judge(
            (live, ready) == (200, 503),
            format!(
                "{}: /live {live}, /ready {ready} after {}",
                process.name(),
                ms(start.elapsed())
            ),
        );
    }
    verdict.judge(start.elapsed() < SECOND, format!("live after {}", ms(start.elapsed())));
    sleep(CALM).await;
    let ready = async |open: Instant| {
        pair.until_ready().await;
        open.elapsed()
    };
    let answered = async {
        let open = opened(cluster.brokers()).await;
        ready(open).await
    };
    // At once: one node alone does not answer.
    let started = join_all((1..=nodes).map(|node| cluster.start(node)));
    let (ready, _) = tokio::join!(answered, started);
    let ports = if nodes == 1 { "the port" } else { "the last port" };
    verdict.judge(ready <= 3 * SECOND, format!("ready {} after {ports} opened", ms(ready)));
    // Connections to Kafka come with it.
    twice(&pair.processes(), &mut verdict, async |verdict| {
        let traffic = Traffic::start(pair.gateway.http(), 500.0);
        traffic.run_for(2 * SECOND).await;
        let record = traffic.finish().await;
        record.judge_answers(verdict);
        record.all().judge_share(verdict, "once ready", 1.0);
    })
    .await;
    verdict
}

pub(crate) async fn idle(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let habits = Habits {
        max_idle: Some(10 * SECOND),
        ..Habits::default()
    };
    let cluster = stage.engine.own_with(1, habits).await;
    let pair = Pair::ready(&Scene::on(&cluster)).await;
    // The first minutes of a JVM are slow.
    stage.rate(1, &pair.gateway).await;
    twice(&pair.processes(), &mut verdict, async |verdict| {
        assert_eq!(pair.gateway.get("/ping").await.status, 200);
        // This connection is idle for a shorter time than those that the last request and its reply were written to.
        let mut probe = TcpStream::connect(cluster.brokers()).await.unwrap();
        let closed = within("the broker closes idle connections", SOON, probe.read(&mut [0])).await;
        assert_eq!(closed.unwrap(), 0);
        let mut connection = pair.gateway.connect().await;
        let start = Instant::now();
        let status = connection.ask(e2e::http::get("/ping")).await.status;
        let time = start.elapsed();
        verdict.judge(
            status == 200 && time <= Duration::from_millis(50),
            format!("{status} in {}", ms(time)),
        );
    })
    .await;
    verdict
}

/// Both topics led by one node.
async fn lead(cluster: &Cluster, scene: &Scene, node: u32) {
    for topic in [scene.ping_name(), scene.pong_name()] {
        cluster.lead(topic, 0, node).await;
    }
}

/// The nodes that lead in five rounds.
const ROUNDS: [u32; 5] = [1, 2, 3, 1, 2];

/// How a leader goes.
#[derive(Clone, Copy)]
enum End {
    Kill,
    Term,
}

/// Ends the leader five times under load; `judge` sees the requests from each end on, up to the node's return.
async fn five_times(
    stage: &Stage<'_>,
    end: End,
    watched: Duration,
    mut judge: impl FnMut(&mut Verdict, &Record, Instant, Instant),
) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = stage.engine.own(3).await;
    let scene = Scene::on(&cluster);
    let pair = Pair::ready(&scene).await;
    lead(&cluster, &scene, 1).await;
    let rate = stage.rate(3, &pair.gateway).await;
    verdict.note(stage.load(3));
    let mut watch = Watch::of(&pair.processes());
    let traffic = Traffic::start(pair.gateway.http(), rate);
    let mut windows = Vec::new();
    for node in ROUNDS {
        lead(&cluster, &scene, node).await;
        traffic.run_for(CALM).await;
        let from = Instant::now();
        match end {
            End::Kill => cluster.kill(node).await,
            End::Term => cluster.term(node).await,
        }
        traffic.run_until(from + watched).await;
        windows.push((from, Instant::now()));
        watch.look();
        cluster.start(node).await;
    }
    traffic.run_for(CALM).await;
    watch.judge_memory(&mut verdict);
    let record = traffic.finish().await;
    record.judge_answers(&mut verdict);
    for (from, to) in windows {
        judge(&mut verdict, &record, from, to);
    }
    verdict.note(format!(
        "with the returns of the nodes, all: {}",
        record.all().summary()
    ));
    watch.judge(&mut verdict).await;
    verdict
}

pub(crate) async fn leader_killed(stage: &Stage<'_>) -> Verdict {
    five_times(stage, End::Kill, 10 * SECOND, |verdict, record, from, to| {
        let last = record.due(from, to).last_failure_after(from);
        record.due(from + 6 * SECOND, to).judge_share(
            verdict,
            &format!("last failure {} after the kill, from 6 s on", ms(last)),
            0.999,
        );
    })
    .await
}

pub(crate) async fn leader_terminated(stage: &Stage<'_>) -> Verdict {
    five_times(stage, End::Term, 10 * SECOND, |verdict, record, from, to| {
        let window = record.due(from, to);
        let failing = window.failing();
        verdict.judge(
            failing <= 2 * SECOND,
            format!("failing for {} ({})", ms(failing), failures(window)),
        );
    })
    .await
}

fn failures(window: Window<'_>) -> String {
    format!(
        "{} of {} failed: {}",
        window.total() - window.ok(),
        window.total(),
        window.summary()
    )
}

pub(crate) async fn leader_hangs(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = stage.engine.own(3).await;
    let scene = Scene::on(&cluster);
    let pair = Pair::ready(&scene).await;
    lead(&cluster, &scene, 1).await;
    let rate = stage.rate(3, &pair.gateway).await;
    verdict.note(stage.load(3));
    let mut watch = Watch::of(&pair.processes());
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(CALM).await;
    let stopped = Instant::now();
    cluster.pause_node(1).await;
    endure(&traffic, 30 * SECOND, &mut watch, &mut verdict).await;
    let resumed = Instant::now();
    cluster.resume_node(1).await;
    traffic.run_until(resumed + 15 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(&mut verdict);
    let within = record.due(stopped, resumed);
    let last = within.last_failure_after(stopped);
    record.due(stopped + 8 * SECOND, resumed).judge_share(
        &mut verdict,
        &format!("last failure {} into the stop, from 8 s on", ms(last)),
        0.999,
    );
    let after = record.due_from(resumed);
    verdict.judge(
        after.failing() <= 2 * SECOND,
        format!(
            "after SIGCONT failing for {} ({})",
            ms(after.failing()),
            failures(after)
        ),
    );
    watch.judge(&mut verdict).await;
    verdict
}

pub(crate) async fn leader_moves(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = stage.engine.own(3).await;
    let scene = Scene::on(&cluster);
    let pair = Pair::ready(&scene).await;
    lead(&cluster, &scene, 1).await;
    let rate = stage.rate(3, &pair.gateway).await;
    verdict.note(stage.load(3));
    twice(&pair.processes(), &mut verdict, async |verdict| {
        move_leaders(&pair, &cluster, &scene, rate, verdict).await;
    })
    .await;
    for process in [&pair.gateway, &pair.worker] {
        let count = reconnects(process).await;
        verdict.judge(
            count > 0 || cluster.faults().is_none(),
            format!("{} reconnected {count} times", process.name()),
        );
    }
    verdict
}

/// Once round the nodes, each topic by itself.
async fn move_leaders(pair: &Pair, cluster: &Cluster, scene: &Scene, rate: f64, verdict: &mut Verdict) {
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(CALM).await;
    let mut moves = Vec::new();
    for node in [2, 3, 1] {
        for topic in [scene.ping_name(), scene.pong_name()] {
            let from = Instant::now();
            cluster.lead(topic, 0, node).await;
            // Whoever connects anew meets metadata that are out of date.
            if let Some(faults) = cluster.faults() {
                break_links(faults, pair).await;
            }
            traffic.run_for(CALM).await;
            moves.push((from, Instant::now()));
        }
    }
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    for (from, to) in moves {
        let window = record.due(from, to);
        verdict.judge(
            window.failing() <= 2 * SECOND,
            format!("failing for {} ({})", ms(window.failing()), failures(window)),
        );
    }
}

/// How often a process has looked for a leader anew. What the Kafka client mends by itself is not counted.
async fn reconnects(process: &Process) -> i64 {
    let series = format!("{}_kafka_tail_reconnects_total", process.name());
    process.metric(&series).await
}

/// Breaks all connections, and each that is read on from now on, until both processes have given up the client's own
/// attempts at the leader it knows.
async fn break_links(faults: &Faults, pair: &Pair) {
    let processes = [&pair.gateway, &pair.worker];
    let before = join_all(processes.map(reconnects)).await;
    faults.drop_before(ApiKey::Fetch, Faults::ALWAYS);
    faults.disconnect();
    until("both connect anew", SOON, async || {
        let now = join_all(processes.map(reconnects)).await;
        now.iter().zip(&before).all(|(now, before)| now > before).then_some(())
    })
    .await;
    faults.drop_before(ApiKey::Fetch, 0);
}

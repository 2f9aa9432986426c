//! Faults of brokers: the only one, or one of three, is killed, shut down, paused, or missing at the start.

use std::time::Duration;

use broker::{ApiKey, Faults};
use e2e::{
    cluster::{Cluster, NodeSettings},
    fixture::Fixture,
    process::Process,
    wait::{WAIT_LIMIT, until, within},
};
use futures_util::future::join_all;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    fault::{Common, Fault, Pair, opened},
    invariants::{Watch, twice},
    traffic::{Record, Traffic, Window},
    verdict::{Verdict, ms},
};

const SECOND: Duration = Duration::from_secs(1);

/// The load before a fault, without failures.
const BEFORE_FAULT: Duration = Duration::from_secs(3);

/// How long a request may be in flight without a fault.
const MAX_LATENCY: Duration = Duration::from_millis(100);

/// Continues a fault, and compares the memory at the end with that in the middle.
async fn last_for(traffic: &Traffic, length: Duration, watch: &mut Watch<'_>, verdict: &mut Verdict) {
    for _ in 0..2 {
        traffic.run_for(length / 2).await;
        watch.sample();
    }
    watch.judge_memory(verdict);
}

pub(crate) async fn killed(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = fault.engine.own(1, NodeSettings::default()).await;
    let pair = Pair::ready(&Fixture::on(&cluster)).await;
    let rate = fault.rate(1, &pair.gateway).await;
    let mut watch = Watch::of(&pair.processes());
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(BEFORE_FAULT).await;
    cluster.kill(1).await;
    last_for(&traffic, 10 * SECOND, &mut watch, &mut verdict).await;
    let (open, ()) = tokio::join!(opened(cluster.brokers()), cluster.start(1));
    traffic.run_until(open + 10 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(&mut verdict);
    let after = record.due_from(open + 5 * SECOND);
    after.judge_share(&mut verdict, "from 5 s after the port opened", 0.999);
    let last = record.due_from(open).last_failure_after(open);
    verdict.note(format!("last failure {} after it; {}", ms(last), fault.load(1)));
    verdict.note(format!(
        "all: {}, longest {}",
        record.all().summary(),
        ms(record.all().longest())
    ));
    watch.judge(&mut verdict).await;
    verdict
}

pub(crate) async fn stopped(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = fault.engine.own(1, NodeSettings::default()).await;
    let pair = Pair::ready(&Fixture::on(&cluster)).await;
    let rate = fault.rate(1, &pair.gateway).await;
    let mut watch = Watch::of(&pair.processes());
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(BEFORE_FAULT).await;
    cluster.pause().await;
    last_for(&traffic, 30 * SECOND, &mut watch, &mut verdict).await;
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
        fault.load(1),
        record.all().summary()
    ));
    watch.judge(&mut verdict).await;
    verdict
}

pub(crate) async fn absent_at_the_start(fault: &Fault<'_>) -> Verdict {
    absent(fault, 1).await
}

pub(crate) async fn all_absent_at_the_start(fault: &Fault<'_>) -> Verdict {
    absent(fault, 3).await
}

async fn absent(fault: &Fault<'_>, nodes: u32) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = fault.engine.own(nodes, NodeSettings::default()).await;
    let fixture = Fixture::on(&cluster);
    join_all((1..=nodes).map(|node| cluster.kill(node))).await;
    let start = Instant::now();
    let (gateway, worker) = tokio::join!(fixture.gateway().common().start(), fixture.worker().start());
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
    sleep(BEFORE_FAULT).await;
    let ready = async |open: Instant| {
        pair.until_ready().await;
        open.elapsed()
    };
    let answered = async {
        let open = opened(cluster.brokers()).await;
        ready(open).await
    };
    // Together: without a quorum of controllers a node does not answer.
    let started = join_all((1..=nodes).map(|node| cluster.start(node)));
    let (ready, _) = tokio::join!(answered, started);
    let ports = if nodes == 1 { "the port" } else { "the last port" };
    verdict.judge(ready <= 3 * SECOND, format!("ready {} after {ports} opened", ms(ready)));
    // The load opens the connections to Kafka.
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

pub(crate) async fn idle(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let settings = NodeSettings {
        max_idle: Some(10 * SECOND),
        ..NodeSettings::default()
    };
    let cluster = fault.engine.own(1, settings).await;
    let pair = Pair::ready(&Fixture::on(&cluster)).await;
    // The measurement warms the JVM up.
    fault.rate(1, &pair.gateway).await;
    twice(&pair.processes(), &mut verdict, async |verdict| {
        assert_eq!(pair.gateway.get("/ping").await.status, 200);
        // Opened after the last request, so the broker closes it after those of gateway and worker.
        let mut probe = TcpStream::connect(cluster.brokers()).await.unwrap();
        let closed = within("the broker closes idle connections", WAIT_LIMIT, probe.read(&mut [0])).await;
        assert_eq!(closed.unwrap(), 0);
        let mut connection = pair.gateway.connect().await;
        let start = Instant::now();
        let status = connection.exchange(e2e::http::get("/ping")).await.status;
        let time = start.elapsed();
        verdict.judge(
            status == 200 && time <= Duration::from_millis(50),
            format!("{status} in {}", ms(time)),
        );
    })
    .await;
    verdict
}

/// Makes one node the leader of both topics.
async fn lead(cluster: &Cluster, fixture: &Fixture, node: u32) {
    for topic in [fixture.ping_name(), fixture.pong_name()] {
        cluster.lead(topic, 0, node).await;
    }
}

/// The leaders of the five rounds.
const ROUNDS: [u32; 5] = [1, 2, 3, 1, 2];

/// The end of a leader.
#[derive(Clone, Copy)]
enum End {
    Kill,
    Term,
}

/// Ends the leader five times under load. `judge` gets the time of each end and of the restart of the node.
async fn five_times(
    fault: &Fault<'_>,
    end: End,
    watched: Duration,
    mut judge: impl FnMut(&mut Verdict, &Record, Instant, Instant),
) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = fault.engine.own(3, NodeSettings::default()).await;
    let fixture = Fixture::on(&cluster);
    let pair = Pair::ready(&fixture).await;
    lead(&cluster, &fixture, 1).await;
    let rate = fault.rate(3, &pair.gateway).await;
    verdict.note(fault.load(3));
    let mut watch = Watch::of(&pair.processes());
    let traffic = Traffic::start(pair.gateway.http(), rate);
    let mut windows = Vec::new();
    for node in ROUNDS {
        lead(&cluster, &fixture, node).await;
        traffic.run_for(BEFORE_FAULT).await;
        let from = Instant::now();
        match end {
            End::Kill => cluster.kill(node).await,
            End::Term => cluster.term(node).await,
        }
        traffic.run_until(from + watched).await;
        windows.push((from, Instant::now()));
        watch.sample();
        cluster.start(node).await;
    }
    traffic.run_for(BEFORE_FAULT).await;
    watch.judge_memory(&mut verdict);
    let record = traffic.finish().await;
    record.judge_answers(&mut verdict);
    for (from, to) in windows {
        judge(&mut verdict, &record, from, to);
    }
    verdict.note(format!(
        "with the restarts of the nodes, all: {}",
        record.all().summary()
    ));
    watch.judge(&mut verdict).await;
    verdict
}

pub(crate) async fn leader_killed(fault: &Fault<'_>) -> Verdict {
    five_times(fault, End::Kill, 10 * SECOND, |verdict, record, from, to| {
        let last = record.due(from, to).last_failure_after(from);
        record.due(from + 6 * SECOND, to).judge_share(
            verdict,
            &format!("last failure {} after the kill, from 6 s on", ms(last)),
            0.999,
        );
    })
    .await
}

pub(crate) async fn leader_terminated(fault: &Fault<'_>) -> Verdict {
    five_times(fault, End::Term, 10 * SECOND, |verdict, record, from, to| {
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

pub(crate) async fn leader_hangs(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = fault.engine.own(3, NodeSettings::default()).await;
    let fixture = Fixture::on(&cluster);
    let pair = Pair::ready(&fixture).await;
    lead(&cluster, &fixture, 1).await;
    let rate = fault.rate(3, &pair.gateway).await;
    verdict.note(fault.load(3));
    let mut watch = Watch::of(&pair.processes());
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(BEFORE_FAULT).await;
    let stopped = Instant::now();
    cluster.pause_node(1).await;
    last_for(&traffic, 30 * SECOND, &mut watch, &mut verdict).await;
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

pub(crate) async fn leader_moves(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = fault.engine.own(3, NodeSettings::default()).await;
    let fixture = Fixture::on(&cluster);
    let pair = Pair::ready(&fixture).await;
    lead(&cluster, &fixture, 1).await;
    let rate = fault.rate(3, &pair.gateway).await;
    verdict.note(fault.load(3));
    twice(&pair.processes(), &mut verdict, async |verdict| {
        move_leaders(&pair, &cluster, &fixture, rate, verdict).await;
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

/// Moves the leader of each topic once round the nodes.
async fn move_leaders(pair: &Pair, cluster: &Cluster, fixture: &Fixture, rate: f64, verdict: &mut Verdict) {
    let traffic = Traffic::start(pair.gateway.http(), rate);
    traffic.run_for(BEFORE_FAULT).await;
    let mut moves = Vec::new();
    for node in [2, 3, 1] {
        for topic in [fixture.ping_name(), fixture.pong_name()] {
            let from = Instant::now();
            cluster.lead(topic, 0, node).await;
            // New connections then meet stale metadata.
            if let Some(faults) = cluster.faults() {
                break_connections(faults, pair).await;
            }
            traffic.run_for(BEFORE_FAULT).await;
            // Requests in flight at the next move may fail with it.
            moves.push((from, Instant::now() - MAX_LATENCY));
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

/// The number of times a process has looked up a leader again, without the retries inside the Kafka client.
async fn reconnects(process: &Process) -> i64 {
    let series = format!("{}_kafka_tail_reconnects_total", process.name());
    process.metric(&series).await
}

/// Breaks all connections, and every new one at its first fetch, until both processes look the leader up again.
async fn break_connections(faults: &Faults, pair: &Pair) {
    let processes = [&pair.gateway, &pair.worker];
    let before = join_all(processes.map(reconnects)).await;
    faults.drop_before(ApiKey::Fetch, Faults::ALWAYS);
    faults.disconnect();
    until("both look the leader up again", WAIT_LIMIT, async || {
        let now = join_all(processes.map(reconnects)).await;
        now.iter().zip(&before).all(|(now, before)| now > before).then_some(())
    })
    .await;
    faults.drop_before(ApiKey::Fetch, 0);
}

//! Gateways and workers are told to end while callers are there.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use bench::Fate;
use e2e::{
    http::{Connection, Next, get, post},
    process::{Process, Setup},
    scene::Scene,
    topic,
};
use rustix::process::Signal;
use serde_json::json;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use uuid::Uuid;

use crate::{
    stage::{Common, DRAIN_TIMEOUT, Pair, Stage},
    traffic::Traffic,
    verdict::{Verdict, ms},
    watch::{Watch, judge_log},
};

const SECOND: Duration = Duration::from_secs(1);

/// How late a process may be that has its deadline.
const GRACE: Duration = SECOND;

/// Waits for the end, and judges code and time.
async fn judge_exit(process: &mut Process, told: Instant, code: i32, within: Duration, verdict: &mut Verdict) {
    let ended = process.exit(within + 10 * SECOND).await;
    let took = told.elapsed();
    judge_log(process, verdict);
    verdict.judge(
        ended == code && took <= within,
        format!("exit code {ended} after {}", ms(took)),
    );
}

pub(crate) async fn under_load(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    let Pair { mut gateway, worker } = Pair::ready(&scene).await;
    let ping = scene.ping().await;
    let rate = stage.rate(1, &gateway).await;
    let watch = Watch::of(&[&worker]);
    let asked_before = ping.end().await;
    let addr = gateway.http();
    let traffic = Traffic::start(addr, rate);
    traffic.run_for(3 * SECOND).await;
    let told = Instant::now();
    gateway.signal(Signal::TERM);
    judge_exit(&mut gateway, told, 0, DRAIN_TIMEOUT + GRACE, &mut verdict).await;
    let refused = TcpStream::connect(addr).await.is_err();
    verdict.judge(refused, "new connections refused");
    let record = traffic.finish().await;
    record.judge_values(&mut verdict);
    // Below that it was no load to end under.
    let earlier = record.due(told - 3 * SECOND, told);
    earlier.judge_share(&mut verdict, "before it", 0.9);
    let cut = record
        .all()
        .entries()
        .filter(|it| it.fate == Fate::Cut && it.sent < told)
        .count();
    verdict.judge(cut == 0, format!("{cut} cut that were sent before it"));
    // On a kept connection that closes at the same moment a later request may meet the end. It was not in flight: whatever
    // Kafka has was.
    let taken = usize::try_from(ping.end().await - asked_before).unwrap();
    let answered = record.all().ok();
    verdict.judge(
        taken == answered,
        format!("{taken} requests taken, {answered} of them answered"),
    );
    let after = record.due_from(told);
    verdict.note(format!("{rate}/s, after it: {}", after.summary()));
    watch.judge(&mut verdict).await;
    verdict
}

/// Requests that the retrying clients send, and how many of them there are at a time.
const REQUESTS: u32 = 10_000;
const CLIENTS: u32 = 20;

/// One client: it knows both gateways, keeps a connection, and asks elsewhere when it is refused or cut off.
struct Client {
    gateways: Rc<[SocketAddr; 2]>,
    at: usize,
    kept: Option<Connection>,
}

// === impl Client ===

impl Client {
    /// One of three attempts succeeds; gives how many were needed.
    async fn ask(&mut self) -> Result<u32, String> {
        let mut seen = Vec::new();
        for attempt in 1..=3 {
            match timeout(5 * SECOND, self.attempt()).await {
                Ok(Ok(())) => return Ok(attempt),
                Ok(Err(why)) => seen.push(why),
                Err(_elapsed) => seen.push("no answer in 5 s".to_owned()),
            }
            self.kept = None;
            self.at += 1;
        }
        Err(seen.join(", then "))
    }

    async fn attempt(&mut self) -> Result<(), String> {
        let mut connection = match self.kept.take() {
            Some(connection) => connection,
            None => {
                let addr = self.gateways.iter().cycle().nth(self.at % 2).expect("there are two");
                Connection::open(*addr).await.map_err(|it| it.to_string())?
            }
        };
        let name = Uuid::new_v4().to_string();
        let question = post("/ping", json!({ "name": name, "value": "v" }).to_string());
        connection.send(question).await.map_err(|it| it.to_string())?;
        let answer = match connection.next().await {
            Next::Answer(answer) => answer,
            other => return Err(format!("{other:?}")),
        };
        if answer.status != 200 {
            return Err(format!("{} {}", answer.status, answer.text()));
        }
        let message = answer.message();
        assert!(message.starts_with(&format!("{name} v ( ")), "I2: {message}");
        if answer.header("connection") != Some("close") {
            self.kept = Some(connection);
        }
        Ok(())
    }
}

pub(crate) async fn rolling_restart(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    let (first, second, worker) = tokio::join!(
        scene.gateway().common().ready(),
        scene.gateway().common().ready(),
        scene.worker().ready()
    );
    let watch = Watch::of(&[&worker]);
    let gateways = Rc::new([first.http(), second.http()]);
    let clients = tokio::task::LocalSet::new();
    let mut asking = JoinSet::new();
    let begun = Instant::now();
    for number in 0..CLIENTS {
        let gateways = Rc::clone(&gateways);
        let ask = async move {
            let mut client = Client {
                gateways,
                at: number as usize,
                kept: None,
            };
            // 10,000 requests in ten seconds, over both restarts.
            let mut ticks = interval(SECOND * 10 / (REQUESTS / CLIENTS));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut results = Vec::new();
            for _ in 0..REQUESTS / CLIENTS {
                ticks.tick().await;
                results.push(client.ask().await);
            }
            results
        };
        asking.spawn_local_on(ask, &clients);
    }
    let restarts = async {
        let mut took = Vec::new();
        let mut gateways = Vec::new();
        for (mut old, due) in [(first, 2), (second, 6)] {
            tokio::time::sleep_until(begun + due * SECOND).await;
            let addr = old.http();
            let told = Instant::now();
            old.signal(Signal::TERM);
            let code = old.exit(20 * SECOND).await;
            let new = scene
                .gateway()
                .common()
                .set("HTTP_ADDR", addr.to_string())
                .ready()
                .await;
            took.push((code, told.elapsed()));
            gateways.push((old, new));
        }
        (took, gateways)
    };
    let (took, gateways) = clients.run_until(restarts).await;
    let results: Vec<_> = clients
        .run_until(asking.join_all())
        .await
        .into_iter()
        .flatten()
        .collect();
    let failures: Vec<_> = results.iter().filter_map(|it| it.as_ref().err()).collect();
    let retried = results.iter().filter(|it| matches!(it, Ok(2..))).count();
    verdict.judge(
        failures.is_empty() && results.len() == REQUESTS as usize,
        format!(
            "{} failures in {} requests{}",
            failures.len(),
            results.len(),
            failures
                .first()
                .map_or_else(String::new, |it| format!(", such as {it}"))
        ),
    );
    verdict.note(format!("{retried} asked a second time"));
    for (code, time) in took {
        verdict.judge(code == 0, format!("exit code {code}, ready again after {}", ms(time)));
    }
    verdict.judge(begun.elapsed() >= 8 * SECOND, format!("over {}", ms(begun.elapsed())));
    for (old, new) in &gateways {
        judge_log(old, &mut verdict);
        judge_log(new, &mut verdict);
    }
    watch.judge(&mut verdict).await;
    verdict
}

/// Asked per second while workers restart: what comes in the meantime must have room in the gateway.
const RESTART_RATE: f64 = 500.0;

/// Partitions of a group of two.
const PARTITIONS: i32 = 4;

pub(crate) async fn rolling_restart_of_workers(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let alone = Scene::shared(stage.engine).await;
    let worker = || alone.worker().set("DRAIN_TIMEOUT", "5s");
    let (gateway, only) = tokio::join!(alone.gateway().common().ready(), worker().ready());
    restart_in_turn(gateway, vec![only], worker, &mut verdict).await;

    let group = Scene::shared(stage.engine).await;
    topic::create(group.brokers(), group.ping_name(), PARTITIONS).await;
    let gateway = group.gateway().common().set("REQUEST_PARTITIONS", "all");
    let member = || group.member().set("DRAIN_TIMEOUT", "5s");
    let (gateway, one, two) = tokio::join!(gateway.ready(), member().ready(), member().ready());
    // A new group begins with what comes from then on.
    for worker in [&one, &two] {
        worker
            .until_metric("worker_partitions", i64::from(PARTITIONS) / 2)
            .await;
        worker.until_ready().await;
    }
    restart_in_turn(gateway, vec![one, two], member, &mut verdict).await;
    verdict
}

/// Under load each worker ends in order, and another one takes its place.
async fn restart_in_turn(gateway: Process, workers: Vec<Process>, setup: impl Fn() -> Setup, verdict: &mut Verdict) {
    let watch = Watch::of(&[&gateway]);
    let traffic = Traffic::start(gateway.http(), RESTART_RATE);
    let mut successors = Vec::new();
    for mut worker in workers {
        traffic.run_for(2 * SECOND).await;
        let told = Instant::now();
        worker.signal(Signal::TERM);
        judge_exit(&mut worker, told, 0, DRAIN_TIMEOUT + GRACE, verdict).await;
        successors.push(setup().ready().await);
        verdict.note(format!("ready again after {}", ms(told.elapsed())));
    }
    traffic.run_for(2 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    let (ok, total) = (record.all().ok(), record.all().total());
    let longest = record.all().latency(1.0, |_| true);
    verdict.judge(
        ok == total,
        format!("{RESTART_RATE}/s: {}, longest {}", record.all().summary(), ms(longest)),
    );
    for successor in &successors {
        judge_log(successor, verdict);
    }
    watch.judge(verdict).await;
}

/// A caller whom nobody answers, and longer to wait than the drain lasts.
async fn stuck(scene: &Scene) -> (Process, Connection) {
    let gateway = scene.gateway().common().set("REPLY_TIMEOUT", "60s").ready().await;
    let mut caller = gateway.connect().await;
    caller.send(get("/ping")).await.unwrap();
    gateway.until_metric("gateway_in_flight", 1).await;
    (gateway, caller)
}

pub(crate) async fn of_a_stuck_request(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;

    let (mut gateway, mut caller) = stuck(&scene).await;
    let told = Instant::now();
    gateway.signal(Signal::TERM);
    let (answer, ()) = tokio::join!(
        caller.answer(),
        judge_exit(&mut gateway, told, 0, DRAIN_TIMEOUT + GRACE, &mut verdict)
    );
    let (status, error) = answer.error();
    verdict.judge(status == 503, format!("the caller is told {status} {error}"));

    let (mut gateway, _caller) = stuck(&scene).await;
    let told = Instant::now();
    gateway.signal(Signal::TERM);
    gateway.logged("shutting down").await;
    gateway.signal(Signal::TERM);
    judge_exit(&mut gateway, told, 143, GRACE, &mut verdict).await;
    verdict
}

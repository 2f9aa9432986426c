//! Shutdowns and rolling restarts under load.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use bench::Outcome;
use e2e::{
    fixture::Fixture,
    http::{Connection, Next, get, post},
    process::{Process, Setup},
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
    fault::{Common, DRAIN_TIMEOUT, Fault, Pair},
    invariants::{Watch, judge_log},
    traffic::Traffic,
    verdict::{Verdict, ms},
};

const SECOND: Duration = Duration::from_secs(1);

/// The tolerance after a deadline.
const GRACE: Duration = SECOND;

/// Waits for the end, and judges the exit code and the time.
async fn judge_exit(process: &mut Process, signalled: Instant, code: i32, within: Duration, verdict: &mut Verdict) {
    let ended = process.exit(within + 10 * SECOND).await;
    let took = signalled.elapsed();
    judge_log(process, verdict);
    verdict.judge(
        ended == code && took <= within,
        format!("exit code {ended} after {}", ms(took)),
    );
}

pub(crate) async fn under_load(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let fixture = Fixture::shared(fault.engine).await;
    let Pair { mut gateway, worker } = Pair::ready(&fixture).await;
    let ping = fixture.ping().await;
    let rate = fault.rate(1, &gateway).await;
    let watch = Watch::of(&[&worker]);
    let end_before = ping.end().await;
    let addr = gateway.http();
    let traffic = Traffic::start(addr, rate);
    traffic.run_for(3 * SECOND).await;
    let signalled = Instant::now();
    gateway.signal(Signal::TERM);
    judge_exit(&mut gateway, signalled, 0, DRAIN_TIMEOUT + GRACE, &mut verdict).await;
    let refused = TcpStream::connect(addr).await.is_err();
    verdict.judge(refused, "new connections refused");
    let record = traffic.finish().await;
    record.judge_values(&mut verdict);
    // With less, there was no load to shut down under.
    let earlier = record.due(signalled - 3 * SECOND, signalled);
    earlier.judge_share(&mut verdict, "before it", 0.9);
    let cut = record
        .all()
        .entries()
        .filter(|entry| entry.outcome == Outcome::ConnectionClosed && entry.sent < signalled)
        .count();
    verdict.judge(cut == 0, format!("{cut} cut that were sent before it"));
    // A later request may meet the close of its idle connection. It was not in flight: Kafka does not have it.
    let taken = usize::try_from(ping.end().await - end_before).unwrap();
    let answered = record.all().ok();
    verdict.judge(
        taken == answered,
        format!("{taken} requests taken, {answered} of them answered"),
    );
    let after = record.due_from(signalled);
    verdict.note(format!("{rate}/s, after it: {}", after.summary()));
    watch.judge(&mut verdict).await;
    verdict
}

/// The requests of the retrying clients, and the number of clients.
const REQUESTS: u32 = 10_000;
const CLIENTS: u32 = 20;

/// A client of both gateways: it keeps a connection, and retries on the other gateway.
struct Client {
    gateways: Rc<[SocketAddr; 2]>,
    at: usize,
    kept: Option<Connection>,
}

// === impl Client ===

impl Client {
    /// Sends a request in up to three attempts, and returns the number of attempts.
    async fn send_with_retries(&mut self) -> Result<u32, String> {
        let mut seen = Vec::new();
        for attempt in 1..=3 {
            match timeout(5 * SECOND, self.attempt()).await {
                Ok(Ok(())) => return Ok(attempt),
                Ok(Err(why)) => seen.push(why),
                Err(_elapsed) => seen.push("no response in 5 s".to_owned()),
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
                Connection::open(*addr).await.map_err(|error| error.to_string())?
            }
        };
        let name = Uuid::new_v4().to_string();
        let question = post("/ping", json!({ "name": name, "value": "v" }).to_string());
        connection.send(question).await.map_err(|error| error.to_string())?;
        let response = match connection.next().await {
            Next::Response(response) => response,
            other => return Err(format!("{other:?}")),
        };
        if response.status != 200 {
            return Err(format!("{} {}", response.status, response.text()));
        }
        let message = response.message();
        assert!(message.starts_with(&format!("{name} v ( ")), "I2: {message}");
        if response.header("connection") != Some("close") {
            self.kept = Some(connection);
        }
        Ok(())
    }
}

pub(crate) async fn rolling_restart(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let fixture = Fixture::shared(fault.engine).await;
    let (first, second, worker) = tokio::join!(
        fixture.gateway().common().ready(),
        fixture.gateway().common().ready(),
        fixture.worker().ready()
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
            // All requests within ten seconds, during both restarts.
            let mut ticks = interval(SECOND * 10 / (REQUESTS / CLIENTS));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut results = Vec::new();
            for _ in 0..REQUESTS / CLIENTS {
                ticks.tick().await;
                results.push(client.send_with_retries().await);
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
            let signalled = Instant::now();
            old.signal(Signal::TERM);
            let code = old.exit(20 * SECOND).await;
            let new = fixture
                .gateway()
                .common()
                .set("HTTP_ADDR", addr.to_string())
                .ready()
                .await;
            took.push((code, signalled.elapsed()));
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
    let failures: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    let retried = results.iter().filter(|result| matches!(result, Ok(2..))).count();
    verdict.judge(
        failures.is_empty() && results.len() == REQUESTS as usize,
        format!(
            "{} failures in {} requests{}",
            failures.len(),
            results.len(),
            failures
                .first()
                .map_or_else(String::new, |failure| format!(", such as {failure}"))
        ),
    );
    verdict.note(format!("{retried} retried"));
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

/// Requests per second during restarts of workers: the requests of a restart must not reach `MAX_IN_FLIGHT`.
const RESTART_RATE: f64 = 500.0;

/// The partitions of a group of two members.
const PARTITIONS: i32 = 4;

pub(crate) async fn rolling_restart_of_workers(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let alone = Fixture::shared(fault.engine).await;
    let worker = || alone.worker().set("DRAIN_TIMEOUT", "5s");
    let (gateway, only) = tokio::join!(alone.gateway().common().ready(), worker().ready());
    restart_in_turn(gateway, vec![only], worker, &mut verdict).await;

    let group = Fixture::shared(fault.engine).await;
    topic::create(group.brokers(), group.ping_name(), PARTITIONS).await;
    let gateway = group.gateway().common().set("REQUEST_PARTITIONS", "all");
    let member = || group.member().set("DRAIN_TIMEOUT", "5s");
    let (gateway, one, two) = tokio::join!(gateway.ready(), member().ready(), member().ready());
    // A new group starts at the latest offsets.
    for worker in [&one, &two] {
        worker
            .until_metric("worker_partitions", i64::from(PARTITIONS) / 2)
            .await;
        worker.until_ready().await;
    }
    restart_in_turn(gateway, vec![one, two], member, &mut verdict).await;
    verdict
}

/// Shuts each worker down under load and starts the next one.
async fn restart_in_turn(gateway: Process, workers: Vec<Process>, setup: impl Fn() -> Setup, verdict: &mut Verdict) {
    let watch = Watch::of(&[&gateway]);
    let traffic = Traffic::start(gateway.http(), RESTART_RATE);
    let mut successors = Vec::new();
    for mut worker in workers {
        traffic.run_for(2 * SECOND).await;
        let signalled = Instant::now();
        worker.signal(Signal::TERM);
        judge_exit(&mut worker, signalled, 0, DRAIN_TIMEOUT + GRACE, verdict).await;
        successors.push(setup().ready().await);
        verdict.note(format!("ready again after {}", ms(signalled.elapsed())));
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

/// A gateway with a request in flight, whose timeout is longer than the drain.
async fn gateway_with_request_in_flight(fixture: &Fixture) -> (Process, Connection) {
    let gateway = fixture.gateway().common().set("REPLY_TIMEOUT", "60s").ready().await;
    let mut caller = gateway.connect().await;
    caller.send(get("/ping")).await.unwrap();
    gateway.until_metric("gateway_in_flight", 1).await;
    (gateway, caller)
}

pub(crate) async fn with_a_request_in_flight(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let fixture = Fixture::shared(fault.engine).await;

    let (mut gateway, mut caller) = gateway_with_request_in_flight(&fixture).await;
    let signalled = Instant::now();
    gateway.signal(Signal::TERM);
    let (response, ()) = tokio::join!(
        caller.response(),
        judge_exit(&mut gateway, signalled, 0, DRAIN_TIMEOUT + GRACE, &mut verdict)
    );
    let (status, error) = response.error();
    verdict.judge(status == 503, format!("the client gets {status} {error}"));

    let (mut gateway, _caller) = gateway_with_request_in_flight(&fixture).await;
    let signalled = Instant::now();
    gateway.signal(Signal::TERM);
    gateway.until_logged("shutting down").await;
    gateway.signal(Signal::TERM);
    judge_exit(&mut gateway, signalled, 143, GRACE, &mut verdict).await;
    verdict
}

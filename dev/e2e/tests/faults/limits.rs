//! Faults of the system: too few descriptors, and wrong clocks.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bench::Outcome;
use e2e::{
    binaries,
    fixture::Fixture,
    http::Connection,
    process::{Process, Setup},
    wait::{WAIT_LIMIT, until},
};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    fault::{Common, Fault, Pair, REPLY_TIMEOUT},
    invariants::twice,
    traffic::Traffic,
    verdict::{Verdict, ms},
};

const SECOND: Duration = Duration::from_secs(1);

/// The descriptors above those that are open.
const FEW: u64 = 64;

pub(crate) async fn descriptors(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let fixture = Fixture::shared(fault.engine).await;
    let (gateway, worker) = tokio::join!(
        fixture.gateway().common().max_descriptors(256).ready(),
        fixture.worker().ready()
    );
    let pair = Pair { gateway, worker };
    // Below the limit that the gateway has read at its start, it accepts fewer connections than that.
    twice(&pair.processes(), &mut verdict, async |verdict| {
        exhaust(&pair, verdict).await
    })
    .await;
    // This later limit is unknown to the gateway.
    let open = u64::try_from(pair.gateway.footprint().descriptors).unwrap();
    pair.gateway.limit_descriptors(open + FEW);
    twice(&pair.processes(), &mut verdict, async |verdict| {
        exhaust(&pair, verdict).await
    })
    .await;
    let is_logged = pair
        .gateway
        .log()
        .iter()
        .any(|line| line.contains("cannot accept a connection"));
    verdict.judge(is_logged, "connections could not be accepted");
    verdict
}

/// More clients than descriptors.
async fn exhaust(pair: &Pair, verdict: &mut Verdict) {
    let mut callers = Vec::new();
    for _ in 0..1_000 {
        // Connections that are not accepted wait in the backlog, which is bounded as well.
        if let Ok(Ok(caller)) = timeout(SECOND / 10, Connection::open(pair.gateway.http())).await {
            callers.push(caller);
        } else {
            break;
        }
    }
    let (start, cpu) = (Instant::now(), pair.gateway.footprint().cpu);
    sleep(3 * SECOND).await;
    let footprint = pair.gateway.footprint();
    let share = (footprint.cpu - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    verdict.judge(
        share < 0.3,
        format!(
            "{} connections, {} descriptors: {:.1} % of a core",
            callers.len(),
            footprint.descriptors,
            share * 100.0
        ),
    );
    drop(callers);
    let freed = Instant::now();
    let recovered = loop {
        let status = async {
            let mut caller = Connection::open(pair.gateway.http()).await.ok()?;
            Some(caller.exchange(e2e::http::get("/ping")).await.status)
        };
        match timeout(5 * SECOND, status).await {
            Ok(Some(200)) => break freed.elapsed(),
            _ if freed.elapsed() > 20 * SECOND => break freed.elapsed(),
            _ => sleep(SECOND / 100).await,
        }
    };
    verdict.judge(recovered <= 2 * SECOND, format!("200 after {}", ms(recovered)));
}

/// The library of the Debian package `faketime`, below a directory of the architecture.
fn libfaketime() -> Option<PathBuf> {
    let multiarch = std::fs::read_dir("/usr/lib").ok()?;
    multiarch
        .flatten()
        .map(|entry| entry.path().join("faketime/libfaketime.so.1"))
        .find(|path| path.exists())
}

/// Shifts the wall clock, not the monotonic one. Only a dynamic binary loads the library.
fn shifted(setup: Setup, dynamic: &Path, library: &Path, by: &str) -> Setup {
    setup
        .executable(dynamic)
        .set("LD_PRELOAD", library)
        .set("FAKETIME", by)
        .set("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

pub(crate) async fn clocks(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(library) = libfaketime() else {
        return Verdict::broken("libfaketime is not installed (Debian, Ubuntu: faketime)".to_owned());
    };
    let dynamic = match binaries::build_own() {
        Ok(dynamic) => dynamic,
        Err(error) => return Verdict::broken(error),
    };
    for (name, by) in [
        ("gateway", "+1h"),
        ("gateway", "-1h"),
        ("worker", "+1h"),
        ("worker", "-1h"),
    ] {
        let fixture = Fixture::shared(fault.engine).await;
        let (mut gateway, mut worker) = (fixture.gateway().common(), fixture.worker());
        if name == "gateway" {
            gateway = shifted(gateway, &dynamic.gateway, &library, by);
        } else {
            worker = shifted(worker, &dynamic.worker, &library, by);
        }
        let (gateway, worker) = tokio::join!(gateway.ready(), worker.ready());
        let pair = Pair { gateway, worker };
        let off = [&pair.gateway, &pair.worker].map(hour_of);
        verdict.invariant(off[0] != off[1], format!("the clocks of both say {off:?}"));
        twice(&pair.processes(), &mut verdict, async |verdict| {
            load_and_time_out(&pair, &format!("{name} {by}"), verdict).await;
        })
        .await;
    }
    for by in [None, Some("+1h"), Some("-1h")] {
        let fixture = Fixture::shared(fault.engine).await;
        let mut gateway = fixture.gateway().common().set("REPLY_TIMEOUT", "800ms");
        if let Some(by) = by {
            gateway = shifted(gateway, &dynamic.gateway, &library, by);
        }
        // Without heartbeats the gateway does not refuse callers while the worker is stopped.
        let worker = fixture.worker().set("ANNOUNCE_INTERVAL", "0");
        let (gateway, worker) = tokio::join!(gateway.ready(), worker.ready());
        let pair = Pair { gateway, worker };
        twice(&pair.processes(), &mut verdict, async |verdict| {
            skip_expired_backlog(&pair, by.unwrap_or("same clock"), verdict).await;
        })
        .await;
    }
    verdict
}

/// A load that is answered, then one that times out.
async fn load_and_time_out(pair: &Pair, shift: &str, verdict: &mut Verdict) {
    let traffic = Traffic::start(pair.gateway.http(), 500.0);
    traffic.run_for(2 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    let longest = ms(record.all().longest());
    record
        .all()
        .judge_share(verdict, &format!("{shift}: longest {longest}"), 1.0);

    pair.worker.signal(Signal::STOP);
    let traffic = Traffic::start(pair.gateway.http(), 200.0);
    traffic.run_for(2 * SECOND).await;
    let record = traffic.finish().await;
    pair.worker.signal(Signal::CONT);
    // The silence was longer than the presence limit.
    until("the worker is present", WAIT_LIMIT, async || {
        (pair.gateway.get("/ping").await.status == 200).then_some(())
    })
    .await;
    let all = record.all();
    let waits = || all.entries().map(|entry| entry.ended.duration_since(entry.sent));
    let (least, most) = (waits().min().unwrap_or_default(), waits().max().unwrap_or_default());
    let timed_out = record.all().count(|outcome| outcome == Outcome::Status(500));
    verdict.judge(
        timed_out == record.all().total()
            && least + Duration::from_millis(2) >= REPLY_TIMEOUT
            && most <= REPLY_TIMEOUT + SECOND / 10,
        format!("timeouts after {} to {}", ms(least), ms(most)),
    );
}

/// The worker finds a backlog of 3 s, with a reply timeout of 800 ms: it skips expired requests, and no others.
async fn skip_expired_backlog(pair: &Pair, shift: &str, verdict: &mut Verdict) {
    let skipped = async || {
        pair.worker
            .metric("worker_records_skipped_total{reason=\"expired\"}")
            .await
    };
    // The worker has to read requests at the end of the partition first.
    until("a request is answered", WAIT_LIMIT, async || {
        (pair.gateway.get("/ping").await.status == 200).then_some(())
    })
    .await;
    let skipped_before = skipped().await;
    pair.worker.signal(Signal::STOP);
    let stopped = Instant::now();
    let traffic = Traffic::start(pair.gateway.http(), 200.0);
    traffic.run_for(3 * SECOND).await;
    pair.worker.signal(Signal::CONT);
    let resumed = Instant::now();
    traffic.run_for(SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    let skipped = skipped().await - skipped_before;
    // The worker reads in order: it has judged every skipped request before the first one that is answered in time. The
    // bound is on the callers that had timed out by then, plus 50 ms until the timeout has reached the caller.
    let answers = record.due_from(stopped);
    let first_answer = answers
        .entries()
        .filter(|entry| entry.outcome == Outcome::Ok)
        .map(|entry| entry.ended)
        .min();
    let bound = first_answer.unwrap_or(resumed) + Duration::from_millis(50);
    let expired = record
        .all()
        .entries()
        .filter(|entry| entry.ended < bound && entry.outcome != Outcome::Ok)
        .count();
    verdict.judge(
        skipped > 0 && skipped <= i64::try_from(expired).unwrap_or(i64::MAX),
        format!("{shift}: {skipped} of {expired} expired requests skipped"),
    );
    // These have at least half of their time left when the worker goes on.
    record
        .due_from(resumed - Duration::from_millis(400))
        .judge_share(verdict, &format!("{shift}: unexpired"), 0.99);
}

/// Date and hour of the first line of the log.
fn hour_of(process: &Process) -> String {
    let log = process.log();
    log.first()
        .and_then(|line| line.get(..13))
        .unwrap_or_default()
        .to_owned()
}

//! Limits of the system: descriptors, and clocks that are wrong.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bench::Fate;
use e2e::{
    binaries,
    http::Connection,
    process::{Process, Setup},
    scene::Scene,
    wait::{SOON, until},
};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    stage::{Common, Pair, REPLY_TIMEOUT, Stage},
    traffic::Traffic,
    verdict::{Verdict, ms},
    watch::twice,
};

const SECOND: Duration = Duration::from_secs(1);

/// So many more descriptors than are open. After each such number of connections that are gone already the gateway pauses.
const FEW: u64 = 64;

pub(crate) async fn descriptors(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    let (gateway, worker) = tokio::join!(
        scene.gateway().common().max_descriptors(256).ready(),
        scene.worker().ready()
    );
    let pair = Pair { gateway, worker };
    // It knows its limit, and takes fewer connections than that.
    twice(&pair.processes(), &mut verdict, async |verdict| {
        crowd(&pair, verdict).await
    })
    .await;
    // Of this one it does not know.
    let open = u64::try_from(pair.gateway.footprint().descriptors).unwrap();
    pair.gateway.limit_descriptors(open + FEW);
    twice(&pair.processes(), &mut verdict, async |verdict| {
        crowd(&pair, verdict).await
    })
    .await;
    let complaint = pair
        .gateway
        .log()
        .iter()
        .any(|it| it.contains("cannot accept a connection"));
    verdict.judge(complaint, "connections could not be accepted");
    verdict
}

/// More callers than there are descriptors.
async fn crowd(pair: &Pair, verdict: &mut Verdict) {
    let mut callers = Vec::new();
    for _ in 0..1_000 {
        // What the server does not take waits in the kernel's backlog, which ends, too.
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
            Some(caller.ask(e2e::http::get("/ping")).await.status)
        };
        match timeout(5 * SECOND, status).await {
            Ok(Some(200)) => break freed.elapsed(),
            _ if freed.elapsed() > 20 * SECOND => break freed.elapsed(),
            _ => sleep(SECOND / 100).await,
        }
    };
    verdict.judge(recovered <= 2 * SECOND, format!("200 after {}", ms(recovered)));
}

/// The library that Debian's package `faketime` puts under a directory for each architecture.
fn libfaketime() -> Option<PathBuf> {
    let multiarch = std::fs::read_dir("/usr/lib").ok()?;
    multiarch
        .flatten()
        .map(|it| it.path().join("faketime/libfaketime.so.1"))
        .find(|it| it.exists())
}

/// Its wall clock is off; the monotonic one, which no setting of the clock moves, is not. A static binary would not load the
/// library.
fn shifted(setup: Setup, dynamic: &Path, library: &Path, by: &str) -> Setup {
    setup
        .executable(dynamic)
        .set("LD_PRELOAD", library)
        .set("FAKETIME", by)
        .set("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

pub(crate) async fn clocks(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(library) = libfaketime() else {
        return Verdict::broken("libfaketime is not installed (Debian, Ubuntu: faketime)".to_owned());
    };
    let dynamic = match binaries::build_own() {
        Ok(dynamic) => dynamic,
        Err(error) => return Verdict::broken(error),
    };
    for (who, by) in [
        ("gateway", "+1h"),
        ("gateway", "-1h"),
        ("worker", "+1h"),
        ("worker", "-1h"),
    ] {
        let scene = Scene::shared(stage.engine).await;
        let (mut gateway, mut worker) = (scene.gateway().common(), scene.worker());
        if who == "gateway" {
            gateway = shifted(gateway, &dynamic.gateway, &library, by);
        } else {
            worker = shifted(worker, &dynamic.worker, &library, by);
        }
        let (gateway, worker) = tokio::join!(gateway.ready(), worker.ready());
        let pair = Pair { gateway, worker };
        let off = [&pair.gateway, &pair.worker].map(hour_of);
        verdict.invariant(off[0] != off[1], format!("the clocks of both say {off:?}"));
        twice(&pair.processes(), &mut verdict, async |verdict| {
            ask_and_wait(&pair, &format!("{who} {by}"), verdict).await;
        })
        .await;
    }
    for by in [None, Some("+1h"), Some("-1h")] {
        let scene = Scene::shared(stage.engine).await;
        let mut gateway = scene.gateway().common().set("REPLY_TIMEOUT", "800ms");
        if let Some(by) = by {
            gateway = shifted(gateway, &dynamic.gateway, &library, by);
        }
        // Without heartbeats the gateway does not refuse callers while the worker is stopped.
        let worker = scene.worker().set("ANNOUNCE_INTERVAL", "0");
        let (gateway, worker) = tokio::join!(gateway.ready(), worker.ready());
        let pair = Pair { gateway, worker };
        twice(&pair.processes(), &mut verdict, async |verdict| {
            skip_expired_backlog(&pair, by.unwrap_or("same clock"), verdict).await;
        })
        .await;
    }
    verdict
}

/// The worker finds a backlog of 3 s, with a reply timeout of 800 ms: it skips expired requests, and no others.
async fn skip_expired_backlog(pair: &Pair, shift: &str, verdict: &mut Verdict) {
    let skipped = async || {
        pair.worker
            .metric("worker_records_skipped_total{reason=\"expired\"}")
            .await
    };
    // The worker has to read requests at the end of the partition first.
    until("a request is answered", SOON, async || {
        (pair.gateway.get("/ping").await.status == 200).then_some(())
    })
    .await;
    let skipped_before = skipped().await;
    pair.worker.signal(Signal::STOP);
    let traffic = Traffic::start(pair.gateway.http(), 200.0);
    traffic.run_for(3 * SECOND).await;
    pair.worker.signal(Signal::CONT);
    let resumed = Instant::now();
    traffic.run_for(SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    let skipped = skipped().await - skipped_before;
    // The oldest requests are skipped first, so the number of requests that had timed out by then is a bound.
    let expired = record.all().entries().filter(|entry| entry.ended < resumed).count();
    verdict.judge(
        skipped > 0 && skipped <= i64::try_from(expired).unwrap_or(i64::MAX),
        format!("{shift}: {skipped} of {expired} expired requests skipped"),
    );
    // These have at least half of their time left when the worker goes on.
    record
        .due_from(resumed - Duration::from_millis(400))
        .judge_share(verdict, &format!("{shift}: unexpired"), 0.99);
}

/// Callers who are answered, then callers who are not.
async fn ask_and_wait(pair: &Pair, shift: &str, verdict: &mut Verdict) {
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
    // It was silent for longer than a worker may be.
    until("the worker is back", SOON, async || {
        (pair.gateway.get("/ping").await.status == 200).then_some(())
    })
    .await;
    let all = record.all();
    let waits = || all.entries().map(|it| it.ended.duration_since(it.sent));
    let (least, most) = (waits().min().unwrap_or_default(), waits().max().unwrap_or_default());
    let told = record.all().count(|it| it == Fate::Status(500));
    verdict.judge(
        told == record.all().total()
            && least + Duration::from_millis(2) >= REPLY_TIMEOUT
            && most <= REPLY_TIMEOUT + SECOND / 10,
        format!("timeouts after {} to {}", ms(least), ms(most)),
    );
}

/// Date and hour of the first line of its log.
fn hour_of(process: &Process) -> String {
    let log = process.log();
    log.first().and_then(|it| it.get(..13)).unwrap_or_default().to_owned()
}

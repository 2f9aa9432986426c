//! Records that nobody can make sense of, between good ones, under load.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, time::Duration};

use bench::Fate;
use broker::{Faults, Poison};
use e2e::{kcat, process::Process, scene::Scene, topic::Topic};
use futures_util::future::join_all;
use tokio::time::{Instant, interval, sleep};
use uuid::Uuid;

use crate::{
    stage::{Pair, Stage, counted_up_to, replies as all_replies, sum},
    traffic::{Traffic, Window},
    verdict::{Verdict, ms},
    watch::twice,
};

const SECOND: Duration = Duration::from_secs(1);

/// So many of each kind.
const EACH: usize = 1_000;

/// Of the load while a tail is held up for up to a second: with more, all places of those who wait would be taken.
const GENTLE_RATE: f64 = 500.0;

/// Over so long, twice 50 MB/s of large values.
const SPREAD: Duration = Duration::from_secs(20);

/// Of a record.
type KeyAndValue = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The kinds of poison.
fn kinds() -> Vec<KeyAndValue> {
    let id = || Some(Uuid::new_v4().to_string().into_bytes());
    vec![
        (id(), Some(b"Ping".to_vec())),
        (None, Some(b"{}".to_vec())),
        (id(), None),
        (Some(b"no uuid".to_vec()), Some(b"[]".to_vec())),
        (id(), Some(vec![b'x'; 1_000_000])),
        (id(), Some(Vec::new())),
    ]
}

/// Writes all of a kind, spread over some seconds: what comes faster than a machine can read holds up whatever comes
/// behind it. Large ones go over several connections, each of which waits 40 ms for an acknowledgement of the system.
async fn write(topic: &str, brokers: &str, key: Option<&[u8]>, value: Option<&[u8]>) {
    let connections = if value.is_some_and(|it| it.len() > 1_000) { 4 } else { 1 };
    let lane = async || {
        let topic = Topic::open(brokers, topic).await;
        let mut ticks = interval(SPREAD * connections / u32::try_from(EACH).unwrap());
        for _ in 0..EACH / connections as usize {
            ticks.tick().await;
            topic.write(key, value).await;
        }
    };
    join_all((0..connections).map(|_| lane())).await;
}

pub(crate) async fn values(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    let pair = Pair::ready(&scene).await;
    twice(&pair.processes(), &mut verdict, async |verdict| {
        let skipped = async || sum(&pair.worker, "worker_records_skipped_total").await;
        let replies = async |kind: &str| sum(&pair.gateway, &format!("gateway_replies_total{{kind=\"{kind}")).await;
        let before = (
            skipped().await,
            replies("malformed").await,
            all_replies(&pair.gateway).await,
            replies("foreign").await,
        );
        let traffic = Traffic::start(pair.gateway.http(), GENTLE_RATE);
        let start = Instant::now();
        let writing = kinds().into_iter().flat_map(|(key, value)| {
            [scene.ping_name(), scene.pong_name()].map(|topic| {
                let (key, value) = (key.clone(), value.clone());
                let brokers = scene.brokers();
                async move { write(topic, brokers, key.as_deref(), value.as_deref()).await }
            })
        });
        join_all(writing).await;
        verdict.note(format!("written in {}", ms(start.elapsed())));
        traffic.run_for(2 * SECOND).await;
        let record = traffic.finish().await;
        record.judge_answers(verdict);
        record.all().judge_share(verdict, &format!("at {GENTLE_RATE}/s"), 0.999);
        verdict.note(format!("longest {}", ms(record.all().longest())));

        let [each, asked] = [EACH, record.all().ok()].map(|it| i64::try_from(it).unwrap());
        let bad = counted_up_to(6 * each, async || skipped().await - before.0).await;
        verdict.judge(bad == 6 * each, format!("worker skipped {bad} of {}", 6 * each));
        // Two of six kinds have no key of ours; the others answer nobody.
        let malformed = counted_up_to(2 * each, async || replies("malformed").await - before.1).await;
        verdict.judge(
            malformed == 2 * each,
            format!("gateway: {malformed} malformed of {}", 2 * each),
        );
        let all = counted_up_to(6 * each + asked, async || all_replies(&pair.gateway).await - before.2).await;
        // A reply that came too late for its caller is one of them.
        let late = i64::try_from(record.all().count(|it| it == Fate::Status(500))).unwrap();
        let others = all - malformed - asked;
        let foreign = replies("foreign").await - before.3;
        verdict.judge(
            foreign == 4 * each && others == foreign + late,
            format!("{foreign} foreign of {}", 4 * each),
        );
    })
    .await;
    verdict
}

/// How many records gateway and worker have skipped that they cannot decode.
async fn undecodable(pair: &Pair) -> [i64; 2] {
    let of = async |process: &Process| {
        let series = format!("{}_kafka_tail_records_undecodable_total", process.name());
        process.metric(&series).await
    };
    [of(&pair.gateway).await, of(&pair.worker).await]
}

/// Each of them has skipped exactly so many since then.
async fn judge_undecodable(pair: &Pair, before: [i64; 2], expected: i64, verdict: &mut Verdict) {
    let after = undecodable(pair).await;
    let skipped = after.into_iter().zip(before).map(|(after, before)| after - before);
    for (process, seen) in [&pair.gateway, &pair.worker].into_iter().zip(skipped) {
        verdict.judge(
            seen == expected,
            format!("{} skipped {seen} of {expected}", process.name()),
        );
    }
}

/// Nobody waited longer than the poison may take, and all were answered.
fn judge_skip(verdict: &mut Verdict, what: &str, window: Window<'_>) {
    let (ok, total, longest) = (window.ok(), window.total(), window.longest());
    verdict.judge(
        ok == total && total > 0 && longest <= SECOND,
        format!("{what}: longest wait {}, {ok} of {total} answered", ms(longest)),
    );
}

/// What comes behind a transaction that is open for a second waits for its end, and is not lost.
fn judge_held(verdict: &mut Verdict, what: &str, window: Window<'_>) {
    let (ok, total) = (window.ok(), window.total());
    verdict.judge(
        ok == total && total > 0,
        format!(
            "{what}: longest wait {}, {ok} of {total} answered",
            ms(window.longest())
        ),
    );
}

pub(crate) async fn encodings(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = stage.engine.own(1).await;
    let faults = cluster.faults().expect("the built-in broker writes anything");
    let scene = Scene::on(&cluster);
    let pair = Pair::ready(&scene).await;
    twice(&pair.processes(), &mut verdict, async |verdict| {
        append(&pair, &scene, faults, verdict).await;
    })
    .await;
    verdict
}

async fn append(pair: &Pair, scene: &Scene, faults: &Faults, verdict: &mut Verdict) {
    let before = undecodable(pair).await;
    let traffic = Traffic::start(pair.gateway.http(), GENTLE_RATE);
    traffic.run_for(SECOND).await;
    let mut windows = Vec::new();
    let topics = [("ping", scene.ping_name()), ("pong", scene.pong_name())];
    let undecodable_kinds = [
        ("null header value", Poison::NullHeaderValue),
        ("header key not UTF-8", Poison::HeaderKeyNotUtf8),
        ("lz4", Poison::UnreadableCodec(3)),
        ("zstd", Poison::UnreadableCodec(4)),
    ];
    let marker = |producer_id, commit| Poison::Marker { producer_id, commit };
    let kinds = undecodable_kinds.into_iter().chain([("marker", marker(7, true))]);
    for (kind, poison) in kinds {
        for (short, name) in topics {
            let from = Instant::now();
            faults.append(name, 0, poison, EACH).unwrap();
            traffic.run_for(SECOND).await;
            windows.push((format!("{kind} on {short}"), from, Instant::now()));
        }
    }
    traffic.run_for(SECOND / 2).await;
    // A transaction that somebody leaves open for a second, and then ends either way.
    let mut held = Vec::new();
    for (commit, producer_id) in [(true, 8), (false, 9)] {
        for (short, name) in topics {
            let from = Instant::now();
            faults
                .append(name, 0, Poison::OpenTransaction { producer_id }, 10)
                .unwrap();
            traffic.run_for(SECOND).await;
            faults.append(name, 0, marker(producer_id, commit), 1).unwrap();
            traffic.run_for(2 * SECOND).await;
            held.push((format!("open for 1 s on {short}"), from, Instant::now()));
        }
    }
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    for (what, from, to) in windows {
        judge_skip(verdict, &what, record.due(from, to));
    }
    for (what, from, to) in held {
        judge_held(verdict, &what, record.due(from, to));
    }
    // The three markers on each topic count as well: the client cannot decode them.
    let expected = i64::try_from(undecodable_kinds.len() * EACH + 3).unwrap();
    judge_undecodable(pair, before, expected, verdict).await;
}

/// What kcat can write, on a real log.
pub(crate) async fn encodings_of_kcat(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    let pair = Pair::ready(&scene).await;
    // A thousand fetches, one for each offset, are to take less than a second: the first ones of a JVM do not.
    stage.rate(1, &pair.gateway).await;
    twice(&pair.processes(), &mut verdict, async |verdict| {
        write_by_kcat(&pair, &scene, verdict).await;
    })
    .await;
    verdict
}

async fn write_by_kcat(pair: &Pair, scene: &Scene, verdict: &mut Verdict) {
    let before = undecodable(pair).await;
    let traffic = Traffic::start(pair.gateway.http(), GENTLE_RATE);
    traffic.run_for(SECOND).await;
    let lines: Vec<Vec<u8>> = (0..EACH).map(|it| format!("poison {it}").into_bytes()).collect();
    let topics = [("ping", scene.ping_name()), ("pong", scene.pong_name())];
    let transaction = ["-X", "transactional.id=somebody"].map(OsStr::new);
    let undecodable_kinds = [
        ("null header value", ["-H", "name"].map(OsStr::new)),
        (
            "header key not UTF-8",
            [OsStr::new("-H"), OsStr::from_bytes(b"n\xffme=value")],
        ),
        ("lz4", ["-z", "lz4"].map(OsStr::new)),
        ("zstd", ["-z", "zstd"].map(OsStr::new)),
    ];
    let mut windows = Vec::new();
    for (kind, args) in undecodable_kinds.into_iter().chain([("transaction", transaction)]) {
        for (short, name) in topics {
            let from = Instant::now();
            kcat::write(scene.brokers(), name, &args, &lines).await;
            traffic.run_for(2 * SECOND).await;
            windows.push((format!("{kind} on {short}"), from, Instant::now()));
        }
    }
    traffic.run_for(SECOND / 2).await;
    // kcat writes at once, but what it reads comes in blocks: the last lines it gets only with the end.
    let args = [&transaction[..], &["-X", "linger.ms=0"].map(OsStr::new)].concat();
    let lines = vec![vec![b'x'; EACH]; EACH];
    let mut held = Vec::new();
    for (short, name) in topics {
        let from = Instant::now();
        kcat::write_held(scene.brokers(), name, &args, &lines, sleep(SECOND)).await;
        traffic.run_for(2 * SECOND).await;
        held.push((format!("open for 1 s on {short}"), from, Instant::now()));
    }
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    for (what, from, to) in windows {
        judge_skip(verdict, &what, record.due(from, to));
    }
    for (what, from, to) in held {
        judge_held(verdict, &what, record.due(from, to));
    }
    // And the markers at the ends of the two transactions.
    let expected = i64::try_from(undecodable_kinds.len() * EACH + 2).unwrap();
    judge_undecodable(pair, before, expected, verdict).await;
}

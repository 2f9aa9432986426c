//! Invalid records, undecodable batches and open transactions, between valid records under load.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, time::Duration};

use bench::Outcome;
use broker::{Faults, Poison};
use e2e::{cluster::NodeSettings, fixture::Fixture, kcat, process::Process, topic::Topic};
use futures_util::future::join_all;
use tokio::time::{Instant, interval, sleep};
use uuid::Uuid;

use crate::{
    fault::{Fault, Pair, counted_up_to, replies as all_replies, sum},
    invariants::twice,
    traffic::{Traffic, Window},
    verdict::{Verdict, ms},
};

const SECOND: Duration = Duration::from_secs(1);

/// Records of each kind.
const EACH: usize = 1_000;

/// Records of a transaction that stays open.
const HELD: usize = 10;

/// Requests per second. At a higher rate, a delay of one second would reach `MAX_IN_FLIGHT`.
const RATE: f64 = 500.0;

/// The time for all records of a kind: 50 MB/s of large values on each topic.
const SPREAD: Duration = Duration::from_secs(20);

type KeyAndValue = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The kinds of invalid records.
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

/// Writes all records of a kind, slowly enough that their reads do not delay valid ones. Large records go over four
/// connections, because each write waits 40 ms for a delayed TCP acknowledgement.
async fn write(topic: &str, brokers: &str, key: Option<&[u8]>, value: Option<&[u8]>) {
    let connections = if value.is_some_and(|value| value.len() > 1_000) {
        4
    } else {
        1
    };
    let write = async || {
        let topic = Topic::open(brokers, topic).await;
        let mut ticks = interval(SPREAD * connections / u32::try_from(EACH).unwrap());
        for _ in 0..EACH / connections as usize {
            ticks.tick().await;
            topic.write(key, value).await;
        }
    };
    join_all((0..connections).map(|_| write())).await;
}

pub(crate) async fn values(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let fixture = Fixture::shared(fault.engine).await;
    let pair = Pair::ready(&fixture).await;
    twice(&pair.processes(), &mut verdict, async |verdict| {
        let skipped = async || sum(&pair.worker, "worker_records_skipped_total").await;
        let replies = async |kind: &str| sum(&pair.gateway, &format!("gateway_replies_total{{kind=\"{kind}")).await;
        let before = (
            skipped().await,
            replies("malformed").await,
            all_replies(&pair.gateway).await,
            replies("foreign").await,
        );
        let traffic = Traffic::start(pair.gateway.http(), RATE);
        let start = Instant::now();
        let writing = kinds().into_iter().flat_map(|(key, value)| {
            [fixture.ping_name(), fixture.pong_name()].map(|topic| {
                let (key, value) = (key.clone(), value.clone());
                let brokers = fixture.brokers();
                async move { write(topic, brokers, key.as_deref(), value.as_deref()).await }
            })
        });
        join_all(writing).await;
        verdict.note(format!("written in {}", ms(start.elapsed())));
        traffic.run_for(2 * SECOND).await;
        let record = traffic.finish().await;
        record.judge_answers(verdict);
        record.all().judge_share(verdict, &format!("at {RATE}/s"), 0.999);
        verdict.note(format!("longest {}", ms(record.all().longest())));

        let [each, sent] = [EACH, record.all().ok()].map(|count| i64::try_from(count).unwrap());
        let bad = counted_up_to(6 * each, async || skipped().await - before.0).await;
        verdict.judge(bad == 6 * each, format!("worker skipped {bad} of {}", 6 * each));
        // Two of the six kinds have no UUID as their key; the others match no request.
        let malformed = counted_up_to(2 * each, async || replies("malformed").await - before.1).await;
        verdict.judge(
            malformed == 2 * each,
            format!("gateway: {malformed} malformed of {}", 2 * each),
        );
        let all = counted_up_to(6 * each + sent, async || all_replies(&pair.gateway).await - before.2).await;
        // Late replies are counted as well.
        let late = i64::try_from(record.all().count(|outcome| outcome == Outcome::Status(500))).unwrap();
        let others = all - malformed - sent;
        let foreign = replies("foreign").await - before.3;
        verdict.judge(
            foreign == 4 * each && others == foreign + late,
            format!("{foreign} foreign of {}", 4 * each),
        );
    })
    .await;
    verdict
}

/// The undecodable records that gateway and worker have skipped.
async fn undecodable(pair: &Pair) -> [i64; 2] {
    let of = async |process: &Process| {
        let series = format!("{}_kafka_tail_records_undecodable_total", process.name());
        process.metric(&series).await
    };
    [of(&pair.gateway).await, of(&pair.worker).await]
}

/// The records that no request and no caller matches, and that were decoded and delivered all the same.
async fn delivered(pair: &Pair) -> [i64; 2] {
    [
        sum(&pair.gateway, "gateway_replies_total{kind=\"malformed").await,
        sum(&pair.worker, "worker_records_skipped_total{reason=\"bad_value").await,
    ]
}

/// The records of other producers that a process has counted.
#[derive(Debug, Clone, Copy)]
struct Counts {
    undecodable: [i64; 2],
    delivered: [i64; 2],
}

impl Counts {
    async fn of(pair: &Pair) -> Self {
        Self {
            undecodable: undecodable(pair).await,
            delivered: delivered(pair).await,
        }
    }

    /// Since `self`, each process has skipped and has delivered exactly as many.
    async fn judge(self, pair: &Pair, skipped_records: i64, delivered_records: i64, verdict: &mut Verdict) {
        let after = Self::of(pair).await;
        for (index, process) in [&pair.gateway, &pair.worker].into_iter().enumerate() {
            for (what, before, after, expected) in [
                ("skipped", self.undecodable, after.undecodable, skipped_records),
                ("delivered", self.delivered, after.delivered, delivered_records),
            ] {
                let seen = after[index] - before[index];
                verdict.judge(
                    seen == expected,
                    format!("{} {what} {seen} of {expected}", process.name()),
                );
            }
        }
    }
}

/// All requests were answered, within a second: what others write holds up nothing.
fn judge_window(verdict: &mut Verdict, what: &str, window: Window<'_>) {
    let (ok, total, longest) = (window.ok(), window.total(), window.longest());
    verdict.judge(
        ok == total && total > 0 && longest <= SECOND,
        format!("{what}: longest wait {}, {ok} of {total} answered", ms(longest)),
    );
}

pub(crate) async fn encodings(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = fault.engine.own(1, NodeSettings::default()).await;
    let faults = cluster.faults().expect("it runs on the built-in broker");
    let fixture = Fixture::on(&cluster);
    let pair = Pair::ready(&fixture).await;
    twice(&pair.processes(), &mut verdict, async |verdict| {
        append(&pair, &fixture, faults, verdict).await;
    })
    .await;
    verdict
}

async fn append(pair: &Pair, fixture: &Fixture, faults: &Faults, verdict: &mut Verdict) {
    let before = Counts::of(pair).await;
    let traffic = Traffic::start(pair.gateway.http(), RATE);
    traffic.run_for(SECOND).await;
    let mut windows = Vec::new();
    let topics = [("ping", fixture.ping_name()), ("pong", fixture.pong_name())];
    let undecodable_kinds = [
        ("damaged lz4", Poison::UnreadableCodec(3)),
        ("damaged zstd", Poison::UnreadableCodec(4)),
        ("wrong checksum", Poison::WrongChecksum),
    ];
    let marker = |producer_id, commit| Poison::Marker { producer_id, commit };
    let decodable_kinds = [
        ("null header value", Poison::NullHeaderValue),
        ("header key not UTF-8", Poison::HeaderKeyNotUtf8),
        ("marker", marker(7, true)),
    ];
    let kinds = undecodable_kinds.into_iter().chain(decodable_kinds);
    for (kind, poison) in kinds {
        for (short, name) in topics {
            let from = Instant::now();
            faults.append(name, 0, poison, EACH).unwrap();
            traffic.run_for(SECOND).await;
            windows.push((format!("{kind} on {short}"), from, Instant::now()));
        }
    }
    traffic.run_for(SECOND / 2).await;
    // Transactions that stay open for two seconds, longer than a request may wait, and are then committed or aborted.
    for (commit, producer_id) in [(true, 8), (false, 9)] {
        for (short, name) in topics {
            let from = Instant::now();
            faults
                .append(name, 0, Poison::OpenTransaction { producer_id }, HELD)
                .unwrap();
            traffic.run_for(2 * SECOND).await;
            faults.append(name, 0, marker(producer_id, commit), 1).unwrap();
            traffic.run_for(SECOND).await;
            windows.push((format!("open for 2 s on {short}"), from, Instant::now()));
        }
    }
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    for (what, from, to) in windows {
        judge_window(verdict, &what, record.due(from, to));
    }
    // Of a batch whose checksum is wrong the number of records is not known: it counts as one.
    let skipped = 2 * EACH + 1;
    // Neither markers nor aborted records.
    let delivered = 2 * EACH + HELD;
    let [skipped, delivered] = [skipped, delivered].map(|count| i64::try_from(count).unwrap());
    before.judge(pair, skipped, delivered, verdict).await;
}

/// The same on Kafka, as far as kcat can write it.
pub(crate) async fn encodings_of_kcat(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let fixture = Fixture::shared(fault.engine).await;
    let pair = Pair::ready(&fixture).await;
    // The measurement warms the JVM up, whose first requests take long.
    fault.rate(1, &pair.gateway).await;
    twice(&pair.processes(), &mut verdict, async |verdict| {
        write_by_kcat(&pair, &fixture, verdict).await;
    })
    .await;
    verdict
}

async fn write_by_kcat(pair: &Pair, fixture: &Fixture, verdict: &mut Verdict) {
    let before = Counts::of(pair).await;
    let traffic = Traffic::start(pair.gateway.http(), RATE);
    traffic.run_for(SECOND).await;
    let lines: Vec<Vec<u8>> = (0..EACH).map(|n| format!("poison {n}").into_bytes()).collect();
    let topics = [("ping", fixture.ping_name()), ("pong", fixture.pong_name())];
    let kinds: [(&str, &[&[u8]]); 7] = [
        ("null header value", &[b"-H", b"name"]),
        ("two headers of one name", &[b"-H", b"name=1", b"-H", b"name=2"]),
        ("header key not UTF-8", &[b"-H", b"n\xffme=value"]),
        ("lz4", &[b"-z", b"lz4"]),
        ("zstd", &[b"-z", b"zstd"]),
        ("snappy", &[b"-z", b"snappy"]),
        ("transaction", &TRANSACTION),
    ];
    let args = |args: &[&'static [u8]]| -> Vec<&OsStr> { args.iter().copied().map(OsStr::from_bytes).collect() };
    let mut windows = Vec::new();
    for (kind, of_kind) in kinds {
        for (short, name) in topics {
            let from = Instant::now();
            kcat::write(fixture.brokers(), name, &args(of_kind), &lines).await;
            traffic.run_for(2 * SECOND).await;
            windows.push((format!("{kind} on {short}"), from, Instant::now()));
        }
    }
    // kcat reads its input in blocks, so the last lines arrive only with its end.
    let open = args(&[&TRANSACTION[..], &[b"-X", b"linger.ms=0"]].concat());
    let long_lines = vec![vec![b'x'; EACH]; EACH];
    for (short, name) in topics {
        let from = Instant::now();
        kcat::write_held(fixture.brokers(), name, &open, &long_lines, sleep(2 * SECOND)).await;
        traffic.run_for(SECOND).await;
        windows.push((format!("open for 2 s on {short}"), from, Instant::now()));
    }
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    for (what, from, to) in windows {
        judge_window(verdict, &what, record.due(from, to));
    }
    let delivered = i64::try_from((kinds.len() + 1) * EACH).unwrap();
    before.judge(pair, 0, delivered, verdict).await;
}

/// kcat writes its lines in a transaction.
const TRANSACTION: [&[u8]; 2] = [b"-X", b"transactional.id=other"];

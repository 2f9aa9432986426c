//! The load of a scenario, and the outcome of each request.

use std::{collections::BTreeMap, net::SocketAddr, thread, time::Duration};

use bench::{Connections, Load, Mode, Outcome, Report, RequestEntry, RequestLog, Until};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::verdict::{Verdict, ms};

/// Above every `REPLY_TIMEOUT` of a scenario under load.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than a scenario, which ends the load itself.
const UNTIL_FINISHED: Until = Until::Elapsed(Duration::from_secs(3_600));

/// A running load. It has its own thread, so that the scenario does not delay it.
#[derive(Debug)]
pub(crate) struct Traffic {
    log: RequestLog,
    report: oneshot::Receiver<Report>,
}

/// All requests of a finished load, in the order of their due times.
#[derive(Debug)]
pub(crate) struct Record {
    entries: Vec<RequestEntry>,
    report: Report,
}

/// The requests that were due within a period.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a>(&'a [RequestEntry]);

/// An open loop with this rate.
pub(crate) fn open_loop(addr: SocketAddr, rate: f64) -> Load {
    let mode = Mode::Open {
        rate,
        connections: Connections::UpTo(4_096),
    };
    Load {
        timeout: CLIENT_TIMEOUT,
        until: UNTIL_FINISHED,
        ..Load::new(addr, mode)
    }
}

/// The responses per second of 64 clients in a closed loop.
pub(crate) async fn capacity(addr: SocketAddr) -> f64 {
    let load = Load {
        warmup: Duration::from_secs(1),
        until: Until::Elapsed(Duration::from_secs(2)),
        ..Load::new(addr, Mode::Closed { connections: 64 })
    };
    let report = Traffic::of(load).ended().await.report;
    assert_eq!(report.wrong_total(), 0, "{report}");
    report.throughput()
}

// === impl Traffic ===

impl Traffic {
    /// Starts an open loop.
    pub(crate) fn start(addr: SocketAddr, rate: f64) -> Self {
        Self::of(open_loop(addr, rate))
    }

    /// Starts an open loop over a fixed number of connections.
    pub(crate) fn over(addr: SocketAddr, rate: f64, connections: usize) -> Self {
        let mode = Mode::Open {
            rate,
            connections: Connections::Fixed(connections),
        };
        Self::of(Load {
            mode,
            ..open_loop(addr, rate)
        })
    }

    /// Starts any load.
    pub(crate) fn of(load: Load) -> Self {
        let log = RequestLog::new();
        let load = Load {
            log: Some(log.clone()),
            ..load
        };
        let (done, report) = oneshot::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let ran = runtime.expect("a runtime").block_on(load.run());
            // The scenario may have failed.
            let _ = done.send(ran.expect("the load is valid"));
        });
        Self { log, report }
    }

    /// Continues for this time.
    pub(crate) async fn run_for(&self, time: Duration) {
        sleep(time).await;
    }

    /// Continues until an instant.
    pub(crate) async fn run_until(&self, instant: Instant) {
        tokio::time::sleep_until(instant).await;
    }

    /// Sends no more requests and waits for the responses.
    pub(crate) async fn finish(self) -> Record {
        self.log.close();
        self.ended().await
    }

    /// Waits for the end of a load with a limit of its own.
    pub(crate) async fn ended(mut self) -> Record {
        let report = (&mut self.report).await.expect("the load ends");
        let mut entries = self.log.entries();
        entries.sort_by_key(|entry| entry.due);
        Record { entries, report }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.log.close();
    }
}

// === impl Record ===

impl Record {
    pub(crate) fn all(&self) -> Window<'_> {
        Window(&self.entries)
    }

    /// The requests that were due from one instant up to another.
    pub(crate) fn due(&self, from: Instant, to: Instant) -> Window<'_> {
        let begin = self.entries.partition_point(|entry| entry.due < from);
        let end = self.entries.partition_point(|entry| entry.due < to);
        Window(self.entries.get(begin..end).unwrap_or_default())
    }

    /// The requests that were due from an instant on.
    pub(crate) fn due_from(&self, from: Instant) -> Window<'_> {
        let begin = self.entries.partition_point(|entry| entry.due < from);
        Window(self.entries.get(begin..).unwrap_or_default())
    }

    /// I1 and I2: one response per request, and no response of another request.
    pub(crate) fn judge_answers(&self, verdict: &mut Verdict) {
        self.judge_values(verdict);
        let outcomes = self.all().outcomes();
        let unanswered: usize = [
            Outcome::NoConnection,
            Outcome::ConnectionClosed,
            Outcome::Timeout,
            Outcome::Unsent,
        ]
        .iter()
        .filter_map(|outcome| outcomes.get(outcome))
        .sum();
        verdict.invariant(
            unanswered == 0,
            format!(
                "I1: {unanswered} without a response ({}) {:?}",
                self.all().summary(),
                self.report.first_errors
            ),
        );
    }

    /// I2 alone, for a load whose connections may be refused.
    pub(crate) fn judge_values(&self, verdict: &mut Verdict) {
        let wrong = self.report.wrong_total();
        verdict.invariant(
            wrong == 0,
            format!("I2: {wrong} wrong responses: {:?}", self.report.first_wrong),
        );
        verdict.invariant(self.all().total() > 0, "no request was sent");
    }
}

// === impl Window ===

impl Window<'_> {
    pub(crate) fn entries(&self) -> impl Iterator<Item = &RequestEntry> {
        self.0.iter()
    }

    pub(crate) fn total(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn count(&self, wanted: impl Fn(Outcome) -> bool) -> usize {
        self.0.iter().filter(|entry| wanted(entry.outcome)).count()
    }

    pub(crate) fn ok(&self) -> usize {
        self.count(|outcome| outcome == Outcome::Ok)
    }

    /// The share of right responses; 0 for a window without requests.
    pub(crate) fn ok_share(&self) -> f64 {
        self.ok() as f64 / self.total().max(1) as f64
    }

    pub(crate) fn outcomes(&self) -> BTreeMap<Outcome, usize> {
        let mut outcomes = BTreeMap::new();
        for entry in self.0 {
            *outcomes.entry(entry.outcome).or_default() += 1;
        }
        outcomes
    }

    /// `3990 OK, 10 Status(500)`
    pub(crate) fn summary(&self) -> String {
        let outcomes: Vec<_> = self
            .outcomes()
            .into_iter()
            .map(|(outcome, count)| match outcome {
                Outcome::Ok => format!("{count} OK"),
                Outcome::Status(status) => format!("{count} × {status}"),
                other => format!("{count} {other:?}"),
            })
            .collect();
        outcomes.join(", ")
    }

    /// The time from the first to the last failed request, by their due times; zero without failures.
    pub(crate) fn failing(&self) -> Duration {
        let mut failed = self.0.iter().filter(|entry| entry.outcome != Outcome::Ok);
        let first = failed.next();
        let last = failed.next_back().or(first);
        match (first, last) {
            (Some(first), Some(last)) => last.due.duration_since(first.due),
            _ => Duration::ZERO,
        }
    }

    /// The time from an instant to the due time of the last failed request; zero without failures after it.
    pub(crate) fn last_failure_after(&self, instant: Instant) -> Duration {
        let last = self.0.iter().rfind(|entry| entry.outcome != Outcome::Ok);
        last.map_or(Duration::ZERO, |entry| entry.due.saturating_duration_since(instant))
    }

    /// The longest wait for a response of any kind.
    pub(crate) fn longest(&self) -> Duration {
        let waits = self.0.iter().map(|entry| entry.ended.duration_since(entry.sent));
        waits.max().unwrap_or_default()
    }

    /// A quantile of the latencies from the due time, of the requests that `wanted` selects.
    pub(crate) fn latency(&self, share: f64, wanted: impl Fn(Outcome) -> bool) -> Duration {
        let picked = self.0.iter().filter(|entry| wanted(entry.outcome));
        let mut times: Vec<_> = picked.map(|entry| entry.ended.duration_since(entry.due)).collect();
        times.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a number of requests is a number of requests"
        )]
        let rank = (times.len() as f64 * share) as usize;
        times
            .get(rank.min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// Judges the share of right responses.
    pub(crate) fn judge_share(&self, verdict: &mut Verdict, what: &str, at_least: f64) {
        let share = self.ok_share();
        verdict.judge(
            share >= at_least,
            format!("{what}: {:.3} % OK ({})", share * 100.0, self.summary()),
        );
    }

    /// Notes p50 and p99 of the right responses.
    pub(crate) fn note_latency(&self, verdict: &mut Verdict) {
        let of = |share| ms(self.latency(share, |outcome| outcome == Outcome::Ok));
        verdict.note(format!("p50 {}, p99 {}", of(0.5), of(0.99)));
    }
}

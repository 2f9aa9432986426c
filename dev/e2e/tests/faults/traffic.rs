//! Callers who come whether or not others still wait, and what became of each.

use std::{collections::BTreeMap, net::SocketAddr, thread, time::Duration};

use bench::{Connections, Entry, Fate, Journal, Load, Mode, Report, Until};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::verdict::{Verdict, ms};

/// How long a caller waits: above every timeout that a scenario gives the gateway, so that what takes longer is no answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longer than any scenario: the traffic ends when it is told.
const UNTIL_TOLD: Until = Until::Elapsed(Duration::from_secs(3_600));

/// A load that runs. It has a thread of its own: nothing that the scenario does may hold it up.
#[derive(Debug)]
pub(crate) struct Traffic {
    journal: Journal,
    report: oneshot::Receiver<Report>,
}

/// All requests of a load that has ended, in the order in which they were due.
#[derive(Debug)]
pub(crate) struct Record {
    entries: Vec<Entry>,
    report: Report,
}

/// The requests that were due within a window of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a>(&'a [Entry]);

/// An open loop with so many requests per second.
pub(crate) fn open_loop(addr: SocketAddr, rate: f64) -> Load {
    let mode = Mode::Open {
        rate,
        connections: Connections::UpTo(4_096),
    };
    Load {
        timeout: PATIENCE,
        until: UNTIL_TOLD,
        ..Load::new(addr, mode)
    }
}

/// What the gateway does with so many callers, each of whom asks again as soon as there is an answer; in answers per
/// second.
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
    /// So many requests per second, until it is told to end.
    pub(crate) fn start(addr: SocketAddr, rate: f64) -> Self {
        Self::of(open_loop(addr, rate))
    }

    /// The same over so many connections, neither more nor less.
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

    /// Any load.
    pub(crate) fn of(load: Load) -> Self {
        let journal = Journal::new();
        let load = Load {
            journal: Some(journal.clone()),
            ..load
        };
        let (done, report) = oneshot::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let ran = runtime.expect("a runtime").block_on(load.run());
            // Nobody waits for it any more when the scenario has failed.
            let _ = done.send(ran.expect("the load makes sense"));
        });
        Self { journal, report }
    }

    /// Lets it run.
    pub(crate) async fn run_for(&self, time: Duration) {
        sleep(time).await;
    }

    /// Lets it run until an instant.
    pub(crate) async fn run_until(&self, instant: Instant) {
        tokio::time::sleep_until(instant).await;
    }

    /// Begins no more requests and sees through those under way.
    pub(crate) async fn finish(self) -> Record {
        self.journal.close();
        self.ended().await
    }

    /// Waits for a load that ends by itself.
    pub(crate) async fn ended(mut self) -> Record {
        let report = (&mut self.report).await.expect("the load ends");
        let mut entries = self.journal.entries();
        entries.sort_by_key(|it| it.due);
        Record { entries, report }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.journal.close();
    }
}

// === impl Record ===

impl Record {
    pub(crate) fn all(&self) -> Window<'_> {
        Window(&self.entries)
    }

    /// What was due from one instant up to another.
    pub(crate) fn due(&self, from: Instant, to: Instant) -> Window<'_> {
        let begin = self.entries.partition_point(|it| it.due < from);
        let end = self.entries.partition_point(|it| it.due < to);
        Window(self.entries.get(begin..end).unwrap_or_default())
    }

    /// What was due from an instant on.
    pub(crate) fn due_from(&self, from: Instant) -> Window<'_> {
        let begin = self.entries.partition_point(|it| it.due < from);
        Window(self.entries.get(begin..).unwrap_or_default())
    }

    /// One HTTP response per request, and none of another caller.
    pub(crate) fn judge_answers(&self, verdict: &mut Verdict) {
        self.judge_values(verdict);
        let fates = self.all().fates();
        let unanswered: usize = [Fate::NoConnection, Fate::Cut, Fate::Timeout, Fate::SendError]
            .iter()
            .filter_map(|it| fates.get(it))
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

    /// No answer of another caller; for a load in which connections may be refused.
    pub(crate) fn judge_values(&self, verdict: &mut Verdict) {
        let wrong = self.report.wrong_total();
        verdict.invariant(
            wrong == 0,
            format!("I2: {wrong} wrong answers: {:?}", self.report.first_wrong),
        );
        verdict.invariant(self.all().total() > 0, "nothing was asked");
    }
}

// === impl Window ===

impl Window<'_> {
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    pub(crate) fn total(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn count(&self, wanted: impl Fn(Fate) -> bool) -> usize {
        self.0.iter().filter(|it| wanted(it.fate)).count()
    }

    pub(crate) fn ok(&self) -> usize {
        self.count(|it| it == Fate::Ok)
    }

    /// The share of right answers, 0 where nothing was due: a window without requests shows nothing.
    pub(crate) fn ok_share(&self) -> f64 {
        self.ok() as f64 / self.total().max(1) as f64
    }

    pub(crate) fn fates(&self) -> BTreeMap<Fate, usize> {
        let mut fates = BTreeMap::new();
        for entry in self.0 {
            *fates.entry(entry.fate).or_default() += 1;
        }
        fates
    }

    /// `3990 OK, 10 Status(500)`
    pub(crate) fn summary(&self) -> String {
        let fates: Vec<_> = self
            .fates()
            .into_iter()
            .map(|(fate, count)| match fate {
                Fate::Ok => format!("{count} OK"),
                Fate::Status(status) => format!("{count} × {status}"),
                other => format!("{count} {other:?}"),
            })
            .collect();
        fates.join(", ")
    }

    /// From the first failed request to the last one, by when they were due; zero if none failed.
    pub(crate) fn failing(&self) -> Duration {
        let mut failed = self.0.iter().filter(|it| it.fate != Fate::Ok);
        let first = failed.next();
        let last = failed.next_back().or(first);
        match (first, last) {
            (Some(first), Some(last)) => last.due.duration_since(first.due),
            _ => Duration::ZERO,
        }
    }

    /// How long after an instant the last failed request was due; zero if none failed after it.
    pub(crate) fn last_failure_after(&self, instant: Instant) -> Duration {
        let last = self.0.iter().rfind(|it| it.fate != Fate::Ok);
        last.map_or(Duration::ZERO, |it| it.due.saturating_duration_since(instant))
    }

    /// The longest that anybody waited for a response of any kind.
    pub(crate) fn longest(&self) -> Duration {
        let waits = self.0.iter().map(|it| it.ended.duration_since(it.sent));
        waits.max().unwrap_or_default()
    }

    /// The time from when it was due that a share of the requests which `wanted` picks did not exceed.
    pub(crate) fn latency(&self, share: f64, wanted: impl Fn(Fate) -> bool) -> Duration {
        let picked = self.0.iter().filter(|it| wanted(it.fate));
        let mut times: Vec<_> = picked.map(|it| it.ended.duration_since(it.due)).collect();
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

    /// Judges the share of right answers, in words.
    pub(crate) fn judge_share(&self, verdict: &mut Verdict, what: &str, at_least: f64) {
        let share = self.ok_share();
        verdict.judge(
            share >= at_least,
            format!("{what}: {:.3} % OK ({})", share * 100.0, self.summary()),
        );
    }

    /// p50 and p99 of the right answers.
    pub(crate) fn note_latency(&self, verdict: &mut Verdict) {
        let of = |share| ms(self.latency(share, |it| it == Fate::Ok));
        verdict.note(format!("p50 {}, p99 {}", of(0.5), of(0.99)));
    }
}

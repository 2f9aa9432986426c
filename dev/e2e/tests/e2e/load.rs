//! Load on a gateway while something happens, each answer checked against its own request.

use std::{net::SocketAddr, time::Duration};

use bench::{Connections, Journal, Load, Mode, Report, Until};
use e2e::{process::Process, topic::Topic};
use serde_json::json;
use tokio::task::JoinHandle;

/// More than any gateway here lets its callers wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than any test.
const UNTIL_TOLD: Duration = Duration::from_secs(3_600);

/// Connections of the open loop at most.
const CONNECTIONS: usize = 4_096;

/// A load that runs until it is told to end.
pub(crate) struct Running {
    journal: Journal,
    run: JoinHandle<Report>,
}

/// A load on the gateway, which comes whether or not others still wait for their answers.
pub(crate) fn open_loop(gateway: SocketAddr, rate: u32, length: Duration) -> Load {
    let mode = Mode::Open {
        rate: f64::from(rate),
        connections: Connections::UpTo(CONNECTIONS),
    };
    Load {
        until: Until::Elapsed(length),
        timeout: PATIENCE,
        ..Load::new(gateway, mode)
    }
}

/// A load of so many requests, each connection asking again when it has its answer.
pub(crate) fn closed_loop(gateway: &Process, connections: usize, requests: u64) -> Load {
    Load {
        until: Until::Requests(requests),
        timeout: PATIENCE,
        ..Load::new(gateway.http(), Mode::Closed { connections })
    }
}

/// Whoever was taken has the answer; some may have been told with one of these statuses that they were not.
pub(crate) fn assert_answered(report: &Report, refusals: &[u16]) {
    let told = |status: &u16| refusals.contains(status);
    let outcomes = &report.outcomes;
    let refused: u64 = outcomes.statuses.iter().filter(|it| told(it.0)).map(|it| it.1).sum();
    assert!(outcomes.ok > 0, "nobody was answered: {outcomes:?}");
    assert_eq!(
        outcomes.ok + refused,
        outcomes.total(),
        "{outcomes:?} {:?} {:?}",
        report.first_wrong,
        report.first_errors
    );
}

// === impl Running ===

impl Running {
    /// An open loop on the gateway.
    pub(crate) fn start(gateway: SocketAddr, rate: u32) -> Self {
        let journal = Journal::new();
        let load = Load {
            journal: Some(journal.clone()),
            ..open_loop(gateway, rate, UNTIL_TOLD)
        };
        let run = tokio::spawn(async { load.run().await.unwrap() });
        Self { journal, run }
    }

    /// Begins no more requests, and sees through those under way.
    pub(crate) async fn finish(self) -> Report {
        self.journal.close();
        self.run.await.unwrap()
    }
}

/// Writes a request by hand.
pub(crate) async fn write_request(ping: &Topic, id: &str) -> i64 {
    let value = json!({ "id": id, "name": "n", "value": "v" }).to_string();
    ping.write(Some(id.as_bytes()), Some(value.as_bytes())).await
}

/// The ids of all replies so far.
pub(crate) async fn reply_ids(pong: &Topic) -> Vec<String> {
    let replies = pong.read_all().await.into_iter();
    replies
        .map(|it| String::from_utf8(it.record.key.unwrap()).unwrap())
        .collect()
}

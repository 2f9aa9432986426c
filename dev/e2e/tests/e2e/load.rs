//! Load on a gateway. Each response is checked against its own request.

use std::{net::SocketAddr, time::Duration};

use bench::{Connections, Load, Mode, Report, RequestLog, Until};
use e2e::{process::Process, topic::Topic};
use serde_json::json;
use tokio::task::JoinHandle;

/// Above every `REPLY_TIMEOUT` of these tests.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Longer than the limit of a test: the test ends the load.
const UNTIL_FINISHED: Duration = Duration::from_secs(3_600);

/// The bound on connections of an open loop.
const MAX_CONNECTIONS: usize = 4_096;

/// A load that runs until the test ends it.
pub(crate) struct Running {
    log: RequestLog,
    run: JoinHandle<Report>,
}

/// A load with this many requests per second, independent of the responses.
pub(crate) fn open_loop(gateway: SocketAddr, rate: u32, length: Duration) -> Load {
    let mode = Mode::Open {
        rate: f64::from(rate),
        connections: Connections::UpTo(MAX_CONNECTIONS),
    };
    Load {
        until: Until::Elapsed(length),
        timeout: CLIENT_TIMEOUT,
        ..Load::new(gateway, mode)
    }
}

/// A load of this many requests; each connection sends the next one after a response.
pub(crate) fn closed_loop(gateway: &Process, connections: usize, requests: u64) -> Load {
    Load {
        until: Until::Requests(requests),
        timeout: CLIENT_TIMEOUT,
        ..Load::new(gateway.http(), Mode::Closed { connections })
    }
}

/// Every request has its own 200, or one of these statuses.
pub(crate) fn assert_answered(report: &Report, other: &[u16]) {
    let outcomes = &report.outcomes;
    let others = outcomes.statuses.iter().filter(|(status, _)| other.contains(status));
    let others: u64 = others.map(|(_, count)| count).sum();
    assert!(outcomes.ok > 0, "no request was answered: {outcomes:?}");
    assert_eq!(
        outcomes.ok + others,
        outcomes.total(),
        "{outcomes:?} {:?} {:?}",
        report.first_wrong,
        report.first_errors
    );
}

// === impl Running ===

impl Running {
    /// Starts an open loop.
    pub(crate) fn start(gateway: SocketAddr, rate: u32) -> Self {
        let log = RequestLog::new();
        let load = Load {
            log: Some(log.clone()),
            ..open_loop(gateway, rate, UNTIL_FINISHED)
        };
        let run = tokio::spawn(async { load.run().await.unwrap() });
        Self { log, run }
    }

    /// Sends no more requests and waits for the responses.
    pub(crate) async fn finish(self) -> Report {
        self.log.close();
        self.run.await.unwrap()
    }
}

/// Produces a request.
pub(crate) async fn write_request(ping: &Topic, id: &str) -> i64 {
    let value = json!({ "id": id, "name": "n", "value": "v" }).to_string();
    ping.write(Some(id.as_bytes()), Some(value.as_bytes())).await
}

/// The ids of all replies so far.
pub(crate) async fn reply_ids(pong: &Topic) -> Vec<String> {
    let replies = pong.read_all().await.into_iter();
    replies
        .map(|read| String::from_utf8(read.record.key.unwrap()).unwrap())
        .collect()
}

//! The request log of a run.

use super::server::{Behaviour, Server};
use crate::{Connections, Load, Mode, Outcome, RequestEntry, RequestLog, Until};
use std::time::Duration;
use tokio::time::Instant;

const OPEN: Mode = Mode::Open {
    rate: 1_000.0,
    connections: Connections::UpTo(64),
};

/// Longer than any machine takes.
const LONG: Duration = Duration::from_secs(10);

async fn entries(server: &Server, mode: Mode, timeout: Duration) -> Vec<RequestEntry> {
    let log = RequestLog::new();
    let mut load = Load::new(server.addr(), mode);
    load.until = Until::Requests(100);
    load.timeout = timeout;
    load.log = Some(log.clone());
    load.run().await.unwrap();
    log.entries()
}

#[tokio::test]
async fn request_log_has_each_request_once_with_its_instants() {
    let server = Server::start(Behaviour::Right).await;
    let begin = Instant::now();
    let mut entries = entries(&server, OPEN, LONG).await;
    assert_eq!(entries.len(), 100);
    assert!(entries.iter().all(|entry| entry.outcome == Outcome::Ok));
    assert!(
        entries
            .iter()
            .all(|entry| begin <= entry.due && entry.due <= entry.sent && entry.sent <= entry.ended)
    );
    entries.sort_by_key(|entry| entry.due);
    let steps: Vec<_> = entries
        .windows(2)
        .map(|pair| pair[1].due.duration_since(pair[0].due).as_micros())
        .collect();
    assert!(steps.iter().all(|step| (999..=1_001).contains(step)), "{steps:?}");
}

#[tokio::test]
async fn request_log_has_the_outcome_of_each_request() {
    for (behaviour, timeout, outcome) in [
        (Behaviour::Silent, Duration::from_millis(100), Outcome::Timeout),
        (Behaviour::Truncated, LONG, Outcome::ConnectionClosed),
        (
            Behaviour::Raw("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"),
            LONG,
            Outcome::Status(503),
        ),
    ] {
        let server = Server::start(behaviour).await;
        let entries = entries(&server, Mode::Closed { connections: 50 }, timeout).await;
        assert_eq!(entries.len(), 100);
        assert!(
            entries.iter().all(|entry| entry.outcome == outcome),
            "{outcome:?}: {entries:?}"
        );
    }
    let server = Server::start(Behaviour::Right).await;
    let addr = server.addr();
    drop(server);
    let log = RequestLog::new();
    let mut load = Load::new(addr, OPEN);
    load.until = Until::Requests(10);
    load.log = Some(log.clone());
    load.run().await.unwrap();
    assert!(log.entries().iter().all(|entry| entry.outcome == Outcome::NoConnection));
}

#[tokio::test]
async fn closing_the_request_log_ends_the_run_after_responses_in_flight() {
    let server = Server::start(Behaviour::Slow(Duration::from_millis(100))).await;
    let log = RequestLog::new();
    let mut load = Load::new(server.addr(), OPEN);
    load.until = Until::Elapsed(Duration::from_secs(3_600));
    load.log = Some(log.clone());
    let run = tokio::spawn(load.run());
    while log.entries().len() < 10 {
        tokio::task::yield_now().await;
    }
    log.close();
    let report = run.await.unwrap().unwrap();
    let entries = log.entries();
    assert_eq!(entries.len(), server.requests());
    assert_eq!(report.outcomes.ok, u64::try_from(entries.len()).unwrap(), "{report}");
}

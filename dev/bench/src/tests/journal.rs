//! The journal of a run.

use super::server::{Behaviour, Server};
use crate::{Connections, Fate, Journal, Load, Mode, Until};
use std::time::Duration;
use tokio::time::Instant;

const OPEN: Mode = Mode::Open {
    rate: 1_000.0,
    connections: Connections::UpTo(64),
};

/// Longer than any machine takes.
const LONG: Duration = Duration::from_secs(10);

async fn entries(server: &Server, mode: Mode, timeout: Duration) -> Vec<crate::Entry> {
    let journal = Journal::new();
    let mut load = Load::new(server.addr(), mode);
    load.until = Until::Requests(100);
    load.timeout = timeout;
    load.journal = Some(journal.clone());
    load.run().await.unwrap();
    journal.entries()
}

#[tokio::test]
async fn has_each_request_once_with_its_instants() {
    let server = Server::start(Behaviour::Right).await;
    let begin = Instant::now();
    let mut entries = entries(&server, OPEN, LONG).await;
    assert_eq!(entries.len(), 100);
    assert!(entries.iter().all(|it| it.fate == Fate::Ok));
    assert!(
        entries
            .iter()
            .all(|it| begin <= it.due && it.due <= it.sent && it.sent <= it.ended)
    );
    entries.sort_by_key(|it| it.due);
    let steps: Vec<_> = entries
        .windows(2)
        .map(|it| it[1].due.duration_since(it[0].due).as_micros())
        .collect();
    assert!(steps.iter().all(|it| (999..=1_001).contains(it)), "{steps:?}");
}

#[tokio::test]
async fn tells_the_fates_apart() {
    for (behaviour, timeout, fate) in [
        (Behaviour::Silent, Duration::from_millis(100), Fate::Timeout),
        (Behaviour::Cut, LONG, Fate::Cut),
        (
            Behaviour::Raw("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"),
            LONG,
            Fate::Status(503),
        ),
    ] {
        let server = Server::start(behaviour).await;
        let entries = entries(&server, Mode::Closed { connections: 50 }, timeout).await;
        assert_eq!(entries.len(), 100);
        assert!(entries.iter().all(|it| it.fate == fate), "{fate:?}: {entries:?}");
    }
    let server = Server::start(Behaviour::Right).await;
    let addr = server.addr();
    drop(server);
    let journal = Journal::new();
    let mut load = Load::new(addr, OPEN);
    load.until = Until::Requests(10);
    load.journal = Some(journal.clone());
    load.run().await.unwrap();
    assert!(journal.entries().iter().all(|it| it.fate == Fate::NoConnection));
}

#[tokio::test]
async fn ends_the_run_when_it_is_closed_and_sees_it_through() {
    let server = Server::start(Behaviour::Slow(Duration::from_millis(100))).await;
    let journal = Journal::new();
    let mut load = Load::new(server.addr(), OPEN);
    load.until = Until::Elapsed(Duration::from_secs(3_600));
    load.journal = Some(journal.clone());
    let run = tokio::spawn(load.run());
    while journal.entries().len() < 10 {
        tokio::task::yield_now().await;
    }
    journal.close();
    let report = run.await.unwrap().unwrap();
    let entries = journal.entries();
    assert_eq!(entries.len(), server.requests());
    assert_eq!(report.outcomes.ok, u64::try_from(entries.len()).unwrap(), "{report}");
}

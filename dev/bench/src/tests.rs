//! Whole runs against a small server on a real socket, one for each behaviour of a server.

mod request_log;
mod server;

use crate::{Connections, Load, Mode, Report, RequestKind, Until, Wrong};
use server::{Behaviour, Server};
use std::time::Duration;
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);
const CLOSED: Mode = Mode::Closed { connections: 4 };

/// A run of 200 requests; `change` adapts its settings.
async fn run(server: &Server, mode: Mode, change: impl FnOnce(&mut Load)) -> Report {
    let mut load = Load::new(server.addr(), mode);
    load.until = Until::Requests(200);
    load.timeout = Duration::from_secs(5);
    change(&mut load);
    load.run().await.unwrap()
}

#[tokio::test]
async fn right_responses_are_ok() {
    let server = Server::start(Behaviour::Right).await;
    let report = run(&server, CLOSED, |_| ()).await;
    assert_eq!((report.outcomes.ok, report.outcomes.total()), (200, 200));
    assert_eq!((report.latency.len(), report.ok_in_time), (200, 200));
    assert_eq!(report.connections_opened, 4);
    assert!(report.throughput() > 0.0 && report.latency_at(0.5) > Duration::ZERO);
    assert_eq!(server.requests(), 200);
    assert_eq!(server.distinct_bodies(), 200);
}

#[tokio::test]
async fn get_and_large_bodies_are_ok() {
    let server = Server::start(Behaviour::Right).await;
    for request in [
        RequestKind::Get,
        RequestKind::Post {
            body_bytes: Some(300_000),
        },
    ] {
        let report = run(&server, CLOSED, |load| load.request = request).await;
        assert_eq!(report.outcomes.ok, 200, "{request:?}: {report}");
    }
}

#[tokio::test]
async fn swapped_responses_are_wrong() {
    let server = Server::start(Behaviour::SwapPairs).await;
    let report = run(&server, CLOSED, |_| ()).await;
    assert_eq!(report.outcomes.wrong.get(&Wrong::Foreign), Some(&200), "{report}");
    assert_eq!((report.outcomes.ok, report.latency.len()), (0, 0));
    assert_eq!(report.first_wrong.len(), 5);
    assert!(
        report.first_wrong[0].contains("wanted \"n-"),
        "{:?}",
        report.first_wrong
    );
}

#[tokio::test]
async fn repeated_id_is_a_wrong_response() {
    let server = Server::start(Behaviour::SameId).await;
    let report = run(&server, CLOSED, |load| load.request = RequestKind::Get).await;
    assert_eq!(
        (report.outcomes.ok, report.outcomes.wrong.get(&Wrong::Repeated)),
        (1, Some(&199)),
        "{report}"
    );
}

#[tokio::test]
async fn wrong_response_during_the_warmup_is_counted() {
    let server = Server::start(Behaviour::SwapPairs).await;
    let report = run(&server, CLOSED, |load| {
        load.warmup = 50 * MS;
        load.until = Until::Requests(1);
    })
    .await;
    assert!(report.warmup.wrong_total() > 0 && report.wrong_total() > report.outcomes.wrong_total());
}

#[tokio::test]
async fn malformed_and_surplus_responses_are_wrong() {
    for (behaviour, wrong) in [
        (
            Behaviour::Raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
            Wrong::Malformed,
        ),
        (
            Behaviour::Raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            Wrong::Malformed,
        ),
        (Behaviour::Raw("this is not HTTP\r\n\r\n"), Wrong::Malformed),
        (
            Behaviour::Raw("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\nHTTP/1.1 503"),
            Wrong::Surplus,
        ),
    ] {
        let server = Server::start(behaviour).await;
        let report = run(&server, CLOSED, |_| ()).await;
        assert_eq!(report.outcomes.wrong.get(&wrong), Some(&200), "{behaviour:?}: {report}");
    }
}

#[tokio::test]
async fn error_status_is_counted_by_its_code() {
    let response = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}";
    let server = Server::start(Behaviour::Raw(response)).await;
    let report = run(&server, CLOSED, |_| ()).await;
    assert_eq!(report.outcomes.statuses.get(&503), Some(&200), "{report}");
    assert_eq!((report.outcomes.total(), report.connections_opened), (200, 4));
}

#[tokio::test]
async fn connection_close_header_reconnects_without_an_error() {
    let server = Server::start(Behaviour::CloseAfter {
        responses: 3,
        announced: true,
    })
    .await;
    let report = run(&server, CLOSED, |_| ()).await;
    assert_eq!(report.outcomes.ok, 200, "{report}");
    assert!(report.connections_opened > 60);
}

#[tokio::test]
async fn unannounced_close_is_detected_or_a_connection_error() {
    let server = Server::start(Behaviour::CloseAfter {
        responses: 3,
        announced: false,
    })
    .await;
    let report = run(&server, CLOSED, |_| ()).await;
    let outcomes = &report.outcomes;
    assert_eq!(outcomes.ok + outcomes.connection_errors, 200, "{report}");
    assert!(outcomes.ok >= 150, "{report}");
}

#[tokio::test]
async fn close_instead_of_a_response_is_a_connection_error() {
    let server = Server::start(Behaviour::CloseAtSecond).await;
    let report = run(&server, CLOSED, |_| ()).await;
    let outcomes = &report.outcomes;
    assert_eq!(outcomes.ok + outcomes.connection_errors, 200, "{report}");
    assert_eq!(outcomes.ok, report.connections_opened, "{report}");
    // The second request of each connection fails, unless the run ends before it; four connections are open then.
    let surplus = outcomes.ok.checked_sub(outcomes.connection_errors);
    assert!(surplus.is_some_and(|surplus| surplus <= 4), "{report}");
    let error = &report.first_errors[0];
    assert!(error.starts_with("closed before the response"), "{error}");
}

#[tokio::test]
async fn truncated_response_is_a_connection_error() {
    let server = Server::start(Behaviour::Truncated).await;
    let report = run(&server, CLOSED, |load| load.until = Until::Requests(20)).await;
    assert_eq!(report.outcomes.connection_errors, 20, "{report}");
    let error = &report.first_errors[0];
    assert!(error.starts_with("closed in the middle"), "{error}");
}

#[tokio::test]
async fn refused_connect_is_a_connection_error() {
    let server = Server::start(Behaviour::Right).await;
    let addr = server.addr();
    drop(server);
    let mut load = Load::new(addr, CLOSED);
    load.until = Until::Requests(8);
    let report = load.run().await.unwrap();
    assert_eq!(
        (report.outcomes.connection_errors, report.outcomes.total()),
        (8, 8),
        "{report}"
    );
    assert!(report.throughput().abs() < f64::EPSILON);
}

#[tokio::test]
async fn missing_response_is_a_timeout() {
    let server = Server::start(Behaviour::Silent).await;
    let begin = Instant::now();
    let report = run(&server, CLOSED, |load| {
        load.until = Until::Requests(4);
        load.timeout = 100 * MS;
    })
    .await;
    assert_eq!((report.outcomes.timeouts, report.outcomes.total()), (4, 4), "{report}");
    assert!(begin.elapsed() >= 100 * MS);
}

#[tokio::test]
async fn open_loop_latency_contains_the_wait_for_a_connection() {
    // 100 requests/s for one connection that does 50: the last of 50 requests waits for about half a second.
    let server = Server::start(Behaviour::Slow(20 * MS)).await;
    let mode = Mode::Open {
        rate: 100.0,
        connections: Connections::Fixed(1),
    };
    let report = run(&server, mode, |load| load.until = Until::Elapsed(500 * MS)).await;
    assert_eq!(report.outcomes.ok, 50, "{report}");
    assert!(report.latency_at(1.0) >= 480 * MS, "{report}");
    assert!(report.latency_at(0.5) >= 230 * MS, "{report}");
    assert!(report.ok_in_time <= 25);
}

#[tokio::test]
async fn open_loop_opens_connections_on_demand_up_to_the_maximum() {
    let server = Server::start(Behaviour::Slow(50 * MS)).await;
    let on_demand = |max| Mode::Open {
        rate: 200.0,
        connections: Connections::UpTo(max),
    };
    let mut opened = Vec::new();
    // On a busy machine requests become overdue, and open more connections.
    for _ in 0..3 {
        let report = run(&server, on_demand(1_000), |load| load.until = Until::Elapsed(500 * MS)).await;
        assert_eq!(report.outcomes.ok, 100, "{report}");
        opened.push(report.connections_opened);
    }
    // 200 requests/s that take 50 ms each are 10 at a time.
    assert!(opened.iter().all(|it| *it >= 10), "{opened:?}");
    assert!(opened.iter().any(|it| *it < 50), "{opened:?}");

    let report = run(&server, on_demand(3), |load| load.until = Until::Elapsed(500 * MS)).await;
    assert_eq!((report.outcomes.ok, report.connections_opened), (100, 3), "{report}");
}

#[tokio::test]
async fn request_without_idle_connection_is_unsent_after_the_timeout() {
    let server = Server::start(Behaviour::Silent).await;
    let mode = Mode::Open {
        rate: 1_000.0,
        connections: Connections::Fixed(2),
    };
    let begin = Instant::now();
    let report = run(&server, mode, |load| {
        load.until = Until::Elapsed(200 * MS);
        load.timeout = 100 * MS;
    })
    .await;
    let outcomes = &report.outcomes;
    assert_eq!(
        (outcomes.timeouts + outcomes.unsent, outcomes.total()),
        (200, 200),
        "{report}"
    );
    assert!(outcomes.timeouts >= 2 && outcomes.unsent > 100, "{report}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn interrupted_run_reports_completed_requests() {
    let server = Server::start(Behaviour::Right).await;
    let mut load = Load::new(server.addr(), CLOSED);
    load.until = Until::Elapsed(Duration::from_secs(3_600));
    let report = load.run_until(tokio::time::sleep(200 * MS)).await.unwrap();
    assert!(report.interrupted && report.outcomes.ok > 0, "{report}");
    assert!(
        (190 * MS..Duration::from_secs(60)).contains(&report.elapsed),
        "{report}"
    );
}

#[tokio::test]
async fn report_is_text_and_json() {
    let server = Server::start(Behaviour::Right).await;
    let report = run(&server, CLOSED, |_| ()).await;
    let text = report.to_string();
    assert!(
        text.contains("closed loop, 4 connections") && text.contains("200 ok, 0 wrong"),
        "{text}"
    );
    let json = report.to_json();
    assert_eq!(json["settings"]["mode"], "closed");
    assert_eq!(json["outcomes"]["ok"], 200);
    assert_eq!(json["latency_us"]["p99.9"], report.latency.value_at_quantile(0.999));
}

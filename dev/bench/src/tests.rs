//! Whole runs against a small server on a real socket, one per way a server can behave.

mod journal;
mod server;

use crate::{Connections, Load, Mode, Question, Report, Until, Wrong};
use server::{Behaviour, Server};
use std::time::Duration;
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);
const CLOSED: Mode = Mode::Closed { connections: 4 };

/// A run of 200 requests, changed as the test wants.
async fn run(server: &Server, mode: Mode, change: impl FnOnce(&mut Load)) -> Report {
    let mut load = Load::new(server.addr(), mode);
    load.until = Until::Requests(200);
    load.timeout = Duration::from_secs(5);
    change(&mut load);
    load.run().await.unwrap()
}

#[tokio::test]
async fn right_answers_are_ok() {
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
async fn connections_take_the_targets_in_turn() {
    let kept = Server::start(Behaviour::Right).await;
    let closing = Server::start(Behaviour::CloseAfter {
        answers: 1,
        announced: true,
    })
    .await;
    for mode in [
        CLOSED,
        Mode::Open {
            rate: 10_000.0,
            connections: Connections::Fixed(4),
        },
    ] {
        let before = [kept.requests(), closing.requests()];
        let report = run(&kept, mode, |load| load.targets.push(closing.addr())).await;
        assert_eq!(report.outcomes.ok, 200, "{report}");
        let asked = [kept.requests() - before[0], closing.requests() - before[1]];
        assert!(asked.iter().all(|it| *it >= 2), "{asked:?}");
        // What is closed is opened again to where it was.
        assert_eq!(report.connections_opened, 2 + asked[1] as u64, "{asked:?}");
    }
}

#[tokio::test]
async fn get_and_large_bodies_are_answered_too() {
    let server = Server::start(Behaviour::Right).await;
    for question in [
        Question::Get,
        Question::Post {
            body_bytes: Some(300_000),
        },
    ] {
        let report = run(&server, CLOSED, |load| load.question = question).await;
        assert_eq!(report.outcomes.ok, 200, "{question:?}: {report}");
    }
}

#[tokio::test]
async fn swapped_answers_are_noticed() {
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
async fn one_answer_for_all_is_noticed_by_its_id() {
    let server = Server::start(Behaviour::SameId).await;
    let report = run(&server, CLOSED, |load| load.question = Question::Get).await;
    assert_eq!(
        (report.outcomes.ok, report.outcomes.wrong.get(&Wrong::Repeated)),
        (1, Some(&199)),
        "{report}"
    );
}

#[tokio::test]
async fn a_wrong_answer_of_the_warm_up_is_not_forgiven() {
    let server = Server::start(Behaviour::SwapPairs).await;
    let report = run(&server, CLOSED, |load| {
        load.warmup = 50 * MS;
        load.until = Until::Requests(1);
    })
    .await;
    assert!(report.warmup.wrong_total() > 0 && report.wrong_total() > report.outcomes.wrong_total());
}

#[tokio::test]
async fn malformed_and_surplus_answers_are_wrong() {
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
async fn an_error_status_is_an_outcome_by_its_code() {
    let refusal = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}";
    let server = Server::start(Behaviour::Raw(refusal)).await;
    let report = run(&server, CLOSED, |_| ()).await;
    assert_eq!(report.outcomes.statuses.get(&503), Some(&200), "{report}");
    assert_eq!((report.outcomes.total(), report.connections_opened), (200, 4));
}

#[tokio::test]
async fn an_announced_close_is_followed_by_a_new_connection_without_an_error() {
    let server = Server::start(Behaviour::CloseAfter {
        answers: 3,
        announced: true,
    })
    .await;
    let report = run(&server, CLOSED, |_| ()).await;
    assert_eq!(report.outcomes.ok, 200, "{report}");
    assert!(report.connections_opened > 60);
}

#[tokio::test]
async fn an_unannounced_close_is_an_error_unless_it_is_noticed_or_retried() {
    let server = Server::start(Behaviour::CloseAfter {
        answers: 3,
        announced: false,
    })
    .await;
    let report = run(&server, CLOSED, |_| ()).await;
    let outcomes = &report.outcomes;
    assert_eq!(outcomes.ok + outcomes.connection_errors, 200, "{report}");

    let report = run(&server, CLOSED, |load| load.retry = true).await;
    assert_eq!(report.outcomes.ok, 200, "{report}");
}

#[tokio::test]
async fn a_request_swallowed_by_a_close_is_an_error_or_retried_once() {
    let server = Server::start(Behaviour::SwallowSecond).await;
    let report = run(&server, CLOSED, |_| ()).await;
    let outcomes = &report.outcomes;
    assert_eq!(outcomes.ok + outcomes.connection_errors, 200, "{report}");
    assert_eq!(outcomes.ok, report.connections_opened, "{report}");
    // Each connection's second request is swallowed, unless the run ends at its first; four are open then.
    let more = outcomes.ok.checked_sub(outcomes.connection_errors);
    assert!(more.is_some_and(|it| it <= 4), "{report}");
    assert!(
        report.first_errors[0].starts_with("closed before the answer"),
        "{:?}",
        report.first_errors
    );

    let report = run(&server, CLOSED, |load| load.retry = true).await;
    assert_eq!(report.outcomes.ok, 200, "{report}");
    // A connection answers once and a request is sent twice at most: with four callers, 200 answers take 196 repeats.
    assert!(report.retries >= 196, "{report}");
}

#[tokio::test]
async fn an_answer_that_is_cut_is_a_connection_error_even_with_retry() {
    let server = Server::start(Behaviour::Cut).await;
    let report = run(&server, CLOSED, |load| {
        load.until = Until::Requests(20);
        load.retry = true;
    })
    .await;
    assert_eq!((report.outcomes.connection_errors, report.retries), (20, 0), "{report}");
    assert!(
        report.first_errors[0].starts_with("closed in the middle"),
        "{:?}",
        report.first_errors
    );
}

#[tokio::test]
async fn nobody_listening_is_counted_and_ends() {
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
async fn silence_is_a_timeout() {
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
async fn the_open_loop_counts_the_wait_for_a_connection() {
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
async fn the_open_loop_opens_connections_on_demand_and_no_more_than_allowed() {
    let server = Server::start(Behaviour::Slow(50 * MS)).await;
    let on_demand = |max| Mode::Open {
        rate: 200.0,
        connections: Connections::UpTo(max),
    };
    let mut opened = Vec::new();
    // Whatever is late on a busy machine is due at once, and opens more.
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
async fn what_finds_no_connection_in_time_is_given_up_unsent() {
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
async fn a_stopped_run_reports_what_it_has() {
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
async fn the_report_reads_for_a_person_and_for_a_machine() {
    let server = Server::start(Behaviour::Right).await;
    let report = run(&server, CLOSED, |_| ()).await;
    let text = report.to_string();
    assert!(
        text.contains("closed loop, 4 connections") && text.contains("200 ok, 0 wrong"),
        "{text}"
    );
    let json = report.to_json();
    assert_eq!(json["settings"]["mode"], "closed");
    assert_eq!(json["settings"]["requests"], 200);
    assert_eq!(json["outcomes"]["ok"], 200);
    assert_eq!(json["latency_us"]["p99.9"], report.latency.value_at_quantile(0.999));
}

//! A bad configuration stops the start with one line and exit code 64; a port that is taken with one line and 1.

use std::{ffi::OsStr, net::TcpListener, os::unix::ffi::OsStrExt};

use e2e::process::{Ended, Setup};

/// Exit code 64, nothing on stdout, and one line with all of these on stderr.
fn assert_refused(ended: &Ended, words: &[&str]) {
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (64, ""),
        "{words:?}: {}",
        ended.stderr
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{words:?}: {}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?}: {}", ended.stderr);
    }
}

pub(crate) async fn of_both_is_checked_at_the_start() {
    for (variable, value, allowed) in [
        ("KAFKA_BROKERS", "", "host:port"),
        ("KAFKA_BROKERS", "kafka", "host:port"),
        ("KAFKA_BROKERS", "kafka:0", "host:port"),
        ("PING_TOPIC", "with space", "a topic name"),
        ("PONG_TOPIC", "..", "a topic name"),
        ("PONG_TOPIC", "ping", "different"),
        ("ADMIN_ADDR", "8081", "an IP address and a port"),
        ("ADMIN_ADDR", "localhost:8081", "an IP address and a port"),
        ("DRAIN_TIMEOUT", "8", "a duration"),
        ("DRAIN_TIMEOUT", "2h", "1h at most"),
        ("RUST_LOG", "info,=", "tracing directives"),
        ("LOG_FORMAT", "xml", "text, json"),
    ] {
        for setup in [Setup::gateway(), Setup::worker()] {
            let ended = setup.set(variable, value).run().await;
            assert_refused(&ended, &[variable, &format!("{value:?}"), allowed]);
        }
    }
}

pub(crate) async fn of_the_gateway_is_checked_at_the_start() {
    for (variable, value, allowed) in [
        ("HTTP_ADDR", ":8080", "an IP address and a port"),
        ("REPLY_TIMEOUT", "0s", "a duration above zero"),
        ("REPLY_TIMEOUT", "ten", "a duration above zero"),
        ("MAX_IN_FLIGHT", "0", "from 1 to 1000000"),
        ("MAX_IN_FLIGHT", "-1", "from 1 to 1000000"),
        ("MAX_CONNECTIONS", "many", "from 1 to 1000000"),
        ("HEADER_TIMEOUT", "-1s", "a duration above zero"),
        ("MAX_BODY", "0", "512KiB"),
        ("MAX_BODY", "1GiB", "512KiB"),
        ("REQUEST_PARTITIONS", "0-3", "all, or partition numbers"),
        ("REPLY_PARTITION", "-1", "auto, or a partition number"),
        ("REPLY_PARTITION", "all", "auto, or a partition number"),
        ("WIRE_HEADERS", "go", "common, spring, nest, smallrye, none"),
        ("PONG_TOPIC", "__replies", "unless WIRE_HEADERS=none"),
    ] {
        let ended = Setup::gateway().set(variable, value).run().await;
        assert_refused(&ended, &[variable, &format!("{value:?}"), allowed]);
    }
    // Requests without headers cannot send their replies anywhere.
    for value in ["1", "auto"] {
        let setup = Setup::gateway().set("REPLY_PARTITION", value);
        let ended = setup.set("WIRE_HEADERS", "none").run().await;
        assert_refused(
            &ended,
            &[
                "REPLY_PARTITION",
                &format!("{value:?}"),
                "WIRE_HEADERS=none",
                "must be 0",
            ],
        );
    }
}

pub(crate) async fn of_the_worker_is_checked_at_the_start() {
    let long = "g".repeat(250);
    for (variable, value, allowed) in [
        ("START_FROM", "middle", "resume, latest, earliest"),
        ("PARTITIONS", "", "all, or partition numbers"),
        ("PARTITIONS", "0,-1", "all, or partition numbers"),
        ("PARTITIONS", "0-3", "all, or partition numbers"),
        ("WORKER_GROUP", "", "1 to 249 characters"),
        ("WORKER_GROUP", &long, "1 to 249 characters"),
        ("POSITION_GROUP", "", "1 to 249 characters"),
        ("ANNOUNCE_INTERVAL", "99ms", "0 or 100ms to 1s"),
        ("ANNOUNCE_INTERVAL", "1001ms", "0 or 100ms to 1s"),
        ("ANNOUNCE_INTERVAL", "often", "0 or 100ms to 1s"),
    ] {
        let ended = Setup::worker().set(variable, value).run().await;
        assert_refused(&ended, &[variable, &format!("{value:?}"), allowed]);
    }
    // Either the setting says who reads what, or the group.
    for value in ["0", "all"] {
        let setup = Setup::worker().set("PARTITIONS", value);
        let ended = setup.set("WORKER_GROUP", "of workers").run().await;
        assert_refused(
            &ended,
            &["PARTITIONS, WORKER_GROUP", "only one of them", "\"of workers\""],
        );
    }
}

pub(crate) async fn by_flags_is_the_same() {
    let ended = Setup::gateway().arg("--reply-timeout=soon").run().await;
    assert_refused(&ended, &["REPLY_TIMEOUT", "\"soon\"", "a duration above zero"]);
    for setup in [Setup::gateway(), Setup::worker()] {
        assert_refused(&setup.arg("--no-such-flag").run().await, &["--no-such-flag"]);
    }
    for setup in [Setup::gateway(), Setup::worker()] {
        assert_refused(&setup.arg("no-such-command").run().await, &["no-such-command"]);
    }
}

pub(crate) async fn that_is_not_text_is_refused() {
    for setup in [Setup::gateway(), Setup::worker()] {
        let ended = setup.set("PING_TOPIC", OsStr::from_bytes(b"\xff")).run().await;
        assert_refused(&ended, &[]);
    }
}

pub(crate) async fn is_explained_by_the_help() {
    let both = [
        "KAFKA_BROKERS",
        "PING_TOPIC",
        "PONG_TOPIC",
        "ADMIN_ADDR",
        "DRAIN_TIMEOUT",
        "RUST_LOG",
        "LOG_FORMAT",
        "healthcheck",
    ];
    let gateway = [
        "HTTP_ADDR",
        "REPLY_TIMEOUT",
        "MAX_IN_FLIGHT",
        "MAX_CONNECTIONS",
        "HEADER_TIMEOUT",
        "MAX_BODY",
        "REQUEST_PARTITIONS",
        "REPLY_PARTITION",
        "WIRE_HEADERS",
    ];
    let worker = [
        "PARTITIONS",
        "WORKER_GROUP",
        "POSITION_GROUP",
        "START_FROM",
        "ANNOUNCE_INTERVAL",
    ];
    for (setup, own) in [
        (Setup::gateway as fn() -> Setup, &gateway[..]),
        (Setup::worker, &worker),
    ] {
        let ended = setup().arg("--help").run().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        for variable in both.iter().chain(own) {
            assert!(ended.stdout.contains(variable), "{variable}: {}", ended.stdout);
        }
        let ended = setup().arg("--version").run().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        assert!(ended.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", ended.stdout);
    }
}

pub(crate) async fn of_a_taken_port_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (setup, variable) in [
        (Setup::gateway(), "HTTP_ADDR"),
        (Setup::gateway(), "ADMIN_ADDR"),
        (Setup::worker(), "ADMIN_ADDR"),
    ] {
        // At the level of warnings, so that what was bound before is not in the way.
        let ended = setup.set(variable, &addr).set("RUST_LOG", "warn").run().await;
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        for word in [variable, &addr, "in use"] {
            assert!(ended.stderr.contains(word), "{word:?}: {}", ended.stderr);
        }
    }
}

//! Configuration errors: one line on stderr and exit code 64, or 1 for a port in use.

use std::{ffi::OsStr, net::TcpListener, os::unix::ffi::OsStrExt};

use e2e::process::{Ended, Setup};

/// The width of `--help`.
const MAX_COLUMNS: usize = 100;

/// Exit code 64, nothing on stdout, and one line with all of these texts on stderr.
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

pub(crate) async fn bad_setting_exits_64_with_one_line() {
    const GATEWAY: &[fn() -> Setup] = &[Setup::gateway];
    const WORKER: &[fn() -> Setup] = &[Setup::worker];
    const BOTH: &[fn() -> Setup] = &[Setup::gateway, Setup::worker];

    let long = "g".repeat(250);
    for (setups, variable, value, allowed) in [
        (BOTH, "KAFKA_BROKERS", "kafka", "host:port"),
        (BOTH, "KAFKA_BROKERS", "a:9092;b:9092", "separated by commas"),
        (BOTH, "PING_TOPIC", "with space", "a topic name"),
        (BOTH, "PONG_TOPIC", "..", "a topic name"),
        (BOTH, "PONG_TOPIC", "ping", "different"),
        (BOTH, "ADMIN_ADDR", "localhost:8081", "an IP address and a port"),
        (BOTH, "DRAIN_TIMEOUT", "8", "a duration"),
        (BOTH, "DRAIN_TIMEOUT", "2h", "1h at most"),
        (BOTH, "RUST_LOG", "info,=", "tracing directives"),
        (BOTH, "RUST_LOG", "debgu", "off, error, warn, info, debug or trace"),
        (BOTH, "LOG_FORMAT", "xml", "text, json"),
        (GATEWAY, "HTTP_ADDR", ":8080", "an IP address and a port"),
        (GATEWAY, "REPLY_TIMEOUT", "0s", "a duration above zero"),
        (GATEWAY, "MAX_IN_FLIGHT", "0", "from 1 to 1000000"),
        (GATEWAY, "MAX_CONNECTIONS", "many", "from 1 to 1000000"),
        (GATEWAY, "HEADER_TIMEOUT", "-1s", "a duration above zero"),
        (GATEWAY, "IDLE_TIMEOUT", "0s", "a duration above zero"),
        (GATEWAY, "MAX_BODY", "0", "512KiB"),
        (GATEWAY, "MAX_BODY", "1GiB", "512KiB"),
        (GATEWAY, "REQUEST_PARTITIONS", "0-3", "all, or partition numbers"),
        (GATEWAY, "REPLY_PARTITION", "-1", "auto, or a partition number"),
        (GATEWAY, "REPLY_PARTITION", "all", "auto, or a partition number"),
        (GATEWAY, "WIRE_HEADERS", "go", "common, spring, nest, smallrye, none"),
        (GATEWAY, "PONG_TOPIC", "__replies", "unless WIRE_HEADERS=none"),
        (WORKER, "START_FROM", "middle", "resume, latest, earliest"),
        (WORKER, "PARTITIONS", "0,-1", "all, or partition numbers"),
        (WORKER, "WORKER_GROUP", "", "1 to 249 characters"),
        (WORKER, "WORKER_GROUP", &long, "1 to 249 characters"),
        (WORKER, "POSITION_GROUP", "", "1 to 249 characters"),
        (WORKER, "CONCURRENCY", "0", "from 1 to 10000"),
        (WORKER, "REPLY_TOPICS", "a*b", "may end in *"),
        (WORKER, "FORWARD_TO", "https://a", "such as http://127.0.0.1:3000"),
        (
            WORKER,
            "FORWARD_REPLY_HEADERS",
            "connection",
            "not those of one connection",
        ),
        (WORKER, "ANNOUNCE_INTERVAL", "99ms", "0 or 100ms to 1s"),
        (WORKER, "ANNOUNCE_INTERVAL", "1001ms", "0 or 100ms to 1s"),
    ] {
        for setup in setups {
            let ended = setup().set(variable, value).run().await;
            assert_refused(&ended, &[variable, &format!("{value:?}"), allowed]);
        }
    }
    // Settings that exclude each other: without headers a request cannot name the reply partition, and the partitions
    // of a member are the group's decision.
    for value in ["1", "auto"] {
        let setup = Setup::gateway().set("REPLY_PARTITION", value);
        let ended = setup.set("WIRE_HEADERS", "none").run().await;
        let quoted = format!("{value:?}");
        assert_refused(&ended, &["REPLY_PARTITION", &quoted, "WIRE_HEADERS=none", "must be 0"]);
    }
    for value in ["0", "all"] {
        let setup = Setup::worker().set("PARTITIONS", value);
        let ended = setup.set("WORKER_GROUP", "of workers").run().await;
        let names = "PARTITIONS, WORKER_GROUP";
        assert_refused(&ended, &[names, "only one of them", "\"of workers\""]);
    }
    let ended = Setup::worker().set("TOPICS", "orders").run().await;
    assert_refused(&ended, &["TOPICS, FORWARD_TO", "both"]);
    let forward = || Setup::worker().set("TOPICS", "orders").set("FORWARD_TO", "http://a");
    assert_refused(&forward().run().await, &["WORKER_GROUP, PARTITIONS", "one of them"]);
    let ended = forward()
        .set("PARTITIONS", "0")
        .set("DEAD_LETTER_TOPIC", "orders")
        .run()
        .await;
    assert_refused(&ended, &["DEAD_LETTER_TOPIC", "\"orders\"", "another topic"]);
}

pub(crate) async fn bad_flag_exits_64_with_one_line() {
    let ended = Setup::gateway().arg("--reply-timeout=soon").run().await;
    assert_refused(&ended, &["REPLY_TIMEOUT", "\"soon\"", "a duration above zero"]);
    for (arg, nearest) in [
        ("--no-such-flag", "no such flag"),
        ("no-such-command", "no such command"),
        ("--kafka-broker=a:1", "did you mean --kafka-brokers?"),
        ("healthchek", "did you mean healthcheck?"),
    ] {
        for setup in [Setup::gateway(), Setup::worker()] {
            let (name, _) = arg.split_once('=').unwrap_or((arg, ""));
            assert_refused(&setup.arg(arg).run().await, &[name, nearest, "--help"]);
        }
    }
}

pub(crate) async fn misspelled_environment_variable_is_named_in_one_warning() {
    for setup in [Setup::gateway(), Setup::worker()] {
        let process = setup
            .set("KAFKA_BROKER", "127.0.0.1:1")
            .set("PINGTOPIC", "secret")
            .set("KAFKA_HOME", "/opt/kafka")
            .set("KAFKA_PORT", "tcp://10.0.0.1:9092")
            .set("RUST_LOG", "rskafka=off,info")
            .start()
            .await;
        let line = process.until_logged_once("resemble settings").await;
        assert!(line.contains(" WARN "), "{line}");
        for text in [
            "KAFKA_BROKER (did you mean KAFKA_BROKERS?)",
            "PINGTOPIC (did you mean PING_TOPIC?)",
        ] {
            assert!(line.contains(text), "{text}: {line}");
        }
        for text in ["KAFKA_HOME", "KAFKA_PORT", "secret"] {
            assert!(!line.contains(text), "{text}: {line}");
        }
    }
}

pub(crate) async fn setting_that_is_not_utf8_exits_64() {
    for setup in [Setup::gateway(), Setup::worker()] {
        let ended = setup.set("PING_TOPIC", OsStr::from_bytes(b"\xff")).run().await;
        assert_refused(&ended, &[]);
    }
}

pub(crate) async fn help_lists_every_setting() {
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
        "ROUTES",
        "CREATE_TOPICS",
        "REPLY_TIMEOUT",
        "MAX_IN_FLIGHT",
        "MAX_CONNECTIONS",
        "HEADER_TIMEOUT",
        "IDLE_TIMEOUT",
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
        for text in [
            "Kafka:\n",
            "TLS and login to Kafka:\n",
            "Process:\n",
            "[default: 8s]",
            "Examples:\n",
        ] {
            assert!(ended.stdout.contains(text), "{text:?}: {}", ended.stdout);
        }
        for flag in ["-h", "--help"] {
            let ended = setup().arg(flag).run().await;
            for line in ended.stdout.lines() {
                assert!(line.len() <= MAX_COLUMNS, "{flag}: {line}");
            }
        }
        let ended = setup().arg("healthcheck").arg("--help").run().await;
        assert!(
            ended.stdout.lines().all(|line| line.len() <= MAX_COLUMNS),
            "{}",
            ended.stdout
        );
        let ended = setup().arg("--version").run().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        assert!(ended.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", ended.stdout);
    }
}

pub(crate) async fn help_of_ask_has_its_settings_and_exit_codes() {
    for flag in ["-h", "--help"] {
        let ended = Setup::gateway().arg("ask").arg(flag).run().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        for text in [
            "--path",
            "--method",
            "--header",
            "--data",
            "--key",
            "--timeout",
            "--group",
            "--also-read",
            "KAFKA_BROKERS",
            "PONG_TOPIC",
            "ROUTES",
            "WIRE_HEADERS",
            "Exit codes:\n",
            "Examples:\n",
        ] {
            assert!(ended.stdout.contains(text), "{text:?}: {}", ended.stdout);
        }
        for line in ended.stdout.lines() {
            assert!(line.len() <= MAX_COLUMNS, "{flag}: {line}");
        }
    }
}

pub(crate) async fn port_in_use_exits_1_with_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    for (setup, variable) in [
        (Setup::gateway(), "HTTP_ADDR"),
        (Setup::gateway(), "ADMIN_ADDR"),
        (Setup::worker(), "ADMIN_ADDR"),
    ] {
        // Without the info lines of the listeners that were bound before.
        let ended = setup.set(variable, &addr).set("RUST_LOG", "warn").run().await;
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        for word in [variable, &addr, "in use"] {
            assert!(ended.stderr.contains(word), "{word:?}: {}", ended.stderr);
        }
    }
}

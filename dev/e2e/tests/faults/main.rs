//! Fault scenarios: faults under load, and how soon gateway and worker recover.
//!
//!     faults [NUMBER|ENGINE]...     for example `faults 3 7 kafka`; without arguments, all scenarios
//!
//! Scenarios run one at a time, on optimized binaries and a quiet machine. Beside its own criterion, each scenario keeps
//! these invariants:
//!
//! - I1: one HTTP response per request. I2: no reply reaches another caller; each request has a value of its own.
//! - I3: nothing is in flight one second after the last timeout. I4: no panic, and the process lives.
//! - I5: within a second, the number of descriptors is back, ±8.
//! - I6: memory does not grow from each round to the next by more than a tenth or 2 MiB, in two to four rounds. Long
//!   faults (3, 6, 7, 12) run once and compare the end with the middle; 14 to 16 end their processes.
//!
//! A debug build runs its own binaries and checks the harness only: its figures mean nothing.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a panic fails the scenario and names the line; figures are rounded"
)]

mod baseline;
mod broker_limits;
mod brokers;
mod callers;
mod compression;
mod fault;
mod idle_flows;
mod invariants;
mod keep_alive;
mod limits;
mod partitions;
mod runner;
mod scripted_worker;
mod shutdown;
mod soak;
mod table;
mod topics;
mod traffic;
mod transactions;
mod undecodable;
mod verdict;
mod workers;

use std::process::ExitCode;

use crate::runner::{Place::*, Scenario, scenarios};

fn main() -> ExitCode {
    runner::run(SCENARIOS)
}

/// In the order of the table.
const SCENARIOS: &[Scenario] = scenarios! {
    1, Kafka, baseline::steady: "no fault for a minute" => "99.99 % OK";
    2, Kafka, baseline::sizes: "values of 1 B to 64 KiB" => "p50 steps ≤ 5 ms below 7 KiB";
    3, Kafka, brokers::killed: "only broker killed, restarted after 10 s" => "99.9 % OK from 5 s after its port opens";
    3, BuiltIn, brokers::killed: "only broker killed, restarted after 10 s" => "99.9 % OK from 5 s after its port opens";
    4, Kafka, brokers::leader_killed: "leader of three brokers killed, 5 times" => "99.9 % OK from 6 s after the kill";
    5, Kafka, brokers::leader_terminated: "leader of three brokers shut down, 5 times" => "failures for ≤ 2 s each";
    6, Kafka, brokers::leader_hangs: "leader of three brokers paused for 30 s" => "99.9 % OK from 8 s; ≤ 2 s of failures after SIGCONT";
    7, Kafka, brokers::stopped: "only broker paused for 30 s" => "responses ≤ 2.1 s; 99.9 % OK from 3 s after SIGCONT";
    7, BuiltIn, brokers::stopped: "only broker paused for 30 s" => "responses ≤ 2.1 s; 99.9 % OK from 3 s after SIGCONT";
    8, Kafka, brokers::leader_moves: "each topic's leader moves 3 times" => "failures for ≤ 2 s each";
    8, BuiltIn, brokers::leader_moves: "leader moves and connections break, 3 times" => "failures for ≤ 2 s each";
    9, Kafka, brokers::absent_at_the_start: "started before the broker" => "live, not ready; ready ≤ 3 s after its port opens";
    9, Kafka, brokers::all_absent_at_the_start: "started before three brokers" => "live, not ready; ready ≤ 3 s after the last port";
    9, BuiltIn, brokers::absent_at_the_start: "started before the broker" => "live, not ready; ready ≤ 3 s after its port opens";
    10, Kafka, brokers::idle: "broker closes idle connections, then a request" => "200 within 50 ms";
    10, BuiltIn, brokers::idle: "broker closes idle connections, then a request" => "200 within 50 ms";
    11, Kafka, workers::killed: "worker killed, next one after 1 s" => "99 % of unexpired requests in flight OK";
    12, Kafka, workers::absent: "no worker for a minute" => "500 at the timeout or 503 at once; in flight ≤ 1024";
    13, Kafka, workers::twofold: "two workers reply to every request" => "one response each; duplicates counted";
    14, Kafka, shutdown::under_load: "gateway shut down under load" => "no request cut; exit 0 within the drain + 1 s";
    15, Kafka, shutdown::rolling_restart: "two gateways restarted in turn, clients retry" => "10,000 requests without a failure";
    15, Kafka, shutdown::rolling_restart_of_workers: "workers restarted in turn, alone and in a group" => "all requests 200";
    16, Kafka, shutdown::with_a_request_in_flight: "gateway shut down with a request in flight" => "exit within the drain + 1 s; second signal at once";
    17, Kafka, topics::recreated: "topics deleted for 5 s, recreated" => "99.9 % OK from 5 s after; < 20 % CPU meanwhile";
    17, Kafka, topics::recreated_on_three: "topics deleted for 5 s, recreated (3 brokers)" => "99.9 % OK from 5 s after; < 20 % CPU meanwhile";
    17, BuiltIn, topics::recreated: "topics deleted for 5 s, recreated" => "99.9 % OK from 5 s after; < 20 % CPU meanwhile";
    18, Kafka, topics::records_deleted: "unread requests deleted" => "99.9 % OK from 5 s on; lost ones counted";
    18, Kafka, topics::records_deleted_on_three: "unread requests deleted (3 brokers)" => "99.9 % OK from 5 s on; lost ones counted";
    18, BuiltIn, topics::log_truncated: "logs truncated below the read offset" => "99.9 % OK from 5 s on; lost ones counted";
    19, Kafka, undecodable::values: "6,000 invalid records on each topic" => "exact counters; 99.9 % of valid ones OK";
    20, Kafka, undecodable::encodings_of_kcat: "unusual and compressed batches, transactions (kcat)" => "waits ≤ 1 s; all OK; every record delivered";
    20, BuiltIn, undecodable::encodings: "undecodable and corrupt batches, open transactions" => "waits ≤ 1 s; all OK; the rest delivered";
    21, Kafka, workers::unmatched_replies: "replies in triplicate, late, foreign" => "one response each; each kind counted exactly";
    22, Kafka, workers::slow: "4,000/s to a worker of 2,000/s" => "goodput ≥ 90 %; 503 with Retry-After, p99 ≤ 50 ms";
    23, Kafka, callers::crowd: "10,240 clients, 10 × the limit, for 30 s" => "in flight ≤ 1024; ≤ 20 KiB/connection + 16 MiB";
    24, Kafka, callers::slow: "3,000 slow and 10,000 silent connections" => "closed by timeout + 1 s; other clients 99.9 % OK";
    25, Kafka, callers::hostile: "malformed and too large requests" => "400, 413 or 431 and close; nothing produced";
    26, Kafka, callers::gone: "10,000 clients disconnect while waiting" => "nothing in flight, descriptors back: RST ≤ 1 s, FIN ≤ 3 s";
    27, Kafka, limits::descriptors: "1,000 clients, 256 descriptors, then 64 left" => "< 30 % CPU; 200 ≤ 2 s after they left";
    28, Kafka, limits::clocks: "clock of one process off by an hour; a backlog" => "all OK; timeouts at 2 s; no unexpired one skipped";
    29, Kafka, soak::mixed: "ten minutes of mixed sizes" => "< 1 MiB/min after 2 min; p99 < 1.2 × a new pair's";
    30, Kafka, compression::every_codec: "every codec of broker, topic, and other clients" => "all answered";
    31, Kafka, transactions::of_others: "transactions of others, overlapping and abandoned" => "aborted: never; committed: all; waits ≤ 1 s";
    32, Kafka, idle_flows::forgotten: "a proxy forgets idle flows without a word" => "next request 200 within 2 s";
    32, BuiltIn, idle_flows::forgotten: "a proxy forgets idle flows without a word" => "next request 200 within 2 s";
    33, Kafka, broker_limits::small_batches: "batches ≤ 20,000 and ≤ 10,000 bytes, 1,024 callers" => "each that fits OK, none written twice";
    33, BuiltIn, broker_limits::small_batches: "batches ≤ 20,000 and ≤ 10,000 bytes, 1,024 callers" => "each that fits OK, none written twice";
    34, Kafka, broker_limits::producer_quota: "quota of 10,000 bytes/s on gateway, then worker" => "none executed twice; 503 beyond the bound";
    36, Kafka, keep_alive::proxies: "nginx and a balancer keep idle connections, 10 ms away" => "no 502 in 1,000 POSTs each";
    37, Kafka, partitions::another_number: "topics made anew with more and fewer partitions" => "ready and serving ≤ 30 s";
    37, BuiltIn, partitions::another_number: "topics made anew with more and fewer partitions" => "ready and serving ≤ 30 s";
    38, Kafka, partitions::first_start_of_a_group: "first members of a group join under load" => "no request after ready is skipped";
    38, BuiltIn, partitions::first_start_of_a_group: "first members of a group join under load" => "no request after ready is skipped";
};

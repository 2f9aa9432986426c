//! The fault suite: what goes wrong around a gateway and a worker, under load, and how soon all is well again.
//!
//!     faults [NUMBER|ENGINE|fast]...     e.g. `faults 3 7 kafka`; without any, all of them
//!
//! One scenario at a time, since its figures are what it is about: optimized binaries, a quiet machine. Beside its own
//! criterion each has to keep the invariants of all:
//!
//! - I1: one HTTP response per request. I2: no reply reaches the wrong caller; each request has a value of its own.
//! - I3: nothing is pending one second after the last timeout. I4: no panic, and the process lives.
//! - I5: descriptors are back to where they were, ±5, within a second.
//! - I6: a scenario, or its fault, is played twice, and the memory after the second time is at most 1.1 times (or 2 MiB
//!   more than) that after the first. If it is more, it is played up to four times, and each time is compared with the one
//!   before: what leaks grows each time. So does the memory after the five ends of a leader in 4 and 5. A fault that lasts (3,
//!   6, 7, 12) is played once: it compares the end with half-way. A process that is to end (14 to 16) has no memory to compare.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a scenario fails by a panic too, and these say where; figures are rounded"
)]

mod baseline;
mod brokers;
mod callers;
mod endings;
mod hand;
mod limits;
mod poison;
mod runner;
mod soak;
mod stage;
mod table;
mod topics;
mod traffic;
mod verdict;
mod watch;
mod workers;

use std::process::ExitCode;

use crate::runner::{Place::*, Scenario, scenarios};

fn main() -> ExitCode {
    runner::run(SCENARIOS)
}

/// In the order of the table. What it takes is in seconds, on a quiet machine.
const SCENARIOS: &[Scenario] = scenarios! {
    1, Kafka, 130, baseline::steady:
        "Nothing goes wrong, for a minute. Twice." => "99.99 % answered";
    2, Kafka, 15, baseline::sizes:
        "One caller sends values of 1 B to 64 KiB. Twice." => "no step above 5 ms in p50 below 7 KiB; measured above it";
    3, Kafka, 45, brokers::killed:
        "The only broker is killed and starts again ten seconds later."
        => "all answered; 99.9 % OK from 5 s after its port opens";
    3, BuiltIn, 30, brokers::killed:
        "The same." => "the same";
    4, Kafka, 180, brokers::leader_killed:
        "Of three brokers the leader is killed, five times." => "99.9 % OK from 6 s after each kill";
    5, Kafka, 180, brokers::leader_terminated:
        "Of three brokers the leader ends in order, five times." => "failures within at most 2 s each";
    6, Kafka, 75, brokers::leader_hangs:
        "Of three brokers the leader stops for 30 s without closing anything (SIGSTOP)."
        => "99.9 % OK from 8 s on; at most 2 s of failures after SIGCONT";
    7, Kafka, 60, brokers::stopped:
        "The only broker stops for 30 s (SIGSTOP)."
        => "each caller told within the timeout + 0.1 s; 99.9 % OK from 3 s after SIGCONT";
    7, BuiltIn, 50, brokers::stopped:
        "The same." => "the same";
    8, Kafka, 75, brokers::leader_moves:
        "Each topic's leader moves three times while the old one lives. Twice." => "at most 2 s of failures each";
    8, BuiltIn, 50, brokers::leader_moves:
        "The same, and each time connections break until gateway and worker reconnect. Twice." => "the same";
    9, Kafka, 30, brokers::absent_at_the_start:
        "Gateway and worker start before Kafka." => "live at once, not ready; ready within 3 s after its port opens";
    9, Kafka, 40, brokers::all_absent_at_the_start:
        "Gateway and worker start before the three brokers."
        => "live at once, not ready; ready within 3 s after the last port opens";
    9, BuiltIn, 15, brokers::absent_at_the_start:
        "The same with one broker." => "the same";
    10, Kafka, 45, brokers::idle:
        "Nobody asks until the broker has closed its idle connections (10 s); then one request. Twice."
        => "200 within 50 ms";
    10, BuiltIn, 30, brokers::idle:
        "The same." => "the same";
    11, Kafka, 25, workers::killed:
        "The worker is killed under load and starts again a second later. Twice."
        => "99 % of those who wait and are not expired are answered";
    12, Kafka, 65, workers::absent:
        "There is no worker for a minute." => "each caller told at the timeout or at once; pending within the cap";
    13, Kafka, 30, workers::twofold:
        "Two workers answer every request. Twice." => "one response each; second replies counted";
    14, Kafka, 10, endings::under_load:
        "The gateway ends under load (SIGTERM)."
        => "no request in flight cut; exit code 0 within the drain + 1 s; new connections refused";
    15, Kafka, 15, endings::rolling_restart:
        "Two gateways are restarted in turn, behind clients that ask a second time."
        => "no failure in 10,000 requests";
    15, Kafka, 15, endings::rolling_restart_of_workers:
        "The only worker is restarted; then two of a group in turn." => "all answered 200";
    16, Kafka, 10, endings::of_a_stuck_request:
        "The gateway ends while a caller cannot be answered; and again, with a second SIGTERM."
        => "exit within the drain + 1 s";
    17, Kafka, 50, topics::recreated:
        "Both topics are deleted under load, and created again. Twice."
        => "99.9 % OK from 5 s after the creation; below 20 % of a core meanwhile";
    17, Kafka, 65, topics::recreated_on_three:
        "The same on three brokers." => "the same";
    17, BuiltIn, 45, topics::recreated:
        "The same with one broker." => "the same";
    18, Kafka, 35, topics::records_deleted:
        "Requests are deleted before a stopped worker has read them. Twice." => "99.9 % OK from 5 s on; the lost ones counted";
    18, Kafka, 55, topics::records_deleted_on_three:
        "The same on three brokers." => "the same";
    18, BuiltIn, 40, topics::log_truncated:
        "Either log is cut off below where it is read; then requests before a stopped worker has read them. Twice."
        => "99.9 % OK from 5 s on; the lost ones counted";
    19, Kafka, 60, poison::values:
        "1,000 each on both topics, between good ones: not JSON, no key, null value, no UUID, 1 MB, empty. Twice."
        => "exact counters; good callers 99.9 % OK";
    20, Kafka, 60, poison::encodings_of_kcat:
        "Batches of 1,000 on either topic: null header values, header keys that are not UTF-8, lz4, zstd, a transaction; \
         another one that stays open for a second. Twice."
        => "nobody waits longer than 1 s; all good ones answered";
    20, BuiltIn, 40, poison::encodings:
        "Batches of 1,000 on either topic: null header values, header keys that are not UTF-8, lz4, zstd, a marker; \
         a transaction of another producer that stays open for a second. Twice."
        => "nobody waits longer than 1 s; all good ones answered";
    21, Kafka, 25, workers::odd_replies:
        "Every reply comes three times; then every reply too late; then replies to nobody. Twice."
        => "one response each; duplicate, late and foreign replies each counted exactly";
    22, Kafka, 70, workers::slow:
        "A worker that does 2,000/s is asked 4,000/s, with the cap at 1,024 and at 16,384. Twice each."
        => "goodput 90 %; the others 503 with Retry-After, p99 within 50 ms, by the cap and by the prediction; \
         99.9 % OK from 2 s after it";
    23, Kafka, 75, callers::crowd:
        "10,240 callers at once, ten times the cap, for 30 s. Twice."
        => "pending within the cap; memory within 12 KiB per connection + 16 MiB";
    24, Kafka, 75, callers::slow:
        "1,000 connections send a head or a body at a byte per second; 1,000 of slowhttptest a head, and a body; 10,000 \
         send nothing. Twice."
        => "closed within the timeout (5 s) + 1 s; good callers 99.9 % OK";
    25, Kafka, 15, callers::hostile:
        "Requests that are no HTTP, or too large. Twice."
        => "closed after the one right status of 400, 413 and 431, or, where not all is read, without; nothing produced";
    26, Kafka, 20, callers::gone:
        "10,000 callers leave while they wait (for them the cap is 16,384). Twice."
        => "nothing pending and descriptors back within 1 s";
    27, Kafka, 25, limits::descriptors:
        "The gateway may have 256 descriptors, and 1,000 callers come; then 64 more than are open. Twice each."
        => "below 30 % of a core; 200 within 2 s after they left";
    28, Kafka, 80, limits::clocks:
        "The clock of the gateway, or of the worker, is an hour ahead, or behind; then a backlog of 3 s with a timeout of 800 ms. \
         Twice each."
        => "all answered; timeouts at 2 s; no unexpired request skipped";
    29, Kafka, 610, soak::mixed:
        "Ten minutes of mixed sizes, and callers who leave; the last two in nine rounds beside a new pair with the same load."
        => "memory grows below 1 MiB/min after 2 min; p99 by less than 20 %, to that of the new pair (median)";
};

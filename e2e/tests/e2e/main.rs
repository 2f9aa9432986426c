//! End-to-end tests: the real binaries, an engine that speaks Kafka's protocol, and the checks from outside.
//!
//! Every test runs on every engine and is named after it. Without `libtest`, because the suite owns nodes that have
//! to be stopped after the last test, and says at the end which engines it ran on: a run without any engine passes
//! on a developer's machine, and fails where `CI=true`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by a panic, and these say where"
)]

mod contract;
mod halves;
mod refusals;
mod runner;

use std::process::ExitCode;

use crate::runner::tests;

fn main() -> ExitCode {
    runner::run(
        tests! {
            contract::{
                a_get_is_the_contract_byte_for_byte,
                a_post_carries_the_callers_words,
                words_are_any_text,
                another_client_reads_the_same_bytes,
                two_hundred_callers_at_once_get_their_own_answers,
                a_thousand_in_turn,
                eight_times_a_thousand_at_once,
            }
            halves::{
                a_gateway_answers_from_a_hand_made_worker,
                a_gateway_takes_no_reply_from_before_its_start,
                a_reply_that_is_not_text_is_decoded_lossily,
                a_worker_answers_a_hand_made_gateway,
                a_worker_begins_with_what_comes_after_its_start,
                a_worker_can_begin_with_the_first_request,
            }
            refusals::{
                of_a_path_or_a_method,
                of_a_body,
                of_a_large_body,
                of_malformed_http,
                while_not_ready,
                when_full,
                when_there_are_too_many_connections,
                of_a_slow_head,
                of_a_slow_body,
            }
        },
        tests! {},
        tests! {},
    )
}

//! End-to-end tests: the real binaries, an engine that speaks Kafka's protocol, and the checks from outside.
//!
//! Every test runs on every engine and is named after it; a few compare the two. Without `libtest`, because the suite owns nodes that have
//! to be stopped after the last test, and says at the end which engines it ran on: a run without any engine passes
//! on a developer's machine, and fails where `CI=true`.

// A test that waits within a wait within a wait for an answer of the client's.
#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by a panic, and these say where"
)]

mod announcements;
mod bounds;
mod callers;
mod configuration;
mod conformance;
mod connecting;
mod contract;
mod coordinator;
mod deadlines;
mod destinations;
mod dialects;
mod groups;
mod halves;
mod health;
mod kinds;
mod load;
mod outage;
mod partitions;
mod poison;
mod positions;
mod refusals;
mod runner;
mod several;
mod shutdown;
mod waiting;

use std::process::ExitCode;

use crate::runner::{tests, tests_of_both, tests_without_engine};

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
            dialects::{
                say_where_the_reply_goes,
                say_how_long_their_callers_wait,
                are_answered_by_correlation_whatever_the_key,
                leave_what_is_somebody_elses,
                tell_of_a_service_that_failed,
                hand_a_trace_on,
                ignore_a_malformed_trace,
                name_a_request_as_its_caller_does,
                spread_gateways_over_partitions_by_their_hosts,
                wait_for_the_partition_of_the_replies,
            }
            callers::{
                may_write_a_request_in_any_form,
                may_send_byte_by_byte,
                may_ask_before_they_send_a_body,
                may_ask_ahead,
                decide_how_long_a_connection_lives,
                keep_their_connection_after_a_refusal,
                may_send_much,
                may_come_all_at_once,
            }
            refusals::{
                of_a_path_or_a_method,
                of_a_body,
                of_a_large_body,
                of_malformed_http,
                of_what_is_hidden_behind_chunks,
                leave_no_body_in_the_way,
                when_full,
                when_there_are_too_many_connections,
                of_a_slow_head,
                of_a_slow_body,
                of_a_client_that_takes_no_answers,
                for_want_of_descriptors,
            }
            poison::{
                requests_between_good_ones_are_skipped_and_counted,
                a_request_is_logged_escaped_and_cut,
                replies_between_good_ones_are_skipped_and_counted,
                a_batch_that_cannot_be_decoded_costs_only_itself,
            }
            positions::{
                outlive_an_orderly_end,
                outlive_a_kill_under_load,
                begin_with_the_start_of_a_quiet_partition,
                that_left_the_log_are_its_beginning,
                are_left_alone_by_latest_and_earliest,
                pass_what_cannot_be_answered,
                that_are_refused_harm_nobody,
            }
            partitions::{
                that_are_listed_are_read,
                that_are_added_later_are_read_from_their_beginning,
                get_the_same_share_of_the_requests,
                without_a_worker_hurt_only_their_own_requests,
            }
            groups::{
                hand_partitions_over,
                take_over_from_the_killed,
                go_on_without_the_stopped,
                begin_again_after_all_were_killed,
                grow_and_shrink_under_load,
            }
            destinations::{
                are_where_the_request_says,
                that_do_not_exist_are_not_made,
                may_be_many,
                are_each_gateways_own,
            }
            bounds::{
                of_connections,
            }
            announcements::{
                that_end_are_told_to_callers,
                bridge_a_restart,
                are_not_expected_of_strangers,
                can_be_left_out,
                go_where_gateways_listen_and_nowhere_else,
            }
            deadlines::{
                are_kept_by_a_worker_that_was_not_there,
                are_kept_by_a_worker_that_was_stopped,
            }
            kinds::{
                are_each_counted_once,
            }
            waiting::{
                ends_when_no_reply_comes_in_time,
                ends_for_many_at_once,
                ends_when_the_caller_leaves,
            }
            shutdown::{
                of_a_gateway_under_load_cuts_nobody_off,
                of_a_gateway_listens_for_last_requests,
                of_a_gateway_that_was_stopped_listens_for_last_requests,
                of_a_gateway_answers_all_in_the_backlog,
                of_a_gateway_waits_for_the_replies,
                of_a_gateway_has_an_end,
                is_at_once_at_the_second_signal,
                of_an_idle_process_is_quick,
                of_a_worker_under_load_answers_what_it_has_read,
                of_a_worker_under_heavy_load_answers_what_it_has_read,
            }
            health::{
                is_said_by_the_admin_listener,
                checks_follow_readiness,
                does_not_depend_on_a_log_that_is_full,
            }
            several::{
                gateways_each_answer_their_own_callers,
                workers_on_one_partition_lead_to_one_answer_each,
            }
            connecting::{
                makes_two_topics_of_one_partition,
                leaves_topics_as_they_are,
                passes_over_addresses_that_do_not_answer,
                survives_new_topics_of_the_same_name,
                reads_a_new_topic_from_its_beginning,
            }
            conformance::{
                another_client_reads_what_it_wrote,
            }
        },
        tests! {
            outage::{
                of_a_killed_broker_is_told_at_once_and_outlived,
                of_a_stopped_broker_lets_nobody_wait_too_long,
                that_fills_the_outbox_is_told_at_once,
                at_the_start_is_waited_for,
                does_not_keep_a_process_from_its_end,
                of_a_leader_ends_with_the_next_leader,
                of_a_leader_that_hangs_ends_with_the_next_leader,
                leaves_the_fate_of_a_record_open,
                of_idle_connections_goes_unnoticed,
            }
            announcements::{
                are_not_missed_while_kafka_is_away,
                are_not_missed_behind_a_transaction,
            }
            groups::{
                grow_and_shrink_under_load_on_three_nodes,
                follow_their_coordinator,
                take_back_the_expelled,
                need_a_broker_that_has_them,
            }
            destinations::{
                out_of_reach_hold_up_no_others,
            }
        },
        tests_of_both! {
            conformance::{
                of_topics,
                of_records,
                of_fetches,
                of_times_and_deletions,
                of_a_topic_that_goes,
                of_positions,
                of_groups,
            }
        },
        tests_without_engine! {
            configuration::{
                of_both_is_checked_at_the_start,
                of_the_gateway_is_checked_at_the_start,
                of_the_worker_is_checked_at_the_start,
                by_flags_is_the_same,
                that_is_not_text_is_refused,
                is_explained_by_the_help,
                of_a_taken_port_is_one_line,
            }
            dialects::{
                wait_for_kafka_to_choose_a_partition,
            }
            refusals::{
                while_not_ready,
            }
            shutdown::{
                without_kafka_is_quick_too,
            }
            health::{
                checks_fail_where_nobody_listens,
                does_not_depend_on_the_log,
                does_not_depend_on_who_reads_the_log,
            }
        },
    )
}

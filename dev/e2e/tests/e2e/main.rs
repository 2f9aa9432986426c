//! End-to-end tests: the real binaries, a broker, and checks from outside.
//!
//! - A behaviour is tested here once. It runs on both engines only where Kafka itself decides the result: contract,
//!   offsets, groups, outages. Conformance tests keep the built-in broker equal to Kafka.
//! - `cargo test -p e2e --test e2e -- FILTER` runs some tests; a name is `ENGINE::FILE::TEST`.
//! - The suite has its own runner, because it owns nodes that must be stopped after the last test.

// The futures of these tests nest deeply.
#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic fails the test and names the line"
)]

mod ask;
mod configuration;
mod conformance;
mod connection_causes;
mod contract;
mod coordinator;
mod dialects;
mod examples;
mod groups;
mod health;
mod http_connections;
mod http_errors;
mod http_requests;
mod load;
mod malformed_http;
mod offsets;
mod outage;
mod partitions;
mod peers;
mod poison;
mod presence;
mod proxy;
mod replies;
mod reply_addresses;
mod rights;
mod rotation;
mod routes;
mod runner;
mod secrets;
mod security;
mod service_faults;
mod services;
mod shutdown;
mod timeouts;
mod topics;

use std::process::ExitCode;

use e2e::cluster::NodeSettings;

use crate::{
    outage::IDLE_CLOSED,
    runner::{
        On::{Both, BuiltIn, Kafka},
        tests,
    },
};

fn main() -> ExitCode {
    runner::run(vec![
        (
            BuiltIn,
            tests! { alone:
                configuration::{
                    bad_setting_exits_64_with_one_line, bad_flag_exits_64_with_one_line,
                    misspelled_environment_variable_is_named_in_one_warning, setting_that_is_not_utf8_exits_64,
                    help_lists_every_setting, help_of_ask_has_its_settings_and_exit_codes, port_in_use_exits_1_with_one_line,
                }
                dialects::{ auto_reply_partition_is_not_ready_without_kafka }
                examples::{ services_are_short }
                http_errors::{ not_ready_returns_503 }
                routes::{ broken_files_are_refused_with_every_line, example_is_checked_and_printed }
                shutdown::{ sigterm_without_kafka_exits_at_once }
                health::{ healthcheck_without_listener_exits_1, full_disk_for_the_log_does_not_stop_the_worker }
            },
        ),
        (
            Kafka,
            tests! { secured "";
                security::{ every_login_serves_requests, every_codec_and_committed_transaction_is_answered }
                connection_causes::{ wrong_protocol_is_named, refused_certificate_is_named }
                rotation::{ rotated_certificates_need_no_restart }
                rights::{ missing_right_is_named_until_it_is_granted }
                secrets::{ passwords_and_tokens_are_never_shown }
            },
        ),
        (
            Kafka,
            tests! { secured "connections.max.reauth.ms=5000";
                rotation::{ sessions_are_renewed_without_an_error, changed_password_needs_no_restart }
            },
        ),
        (
            Kafka,
            tests! { secured "listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN";
                connection_causes::{ refused_login_is_named }
            },
        ),
        (
            Kafka,
            tests! { alone:
                connection_causes::{ port_that_is_not_kafka_is_named }
            },
        ),
        // Those that install come first: they mostly wait.
        (
            Kafka,
            tests! { examples ["spring"]; examples::{ spring_knows_customers } },
        ),
        (Kafka, tests! { examples ["nestjs"]; examples::{ nestjs_takes_orders } }),
        (Kafka, tests! { examples ["node"]; examples::{ node_takes_orders } }),
        (
            Kafka,
            tests! { examples ["python"]; examples::{ python_takes_orders, python_of_the_readme_answers } },
        ),
        (Kafka, tests! { examples ["go"]; examples::{ go_takes_orders } }),
        (
            Kafka,
            tests! { examples ["nestjs", "spring", "python"];
                examples::{ shop_of_services_gives_each_request_its_own_answer }
            },
        ),
        (
            Kafka,
            tests! { shared:
                examples::{
                    rust_takes_orders, axum_knows_customers, rust_records_events, kcat_answers_by_hand,
                }
            },
        ),
        (
            Both,
            tests! { shared:
                contract::{
                    get_ping_matches_the_contract_byte_for_byte, post_ping_carries_any_text,
                    concurrent_callers_get_their_own_replies,
                }
                peers::{
                    gateway_delivers_replies_of_a_scripted_worker_by_key, gateway_ignores_replies_from_before_its_start,
                    worker_replies_to_a_scripted_gateway,
                }
                offsets::{
                    worker_shut_down_resumes_at_the_committed_offset, worker_killed_requests_are_answered_by_the_next,
                    worker_killed_before_its_first_request_resumes_at_its_start, deleted_records_are_counted_as_lost,
                    start_from_latest_and_earliest_ignore_the_committed_offset, refused_commit_does_not_stop_the_worker,
                }
                groups::{ rebalance_moves_partitions_without_a_gap, group_grows_and_shrinks_under_load }
                topics::{
                    missing_topics_are_created_with_one_partition,
                    topics_recreated_with_fewer_partitions_are_used_again,
                }
                routes::{
                    requests_and_replies_are_verbatim, status_says_whether_the_request_was_executed,
                    stored_request_is_202_without_a_reply_address, records_of_a_key_are_in_order,
                    silent_topic_refuses_its_routes_only, missing_topic_refuses_its_routes_only,
                    cluster_is_checked,
                }
                reply_addresses::{ unknown_reply_topic_is_skipped_and_not_created }
                ask::{
                    ask_tells_the_answer_of_a_service, ask_tells_what_is_wrong_with_a_reply,
                    ask_without_a_service_says_that_none_is_there,
                }
                presence::{ workers_are_listed_and_marked_when_silent }
                services::{
                    handler_answers_with_status_headers_and_failures, rolling_update_adds_a_topic,
                    killed_service_repeats_what_was_not_done, requests_are_forwarded_to_an_http_server,
                }
                service_faults::{
                    hundred_keys_stay_in_order_through_a_killed_worker,
                    thousand_keys_stay_in_order_through_a_killed_worker, panicking_handler_answers_every_request,
                    killed_service_refuses_its_route_only, killed_http_server_is_waited_for,
                }
            },
        ),
        (
            Kafka,
            tests! { shared:
                contract::{ kcat_reads_the_same_bytes }
                groups::{ paused_member_loses_its_partitions_and_rejoins, killed_group_is_resumed_by_a_new_member }
                partitions::{ added_partition_is_read_from_its_beginning }
                poison::{ every_codec_is_read_and_committed }
                reply_addresses::{ each_gateway_has_its_own_reply_partition }
                topics::{ recreated_topics_are_used_again }
            },
        ),
        (
            BuiltIn,
            tests! { shared:
                dialects::{
                    each_dialect_names_the_reply_address, deadline_header_has_the_reply_timeout_and_the_gateway,
                    reply_is_matched_by_its_correlation_header,
                    reply_with_a_foreign_correlation_header_is_not_delivered, nest_error_reply_returns_500,
                    traceparent_and_tracestate_are_forwarded, x_request_id_is_echoed,
                    auto_reply_partition_follows_the_hostname, missing_reply_partition_is_not_ready,
                }
                http_requests::{
                    every_valid_form_of_a_request_is_accepted, expect_100_continue_is_answered,
                    responses_have_a_date_and_head_has_no_body, pipelined_requests_are_answered_in_order,
                    large_bodies_are_answered,
                }
                malformed_http::{
                    malformed_http_returns_400, content_length_beside_chunks_closes_the_connection,
                    host_missing_repeated_or_invalid_returns_400,
                    other_forms_of_target_return_400_and_transfer_codings_501,
                }
                http_connections::{
                    connection_close_and_keep_alive_are_honoured, connection_burst_fits_into_the_backlog,
                    unread_request_body_is_drained_or_closes_the_connection, connection_limit_returns_503,
                    slow_head_closes_the_connection, idle_connection_is_closed_at_the_idle_timeout,
                    half_closed_client_is_answered, client_that_reads_no_responses_is_closed,
                    descriptor_exhaustion_keeps_serving,
                }
                http_errors::{
                    unknown_path_returns_404_and_method_405, invalid_body_returns_400_and_content_type_415,
                    large_body_returns_413, in_flight_limit_returns_503, slow_body_returns_408,
                }
                timeouts::{
                    timeout_returns_500, client_disconnect_frees_its_place_in_flight,
                    worker_skips_requests_past_their_deadline,
                }
                routes::{
                    impossible_replies_do_not_harm_the_connection, last_content_type_of_a_reply_counts,
                    full_route_leaves_the_others_alone,
                    methods_of_a_path_are_told, end_of_the_drain_returns_504,
                    time_of_the_caller_is_in_the_deadline, missing_topics_are_created_if_asked,
                }
                replies::{ each_kind_of_reply_is_counted, two_gateways_and_two_workers_give_one_response_each }
                poison::{ invalid_requests_are_skipped_counted_and_logged }
                reply_addresses::{
                    reply_goes_to_the_topic_and_partition_of_the_request,
                    many_reply_partitions_share_a_bounded_number_of_connections,
                }
                presence::{
                    worker_killed_returns_503_until_the_next_is_ready, heartbeats_can_be_switched_off,
                    heartbeats_go_to_every_partition_of_the_reply_topic_only,
                }
                partitions::{
                    listed_partitions_are_read, requests_are_spread_evenly_over_partitions,
                    partition_without_a_worker_fails_only_its_own_requests,
                }
                topics::{
                    existing_topics_keep_their_partitions, unreachable_bootstrap_addresses_are_skipped,
                    recreated_reply_topic_is_read_from_its_beginning, connections_to_kafka_are_bounded,
                }
                shutdown::{
                    gateway_shutdown_cuts_no_request_off, request_sent_before_the_keep_alive_grace_ends_is_answered,
                    connections_in_the_backlog_are_answered, gateway_shutdown_waits_for_replies,
                    drain_timeout_returns_503, second_signal_exits_at_once, idle_process_exits_at_once,
                    worker_shutdown_answers_every_request_it_has_read,
                }
                health::{
                    admin_listener_serves_live_ready_and_metrics, healthcheck_follows_readiness,
                    blocked_log_reader_drops_lines,
                }
                conformance::{ kcat_reads_what_it_wrote_to_the_built_in_broker }
                proxy::{ nginx_adds_tls_identity_and_cors }
                services::{
                    slow_request_holds_up_its_key_only, refused_reply_topic_is_not_executed,
                    failed_event_becomes_a_dead_letter, blocking_handler_costs_no_membership,
                    stuck_handler_ends_the_worker,
                }
            },
        ),
        (
            Both,
            tests! { 1 nodes, NodeSettings::default();
                outage::{ missing_broker_at_the_start_is_waited_for, killed_broker_returns_500_and_is_recovered_from }
            },
        ),
        (
            Kafka,
            tests! { 1 nodes, NodeSettings::default();
                routes::{ record_that_kafka_refuses_returns_502, reply_of_5_mb_is_delivered }
            },
        ),
        (
            Both,
            tests! { 1 nodes, NodeSettings::LONG_SESSION;
                outage::{ paused_broker_returns_500_in_time, unacknowledged_request_is_not_sent_twice }
            },
        ),
        (
            BuiltIn,
            tests! { 1 nodes, NodeSettings::LONG_SESSION;
                outage::{ full_producer_returns_503, shutdown_during_an_outage_ends_in_time }
                presence::{ open_transaction_holds_back_no_replies }
                groups::{ fenced_members_rejoin, broker_without_consumer_groups_is_not_ready }
            },
        ),
        (
            BuiltIn,
            tests! { 1 nodes, IDLE_CLOSED; outage::{ idle_connections_are_replaced } },
        ),
        (
            Both,
            tests! { 3 nodes, NodeSettings::default();
                outage::{ moved_leader_is_followed, ended_leader_is_replaced }
                groups::{ coordinator_change_is_followed }
            },
        ),
        (
            Kafka,
            tests! { 3 nodes, NodeSettings::default();
                outage::{ hung_leader_is_replaced }
                reply_addresses::{ unreachable_reply_partition_does_not_block_the_rest }
            },
        ),
        (
            BuiltIn,
            tests! { compared:
                conformance::{
                    topics_match, records_match, fetches_match, timestamps_and_deletions_match, deleted_topics_match,
                    offsets_match, groups_match,
                }
            },
        ),
    ])
}

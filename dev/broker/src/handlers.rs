//! One handler for each API: a decoded request in, a response out.

mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_groups;
mod fetch;
mod find_coordinator;
mod init_producer_id;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;

use crate::request::{RequestContext, RequestError};

/// The result of a handler.
#[derive(Debug)]
pub(crate) enum HandlerResult {
    /// A response frame.
    Response(BytesMut),
    /// A produce request with acks = 0 has no response.
    NoResponse,
    /// Close the connection: the only way to report the failure of a produce request with acks = 0.
    Disconnect,
}

/// Decodes and handles a request.
pub(crate) async fn handle(context: &RequestContext<'_>, body: Bytes) -> Result<HandlerResult, RequestError> {
    /// Decodes the body, calls the handler of a module, and encodes its response.
    macro_rules! respond {
        ($handler:ident) => {
            context.respond(&$handler::handle(context, context.decode(body)?))
        };
    }
    let response = match context.api {
        ApiKey::Produce => return produce::handle(context, &context.decode(body)?),
        ApiKey::Fetch => context.respond(&fetch::handle(context, &context.decode(body)?).await),
        ApiKey::ListOffsets => respond!(list_offsets),
        ApiKey::Metadata => respond!(metadata),
        ApiKey::ApiVersions => api_versions::handle(context),
        ApiKey::CreateTopics => respond!(create_topics),
        ApiKey::DeleteTopics => respond!(delete_topics),
        ApiKey::DeleteRecords => respond!(delete_records),
        ApiKey::InitProducerId => respond!(init_producer_id),
        ApiKey::CreatePartitions => respond!(create_partitions),
        ApiKey::FindCoordinator => respond!(find_coordinator),
        ApiKey::OffsetCommit => respond!(offset_commit),
        ApiKey::OffsetFetch => respond!(offset_fetch),
        ApiKey::OffsetDelete => respond!(offset_delete),
        ApiKey::ConsumerGroupHeartbeat => respond!(consumer_group_heartbeat),
        ApiKey::ConsumerGroupDescribe => respond!(consumer_group_describe),
        ApiKey::ListGroups => respond!(list_groups),
        ApiKey::DescribeGroups => respond!(describe_groups),
        ApiKey::DeleteGroups => respond!(delete_groups),
        ApiKey::OffsetForLeaderEpoch => respond!(offset_for_leader_epoch),
        // `Request::parse` accepts the APIs of `apis::SERVED_APIS` only.
        other => {
            return Err(RequestError::UnsupportedVersion {
                key: other as i16,
                version: context.version,
            });
        }
    };
    response.map(HandlerResult::Response)
}

//! The calls, one file each: a decoded request in, a response out.

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

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use crate::{
    call::{Call, Refused},
    reply::Reply,
};

/// What comes of a call.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// This answer.
    Reply(Reply),
    /// No answer, because the client wants none.
    Silence,
    /// The end of the connection: the only way to tell a client that wants no answers.
    HangUp,
}

/// Answers a call.
pub(crate) async fn answer(call: &Call<'_>, body: Bytes) -> Result<Outcome, Refused> {
    let reply = match call.api {
        ApiKey::Produce => return produce::answer(call, &call.decode(body)?),
        ApiKey::Fetch => fetch::answer(call, &call.decode(body)?).await?,
        ApiKey::ListOffsets => call.reply(&list_offsets::answer(call, call.decode(body)?))?,
        ApiKey::Metadata => call.reply(&metadata::answer(call, call.decode(body)?))?,
        ApiKey::ApiVersions => api_versions::answer(call)?,
        ApiKey::CreateTopics => call.reply(&create_topics::answer(call, call.decode(body)?))?,
        ApiKey::DeleteTopics => call.reply(&delete_topics::answer(call, call.decode(body)?))?,
        ApiKey::DeleteRecords => call.reply(&delete_records::answer(call, call.decode(body)?))?,
        ApiKey::InitProducerId => call.reply(&init_producer_id::answer(call, &call.decode(body)?))?,
        ApiKey::CreatePartitions => call.reply(&create_partitions::answer(call, call.decode(body)?))?,
        ApiKey::FindCoordinator => call.reply(&find_coordinator::answer(call, call.decode(body)?))?,
        ApiKey::OffsetCommit => call.reply(&offset_commit::answer(call, call.decode(body)?))?,
        ApiKey::OffsetFetch => call.reply(&offset_fetch::answer(call, call.decode(body)?))?,
        ApiKey::OffsetDelete => call.reply(&offset_delete::answer(call, call.decode(body)?))?,
        ApiKey::ConsumerGroupHeartbeat => call.reply(&consumer_group_heartbeat::answer(call, call.decode(body)?))?,
        ApiKey::ConsumerGroupDescribe => call.reply(&consumer_group_describe::answer(call, call.decode(body)?))?,
        ApiKey::ListGroups => call.reply(&list_groups::answer(call, &call.decode(body)?))?,
        ApiKey::DescribeGroups => call.reply(&describe_groups::answer(call, call.decode(body)?))?,
        ApiKey::DeleteGroups => call.reply(&delete_groups::answer(call, call.decode(body)?))?,
        ApiKey::OffsetForLeaderEpoch => call.reply(&offset_for_leader_epoch::answer(call, call.decode(body)?))?,
        // Not in the table, so it does not come this far.
        other => {
            return Err(Refused::Unsupported {
                key: other as i16,
                version: call.version,
            });
        }
    };
    Ok(Outcome::Reply(reply))
}

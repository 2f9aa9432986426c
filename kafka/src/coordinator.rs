//! Calls the coordinator of one group: heartbeats, offset commits and offset fetches.
//!
//! - Every call is one bounded attempt.
//! - The connection is kept after valid answers only. After anything else the next call asks for the coordinator again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kafka_protocol::{
    error::ResponseError,
    messages::{
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId, OffsetCommitRequest,
        OffsetFetchRequest, TopicName, consumer_group_heartbeat_request as heartbeat_request,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
    },
    protocol::StrBytes,
};
use uuid::Uuid;

pub use self::error::Error;
use crate::{
    api::Request,
    cluster::Cluster,
    connection::Connection,
    error::Error as CallError,
    membership::{Answer, Heartbeat, LEAVING, MemberEpoch, TopicIdPartition},
};

mod error;

/// Bound on the answer to a call: less than the heartbeat interval, which is 5 s by default.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// A client of a group's coordinator.
#[derive(Debug)]
pub struct Coordinator {
    cluster: Arc<Cluster>,
    group: String,
    /// To the coordinator; `None` before the first call and after a failure.
    connection: Option<Connection>,
}

/// What a full heartbeat says about the member.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The subscribed topics, which need not exist.
    pub topics: Vec<String>,
    /// How long the coordinator waits for the release of a revoked partition.
    pub rebalance_timeout: Duration,
}

/// An offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit<'a> {
    pub partition: i32,
    /// The lowest offset that is not acknowledged.
    pub offset: i64,
    /// Stored with the offset, 4 KiB at most (`offset.metadata.max.bytes`).
    pub metadata: &'a str,
}

/// An offset that was committed, with its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: i64,
    pub metadata: String,
}

// === impl Coordinator ===

impl Coordinator {
    /// A client of `group` in `cluster`. No connection yet.
    pub fn new(cluster: &Arc<Cluster>, group: String) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            group,
            connection: None,
        }
    }

    /// Sends a heartbeat.
    ///
    /// # Errors
    /// [`Error::Fenced`] if the member has to join again. After other errors the coordinator may have processed it.
    pub async fn heartbeat(&mut self, heartbeat: &Heartbeat, subscription: &Subscription) -> Result<Answer, Error> {
        let request = self.heartbeat_request(heartbeat, subscription);
        let topics = subscription.topics.join(", ");
        let answer = self.call(&topics, request).await?;
        let code = ResponseError::try_from_code(answer.error_code);
        if code == Some(ResponseError::UnsupportedVersion) {
            // The broker has the call, but `group.version` is 0.
            return Err(Error::UnsupportedGroups);
        }
        self.check(&topics, code)?;
        self.check_heartbeat(answer, heartbeat.member_epoch.epoch)
    }

    /// The names of those topics that exist, by id.
    ///
    /// # Errors
    /// When the metadata cannot be had; worth another attempt.
    pub(crate) async fn topic_names(&self, topics: &[String]) -> Result<BTreeMap<Uuid, Arc<str>>, CallError> {
        self.cluster.topic_names(topics).await
    }

    /// Commits offsets in `topic`, as `member` or, without one, for a group that has no members. Returns the partitions that
    /// failed, each with its error code.
    ///
    /// # Errors
    /// [`Error::Stale`] and [`Error::Fenced`] are about the member. After other errors the outcome of the commit is unknown.
    pub async fn commit(
        &mut self,
        member: Option<&MemberEpoch>,
        topic: &str,
        offsets: &[OffsetToCommit<'_>],
    ) -> Result<Vec<(i32, ResponseError)>, Error> {
        let partitions = offsets.iter().map(|offset| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(offset.partition)
                .with_committed_offset(offset.offset)
                .with_committed_metadata(Some(text(offset.metadata)))
        });
        let topics = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(partitions.collect());
        let mut request = OffsetCommitRequest::default()
            .with_group_id(self.group_id())
            .with_topics(vec![topics]);
        if let Some(member) = member {
            request.member_id = text(&member.member_id);
            request.generation_id_or_member_epoch = member.epoch;
        }
        let answer = self.call(topic, request).await?;
        let mut missing: BTreeSet<_> = offsets.iter().map(|offset| offset.partition).collect();
        let mut failed = Vec::new();
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            let code = ResponseError::try_from_code(partition.error_code);
            self.check_unless_for_partition(topic, code)?;
            missing.remove(&partition.partition_index);
            failed.extend(code.map(|code| (partition.partition_index, code)));
        }
        if missing.is_empty() {
            Ok(failed)
        } else {
            Err(self.invalid("a partition"))
        }
    }

    /// The committed offsets of those `partitions` of `topic` that have one.
    ///
    /// While an open transaction is about to replace an offset, the call fails (`require_stable`): requests are not read past
    /// open transactions either.
    ///
    /// # Errors
    /// As for [`Coordinator::commit`], but without an effect.
    pub async fn committed(
        &mut self,
        member: Option<&MemberEpoch>,
        topic: &str,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, CommittedOffset>, Error> {
        let topics = OffsetFetchRequestTopics::default()
            .with_name(TopicName(text(topic)))
            .with_partition_indexes(partitions.to_vec());
        let mut group = OffsetFetchRequestGroup::default()
            .with_group_id(self.group_id())
            .with_topics(Some(vec![topics]));
        if let Some(member) = member {
            group.member_id = Some(text(&member.member_id));
            group.member_epoch = member.epoch;
        }
        let request = OffsetFetchRequest::default()
            .with_groups(vec![group])
            .with_require_stable(true);
        let answer = self.call(topic, request).await?;
        let Some(group) = answer.groups.into_iter().find(|group| **group.group_id == *self.group) else {
            return Err(self.invalid("the group"));
        };
        self.check(topic, ResponseError::try_from_code(group.error_code))?;
        let mut missing: BTreeSet<_> = partitions.iter().copied().collect();
        let mut committed = BTreeMap::new();
        for partition in group.topics.into_iter().flat_map(|topic| topic.partitions) {
            self.check(topic, ResponseError::try_from_code(partition.error_code))?;
            missing.remove(&partition.partition_index);
            // -1 means that there is none.
            if partition.committed_offset >= 0 {
                let metadata = partition.metadata.unwrap_or_default().to_string();
                let offset = partition.committed_offset;
                committed.insert(partition.partition_index, CommittedOffset { offset, metadata });
            }
        }
        if missing.is_empty() {
            Ok(committed)
        } else {
            Err(self.invalid("a partition"))
        }
    }

    /// One bounded attempt, about the group's offsets or assignment in `topic`.
    async fn call<R: Request>(&mut self, topic: &str, request: R) -> Result<R::Response, Error> {
        // Taken, so that a call that fails or is dropped closes its connection.
        let mut connection = match self.connection.take().filter(Connection::is_usable) {
            Some(connection) => connection,
            None => {
                let connected = self.cluster.coordinator(&self.group).await;
                connected.map_err(|error| match error {
                    CallError::Code { code, .. } => self.error(topic, code),
                    error => Error::of_call(error, R::KEY),
                })?
            }
        };
        let response = connection.call(CALL_TIMEOUT, request).await;
        let response = response.map_err(|error| Error::of_call(error, R::KEY))?;
        self.connection = Some(connection);
        Ok(response)
    }

    fn heartbeat_request(&self, heartbeat: &Heartbeat, subscription: &Subscription) -> ConsumerGroupHeartbeatRequest {
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_member_id(text(&heartbeat.member_epoch.member_id))
            .with_member_epoch(heartbeat.member_epoch.epoch)
            .with_topic_partitions(heartbeat.owned.as_ref().map(|owned| {
                let mut topics = BTreeMap::<Uuid, Vec<i32>>::new();
                for owned in owned {
                    topics.entry(owned.topic).or_default().push(owned.partition);
                }
                let topics = topics.into_iter().map(|(topic, partitions)| {
                    heartbeat_request::TopicPartitions::default()
                        .with_topic_id(topic)
                        .with_partitions(partitions)
                });
                topics.collect()
            }));
        if heartbeat.full {
            let rebalance_timeout = i32::try_from(subscription.rebalance_timeout.as_millis());
            request.rebalance_timeout_ms = rebalance_timeout.unwrap_or(i32::MAX);
            let topics = subscription.topics.iter().map(|topic| TopicName(text(topic)));
            request.subscribed_topic_names = Some(topics.collect());
        }
        request
    }

    fn check_heartbeat(&mut self, answer: ConsumerGroupHeartbeatResponse, sent_epoch: i32) -> Result<Answer, Error> {
        let epoch = answer.member_epoch;
        if (epoch > 0) != (sent_epoch != LEAVING) {
            return Err(self.invalid("the epoch"));
        }
        let interval_ms = u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0);
        Ok(Answer {
            epoch,
            interval: Duration::from_millis(interval_ms),
            assignment: answer.assignment.map(|assignment| {
                let topics = assignment.topic_partitions.into_iter();
                let partitions = topics.flat_map(|assigned| {
                    let topic = assigned.topic_id;
                    let partitions = assigned.partitions.into_iter();
                    partitions.map(move |partition| TopicIdPartition { topic, partition })
                });
                partitions.collect()
            }),
        })
    }

    /// Fails on an error code. Closes the connection if the broker is not the coordinator.
    fn check(&mut self, topic: &str, code: Option<ResponseError>) -> Result<(), Error> {
        let Some(code) = code else { return Ok(()) };
        let error = self.error(topic, code);
        if error.is_not_coordinator() {
            self.connection = None;
        }
        Err(error)
    }

    /// As [`Coordinator::check`], but ignores codes that are about one partition.
    fn check_unless_for_partition(&mut self, topic: &str, code: Option<ResponseError>) -> Result<(), Error> {
        match self.check(topic, code) {
            Err(Error::ErrorCode(_)) => Ok(()),
            checked => checked,
        }
    }

    /// What an error code means, of a call about the group and `topic`.
    fn error(&self, topic: &str, code: ResponseError) -> Error {
        let resource = match code {
            ResponseError::GroupAuthorizationFailed => format!("group {:?}", self.group),
            ResponseError::TopicAuthorizationFailed => format!("topic {topic:?}"),
            code => return Error::of_code(code, &self.group),
        };
        Error::Denied {
            user: self.cluster.user(),
            resource,
        }
    }

    /// Closes the connection after an answer that lacks a field or has an impossible one.
    fn invalid(&mut self, field: &'static str) -> Error {
        self.connection = None;
        Error::InvalidResponse(field)
    }

    fn group_id(&self) -> GroupId {
        GroupId(text(&self.group))
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[cfg(test)]
mod tests;

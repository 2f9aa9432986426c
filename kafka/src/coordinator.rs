//! The broker that coordinates one group: its heartbeats and its committed positions.
//!
//! - Every call is one attempt, and bounded as a whole: name look-up, connection, search for the coordinator, answer.
//! - The connection survives only calls that were answered as they should be; after anything else the next call looks
//!   for the coordinator anew, through another bootstrap broker.
//!
//! rskafka has none of these calls, so they are made on a connection of its own kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kafka_protocol::{
    error::ResponseError,
    messages::{
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, FindCoordinatorRequest, GroupId,
        OffsetCommitRequest, OffsetFetchRequest, TopicName, consumer_group_heartbeat_request as heartbeat_request,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
    },
    protocol::StrBytes,
};
use tokio::time::timeout;
use uuid::Uuid;

pub use self::error::Error;
use self::{calls::Call, connection::Connection, error::InvalidResponse};
use crate::membership::{Answer, Heartbeat, LEAVING, MemberEpoch, TopicPartition};

mod calls;
pub(crate) mod connection;
pub(crate) mod error;
pub(crate) mod frame;
#[cfg(test)]
pub(crate) mod peer;

/// Bound on a call with all that it needs: less than the heartbeat interval, which is 5 s by default.
const LIMIT: Duration = Duration::from_secs(1);

/// The way to the coordinator of a group.
#[derive(Debug)]
pub struct Coordinator {
    /// How the brokers' logs and quotas name us.
    client_id: &'static str,
    bootstrap: Vec<String>,
    group: String,
    /// Which bootstrap broker is asked next.
    turn: usize,
    /// To the coordinator; none before the first call and after a failure.
    connection: Option<Connection>,
}

/// What a member tells the group about itself when it joins.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The topic; it need not exist.
    pub topic: String,
    /// How long the coordinator waits for a partition that it revoked.
    pub rebalance_timeout: Duration,
}

/// A position to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position<'a> {
    pub partition: i32,
    /// The lowest offset that is not done.
    pub offset: i64,
    /// Kept with it, 4 KiB at most (`offset.metadata.max.bytes`).
    pub metadata: &'a str,
}

/// A position that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    pub metadata: String,
}

// === impl Coordinator ===

impl Coordinator {
    /// The coordinator of `group`, to be found through `bootstrap` (`host:port` each). No connection yet.
    pub fn new(client_id: &'static str, bootstrap: Vec<String>, group: String) -> Self {
        Self {
            client_id,
            bootstrap,
            group,
            turn: 0,
            connection: None,
        }
    }

    /// A member's heartbeat.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the member has to join anew. After any other what the coordinator knows is unknown.
    pub async fn heartbeat(&mut self, heartbeat: &Heartbeat, subscription: &Subscription) -> Result<Answer, Error> {
        let answer = self.call(&self.heartbeat_request(heartbeat, subscription)).await?;
        let code = ResponseError::try_from_code(answer.error_code);
        if code == Some(ResponseError::UnsupportedVersion) {
            // The call is known, but `group.version` is 0.
            return Err(Error::NoGroups);
        }
        self.check(code)?;
        self.understand(answer, heartbeat.member_epoch.epoch)
    }

    /// Commits positions in `topic`, as `member` or, without one, for a group that has no members. Gives the partitions
    /// that were refused, each with the reason.
    ///
    /// # Errors
    /// [`Error::Stale`] and [`Error::Fenced`] are about the member; after any other the result of the commit is unknown.
    pub async fn commit(
        &mut self,
        member: Option<&MemberEpoch>,
        topic: &str,
        positions: &[Position<'_>],
    ) -> Result<Vec<(i32, ResponseError)>, Error> {
        let partitions = positions.iter().map(|it| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(it.partition)
                .with_committed_offset(it.offset)
                .with_committed_metadata(Some(text(it.metadata)))
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
        let answer = self.call(&request).await?;
        let mut missing: BTreeSet<_> = positions.iter().map(|it| it.partition).collect();
        let mut refused = Vec::new();
        for partition in answer.topics.iter().flat_map(|it| &it.partitions) {
            let code = ResponseError::try_from_code(partition.error_code);
            self.check_unless_partial(code)?;
            missing.remove(&partition.partition_index);
            refused.extend(code.map(|it| (partition.partition_index, it)));
        }
        if missing.is_empty() {
            Ok(refused)
        } else {
            Err(self.odd("a partition"))
        }
    }

    /// The committed positions of those `partitions` of `topic` that have one.
    ///
    /// One that an open transaction is about to replace is an error until the transaction ends: the requests are not
    /// read past open transactions either.
    ///
    /// # Errors
    /// As [`Coordinator::commit`], only that nothing has happened.
    pub async fn committed(
        &mut self,
        member: Option<&MemberEpoch>,
        topic: &str,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, Committed>, Error> {
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
        let answer = self.call(&request).await?;
        let Some(group) = answer.groups.into_iter().find(|it| **it.group_id == *self.group) else {
            return Err(self.odd("the group"));
        };
        self.check(ResponseError::try_from_code(group.error_code))?;
        let mut missing: BTreeSet<_> = partitions.iter().copied().collect();
        let mut committed = BTreeMap::new();
        for partition in group.topics.into_iter().flat_map(|it| it.partitions) {
            self.check(ResponseError::try_from_code(partition.error_code))?;
            missing.remove(&partition.partition_index);
            // -1 stands for none.
            if partition.committed_offset >= 0 {
                let metadata = partition.metadata.unwrap_or_default().to_string();
                let offset = partition.committed_offset;
                committed.insert(partition.partition_index, Committed { offset, metadata });
            }
        }
        if missing.is_empty() {
            Ok(committed)
        } else {
            Err(self.odd("a partition"))
        }
    }

    /// One bounded attempt.
    async fn call<C: Call>(&mut self, call: &C) -> Result<C::Answer, Error> {
        let attempt = async {
            // Taken out: a call that fails or is dropped takes its connection with it.
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let answer = connection.call(call).await?;
            self.connection = Some(connection);
            Ok(answer)
        };
        timeout(LIMIT, attempt).await.unwrap_or(Err(Error::TimedOut(LIMIT)))
    }

    /// Asks the next bootstrap broker for the coordinator, and connects to that.
    async fn connect(&mut self) -> Result<Connection, Error> {
        let broker = self.bootstrap.get(self.turn % self.bootstrap.len().max(1));
        let broker = broker.map_or("", String::as_str);
        self.turn = self.turn.wrapping_add(1);
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&self.group)]);
        let answer = Connection::open(broker, self.client_id).await?.call(&request).await?;
        let found = answer
            .coordinators
            .first()
            .ok_or(InvalidResponse::Field("the coordinator"))?;
        if let Some(code) = ResponseError::try_from_code(found.error_code) {
            return Err(Error::of_code(code, &self.group));
        }
        let port = u16::try_from(found.port).map_err(|_| InvalidResponse::Field("the coordinator's port"))?;
        Connection::open((&*found.host, port), self.client_id).await
    }

    fn heartbeat_request(&self, heartbeat: &Heartbeat, subscription: &Subscription) -> ConsumerGroupHeartbeatRequest {
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_member_id(text(&heartbeat.member_epoch.member_id))
            .with_member_epoch(heartbeat.member_epoch.epoch)
            .with_topic_partitions(heartbeat.owned.as_ref().map(|owned| {
                let mut topics = BTreeMap::<Uuid, Vec<i32>>::new();
                for it in owned {
                    topics.entry(it.topic).or_default().push(it.partition);
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
            request.subscribed_topic_names = Some(vec![TopicName(text(&subscription.topic))]);
        }
        request
    }

    fn understand(&mut self, answer: ConsumerGroupHeartbeatResponse, asked_with: i32) -> Result<Answer, Error> {
        let epoch = answer.member_epoch;
        if (epoch > 0) != (asked_with != LEAVING) {
            return Err(self.odd("the epoch"));
        }
        let interval_ms = u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0);
        Ok(Answer {
            epoch,
            interval: Duration::from_millis(interval_ms),
            // The group subscribes to one topic only: every id is that topic's.
            assignment: answer.assignment.map(|assignment| {
                let topics = assignment.topic_partitions.into_iter();
                let partitions = topics.flat_map(|it| {
                    let topic = it.topic_id;
                    it.partitions
                        .into_iter()
                        .map(move |partition| TopicPartition { topic, partition })
                });
                partitions.collect()
            }),
        })
    }

    /// Fails on a code; one that says that the coordinator is elsewhere ends the connection.
    fn check(&mut self, code: Option<ResponseError>) -> Result<(), Error> {
        let Some(code) = code else { return Ok(()) };
        let error = Error::of_code(code, &self.group);
        if error.means_elsewhere() {
            self.connection = None;
        }
        Err(error)
    }

    /// As [`Coordinator::check`], but lets pass what is about one partition.
    fn check_unless_partial(&mut self, code: Option<ResponseError>) -> Result<(), Error> {
        match self.check(code) {
            Err(Error::Answered(_)) => Ok(()),
            checked => checked,
        }
    }

    /// An answer that lacks something ends the connection.
    fn odd(&mut self, field: &'static str) -> Error {
        self.connection = None;
        InvalidResponse::Field(field).into()
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

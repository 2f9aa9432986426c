//! Consumer groups (KIP-848): assignments, epochs and errors.

use std::time::Duration;

use e2e::{
    engine::Engine,
    wait::{WAIT_LIMIT, until_eq},
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    CreatePartitionsRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest,
    consumer_group_describe_response::Assignment, consumer_group_heartbeat_request::TopicPartitions,
    create_partitions_request::CreatePartitionsTopic,
};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    client::{Client, beat, group, join, text, topic},
    offsets::{commit, committed},
    script::{Script, compare},
};

/// Above `group.consumer.assignment.interval.ms` of Kafka, 1 s: the next change computes a new target assignment.
const ASSIGNMENT_INTERVAL: Duration = Duration::from_millis(1200);
/// Above the session timeout of both engines, 4 s.
const SESSION_LIMIT: Duration = Duration::from_secs(15);

/// A group and its scripted members.
struct Group<'a> {
    script: &'a mut Script,
    client: Client,
    id: String,
    /// Assignments name the topic by its id.
    topic: Uuid,
}

pub(crate) async fn groups_match(built_in: &Engine, kafka: &Engine) {
    compare(built_in, kafka, async |script| {
        let name = script.topic.clone();
        script.create(&name, 4, -1).await;
        script.until_known(4).await;
        for index in 0..4 {
            script.partition(index).await;
        }
        let client = Client::to_coordinator(&script.brokers, &name).await;
        let mut group = Group {
            script,
            client,
            id: name,
            topic: Uuid::nil(),
        };
        Box::pin(group.invalid_heartbeats()).await;
        Box::pin(group.one_member()).await;
        Box::pin(group.second_member()).await;
        Box::pin(group.more_partitions()).await;
        Box::pin(group.changed_subscriptions()).await;
        Box::pin(group.static_members()).await;
        Box::pin(group.session_timeouts()).await;
        Box::pin(group.list_and_describe()).await;
    })
    .await;
}

// === impl Group ===

impl Group<'_> {
    /// Invalid heartbeats, and heartbeats of unknown members.
    async fn invalid_heartbeats(&mut self) {
        let id = self.id.clone();
        let whole = || join(&id, "one", &[&id]);
        let two = TopicPartitions::default().with_partitions(vec![0]);
        let invalid = [
            ("no group", whole().with_group_id(group(""))),
            ("no member", whole().with_member_id(text(""))),
            ("no topics", whole().with_subscribed_topic_names(None)),
            ("no timeout", whole().with_rebalance_timeout_ms(-1)),
            ("unknown partitions", whole().with_topic_partitions(None)),
            ("partitions already", whole().with_topic_partitions(Some(vec![two]))),
            ("an empty instance", whole().with_instance_id(Some(text("")))),
            ("an empty rack", whole().with_rack_id(Some(text("")))),
            ("an unknown assignor", whole().with_server_assignor(Some(text("none")))),
            ("epoch -2, no instance", beat(&id, "one", -2)),
            ("epoch -3", beat(&id, "one", -3)),
            ("an unknown member", beat(&id, "one", 2)),
            ("an unknown member leaves", beat(&id, "one", -1)),
        ];
        for (what, request) in invalid {
            for version in [0, 1] {
                // A member without an id gets one in version 0.
                if (what, version) != ("no member", 0) {
                    let response = self.client.call(version, &request).await;
                    self.script
                        .say(&format!("{what} v{version}"), &response.error_code.to_string());
                }
            }
        }
    }

    /// One member.
    async fn one_member(&mut self) {
        let id = self.id.clone();
        let joined = self.client.call(1, &join(&id, "one", &[&id])).await;
        self.topic = joined.assignment.as_ref().unwrap().topic_partitions[0].topic_id;
        self.script.say("one joins", &self.reduced(&joined));
        self.beat("one joins again", join(&id, "one", &[&id])).await;
        self.beat("one stays", beat(&id, "one", 2)).await;
        self.beat("one says all", self.whole("one", 2, &[0, 1, 2, 3])).await;
        self.beat("one is behind", beat(&id, "one", 0).with_topic_partitions(None))
            .await;
        self.beat("one is ahead", beat(&id, "one", 3)).await;
        self.beat("two is no member", beat(&id, "two", 2)).await;
        self.beat("two leaves", beat(&id, "two", -1)).await;
        self.beat(
            "one wants an unknown assignor",
            beat(&id, "one", 2).with_server_assignor(Some(text("none"))),
        )
        .await;
        self.beat(
            "one wants the usual assignor",
            beat(&id, "one", 2).with_server_assignor(Some(text("uniform"))),
        )
        .await;
        self.describe("of one").await;
    }

    /// A second member gets the partitions that the first one revokes.
    async fn second_member(&mut self) {
        let id = self.id.clone();
        sleep(ASSIGNMENT_INTERVAL).await;
        self.beat("two joins", join(&id, "two", &[&id])).await;
        self.describe("of two, the first not told").await;
        self.beat("one is told", beat(&id, "one", 2)).await;
        self.beat("one has not heard", self.owning("one", 2, &[0, 1, 2, 3]))
            .await;
        self.beat("one says nothing of it", beat(&id, "one", 2)).await;
        self.beat("one says all", self.whole("one", 2, &[0, 1, 2, 3])).await;
        self.beat("two waits", beat(&id, "two", 3)).await;
        self.describe("of two, the first told").await;
        self.commit("in time", "one", 2, &[0, 3]).await;
        self.beat("one gives one up", self.owning("one", 2, &[0, 1, 2])).await;
        self.beat("one gives up", self.owning("one", 2, &[0, 1])).await;
        self.beat("one joins again", join(&id, "one", &[&id])).await;
        self.beat("two gets them", beat(&id, "two", 3)).await;
        self.describe("of two").await;

        self.commit("late, of what it still has", "one", 2, &[0, 1]).await;
        self.commit("late, of what it had", "one", 2, &[0, 3]).await;
        self.commit("of another's", "one", 3, &[3]).await;
        self.commit("ahead", "one", 4, &[0]).await;
        self.commit("too early", "two", 2, &[3]).await;
        self.commit("of what it got", "two", 3, &[3]).await;

        // The response with the new epoch may be lost, so the previous epoch is valid with no more partitions than owned.
        self.beat("one is behind", self.owning("one", 2, &[0, 1])).await;
        self.beat("one is behind and has more", self.owning("one", 2, &[0, 1, 2]))
            .await;
        self.beat("one is behind and says nothing", beat(&id, "one", 2)).await;
        self.beat("one stays", beat(&id, "one", 3)).await;
    }

    /// The topic gets more partitions.
    async fn more_partitions(&mut self) {
        let id = self.id.clone();
        for (name, count) in [("not-there", 5), (&*id, 4), (&id, 3), (&id, 0), (&id, -1)] {
            self.grow(name, count, false).await;
            self.grow(name, count, true).await;
        }
        self.beat("one stays", beat(&id, "one", 3)).await;
        self.beat("two stays", beat(&id, "two", 3)).await;
        self.grow(&id, 6, true).await;
        self.grow(&id, 6, false).await;
        self.script.until_known(6).await;
        // Each member gets one of the new partitions.
        let mut epochs = [3, 3];
        until_eq(
            "three partitions for each member",
            WAIT_LIMIT,
            [(0, 3); 2],
            async || {
                let mut shares = [(0, 0); 2];
                for ((member, epoch), share) in ["one", "two"].into_iter().zip(&mut epochs).zip(&mut shares) {
                    let response = self.client.call(1, &self.whole(member, *epoch, &[])).await;
                    *epoch = response.member_epoch;
                    *share = (response.error_code, response.assignment.as_ref().map_or(0, count));
                }
                shares
            },
        )
        .await;
        self.script.say("their epochs", &format!("{epochs:?}"));
        self.beat("two leaves", beat(&id, "two", -1)).await;
        self.beat("two leaves again", beat(&id, "two", -1)).await;
        self.describe("after two has left").await;
        sleep(ASSIGNMENT_INTERVAL).await;
        self.beat("one gets all", beat(&id, "one", 4)).await;
    }

    async fn grow(&mut self, name: &str, count: i32, validate_only: bool) {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic(name))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000)
            .with_validate_only(validate_only);
        let response = self.client.call(3, &request).await;
        let what = format!("{count} partitions of {name}, {validate_only}");
        self.script.say(&what, &response.results[0].error_code.to_string());
    }

    /// A member subscribes to other topics, and to none.
    async fn changed_subscriptions(&mut self) {
        let id = self.id.clone();
        sleep(ASSIGNMENT_INTERVAL).await;
        let nothing = beat(&id, "one", 5).with_subscribed_topic_names(Some(vec![topic("not-there")]));
        self.beat("one wants what is not there", nothing).await;
        self.beat("one has given up all", self.owning("one", 5, &[])).await;
        sleep(ASSIGNMENT_INTERVAL).await;
        let again = beat(&id, "one", 6).with_subscribed_topic_names(Some(vec![topic(&id), topic("not-there")]));
        self.beat("one wants it again", again).await;
        sleep(ASSIGNMENT_INTERVAL).await;
        let nothing = beat(&id, "one", 7).with_subscribed_topic_names(Some(vec![]));
        self.beat("one wants nothing", nothing).await;
        self.describe("of one that wants nothing").await;
        self.beat("one has given up all again", self.owning("one", 7, &[]))
            .await;
        self.beat("one leaves", beat(&id, "one", -1)).await;
        self.describe("without members").await;
        self.commit("without a member", "", -1, &[0]).await;
    }

    /// A static member returns.
    async fn static_members(&mut self) {
        let id = self.id.clone();
        sleep(ASSIGNMENT_INTERVAL).await;
        let instance = |request: ConsumerGroupHeartbeatRequest| request.with_instance_id(Some(text("a")));
        self.beat("three joins", instance(join(&id, "three", &[&id]))).await;
        self.beat("three joins again", instance(join(&id, "three", &[&id])))
            .await;
        self.beat("four is too early", instance(join(&id, "four", &[&id])))
            .await;
        self.beat("four is not known", instance(beat(&id, "four", 9))).await;
        self.beat("four cannot leave", instance(beat(&id, "four", -1))).await;
        self.beat("three is away", instance(beat(&id, "three", -2))).await;
        self.describe("of one that is away").await;
        self.beat("four takes its place", instance(join(&id, "four", &[&id])))
            .await;
        self.beat("three is too late", instance(beat(&id, "three", 9))).await;
        self.beat(
            "an unknown instance leaves",
            beat(&id, "four", -1).with_instance_id(Some(text("b"))),
        )
        .await;
        self.describe("of one that came back").await;
        self.beat("four leaves", instance(beat(&id, "four", -1))).await;
    }

    /// Members without heartbeats, and one that does not revoke its partitions.
    async fn session_timeouts(&mut self) {
        let id = self.id.clone();
        sleep(ASSIGNMENT_INTERVAL).await;
        self.beat("five joins", join(&id, "five", &[&id])).await;
        self.deleted("a group with a member").await;
        self.commit("without a member", "", -1, &[0]).await;
        let request = commit(&id, &id, &[(0, 7)]);
        until_eq("the end of the session", SESSION_LIMIT, 0, async || {
            self.client.call(9, &request).await.topics[0].partitions[0].error_code
        })
        .await;
        self.beat("five is gone", beat(&id, "five", 11)).await;
        self.describe("without members again").await;

        // A member that sends heartbeats but does not revoke is removed after its rebalance timeout.
        let mut slow = join(&id, "six", &[&id]);
        slow.rebalance_timeout_ms = 2_000;
        let six = self.client.call(1, &slow).await;
        self.script.say("six joins", &self.reduced(&six));
        sleep(ASSIGNMENT_INTERVAL).await;
        self.beat("seven joins", join(&id, "seven", &[&id])).await;
        let stay = beat(&id, "six", six.member_epoch);
        self.beat("six is told", stay.clone()).await;
        until_eq("the end of the rebalance timeout", SESSION_LIMIT, 25, async || {
            self.client.call(1, &stay).await.error_code
        })
        .await;
        // This took longer than the assignment interval.
        self.beat("seven gets all", self.whole("seven", six.member_epoch + 1, &[]))
            .await;
        self.beat("seven leaves", beat(&id, "seven", -1)).await;
    }

    async fn list_and_describe(&mut self) {
        let id = self.id.clone();
        let all = [vec![], vec!["empty"], vec![" Stable"]].map(|names| names.into_iter().map(text).collect::<Vec<_>>());
        let kinds = [vec![], vec!["CONSUMER"], vec!["classic"]].map(|names| names.into_iter().map(text).collect());
        for states in &all {
            for kinds in &kinds {
                let kinds: &Vec<_> = kinds;
                let request = ListGroupsRequest::default()
                    .with_states_filter(states.clone())
                    .with_types_filter(kinds.clone());
                let response = self.client.call(5, &request).await;
                let ours = response.groups.iter().filter(|listed| listed.group_id.as_str() == id);
                let ours = ours.map(|listed| {
                    [&listed.protocol_type, &listed.group_state, &listed.group_type].map(ToString::to_string)
                });
                let what = format!("list {states:?} {kinds:?}");
                self.script.say(&what, &format!("{:?}", ours.collect::<Vec<_>>()));
            }
        }
        for version in [5, 6] {
            let request = DescribeGroupsRequest::default().with_groups(vec![group(&id)]);
            let response = self.client.call(version, &request).await;
            let found = &response.groups[0];
            let what = format!("as a classic group v{version}");
            self.script
                .say(&what, &format!("{} {:?}", found.error_code, found.group_state.as_str()));
        }
        self.deleted("a group").await;
        self.deleted("a group that is gone").await;
        self.describe("of what is gone").await;
    }

    async fn beat(&mut self, what: &str, request: ConsumerGroupHeartbeatRequest) {
        let response = self.client.call(1, &request).await;
        self.script.say(what, &self.reduced(&response));
    }

    async fn commit(&mut self, what: &str, member: &str, epoch: i32, partitions: &[i32]) {
        let positions: Vec<_> = partitions.iter().map(|index| (*index, 1)).collect();
        let request = commit(&self.id, &self.id, &positions)
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(epoch);
        let response = self.client.call(9, &request).await;
        let what = format!("a commit of {member:?} {what}");
        self.script.say(&what, &committed(&response));
    }

    async fn describe(&mut self, what: &str) {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(&self.id)]);
        for version in [0, 1] {
            let response = self.client.call(version, &request).await;
            let found = &response.groups[0];
            let epochs = (found.group_epoch, found.assignment_epoch);
            let mut notes = vec![format!(
                "{} {:?} {epochs:?} {:?}",
                found.error_code,
                found.group_state.as_str(),
                found.assignor_name.as_str()
            )];
            for member in &found.members {
                let topics: Vec<_> = member.subscribed_topic_names.iter().map(|name| name.as_str()).collect();
                notes.push(format!(
                    "{} {:?} {} {} {} {topics:?} {:?} has {:?}, is to have {:?}",
                    member.member_id.as_str(),
                    member.instance_id.as_deref(),
                    member.member_epoch,
                    member.client_id.as_str(),
                    member.client_host.as_str(),
                    member.member_type,
                    described(&member.assignment),
                    described(&member.target_assignment)
                ));
            }
            notes.sort_unstable();
            self.script
                .say(&format!("description {what} v{version}"), &format!("{notes:?}"));
        }
    }

    async fn deleted(&mut self, what: &str) {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group(&self.id)]);
        let response = self.client.call(2, &request).await;
        self.script
            .say(&format!("delete {what}"), &response.results[0].error_code.to_string());
    }

    /// A heartbeat with these partitions.
    fn owning(&self, member: &str, epoch: i32, partitions: &[i32]) -> ConsumerGroupHeartbeatRequest {
        let topic = TopicPartitions::default()
            .with_topic_id(self.topic)
            .with_partitions(partitions.to_vec());
        beat(&self.id, member, epoch).with_topic_partitions(Some(vec![topic]))
    }

    /// A full heartbeat, so that the response has the assignment.
    fn whole(&self, member: &str, epoch: i32, partitions: &[i32]) -> ConsumerGroupHeartbeatRequest {
        self.owning(member, epoch, partitions)
            .with_rebalance_timeout_ms(60_000)
            .with_subscribed_topic_names(Some(vec![topic(&self.id)]))
    }

    /// The response without error texts and topic ids, which differ between the engines.
    fn reduced(&self, response: &ConsumerGroupHeartbeatResponse) -> String {
        let assigned = response.assignment.as_ref().map(|assignment| {
            let mut partitions: Vec<_> = assignment
                .topic_partitions
                .iter()
                .inspect(|topic| assert_eq!(topic.topic_id, self.topic))
                .flat_map(|topic| topic.partitions.clone())
                .collect();
            partitions.sort_unstable();
            partitions
        });
        let member = response.member_id.as_deref();
        let (error, epoch, interval) = (
            response.error_code,
            response.member_epoch,
            response.heartbeat_interval_ms,
        );
        format!("{error} {member:?} {epoch} {interval} ms {assigned:?}")
    }
}

fn count(assignment: &kafka_protocol::messages::consumer_group_heartbeat_response::Assignment) -> usize {
    assignment
        .topic_partitions
        .iter()
        .map(|topic| topic.partitions.len())
        .sum()
}

/// The number of partitions of each topic. Which partitions are assigned depends on hashes of ids.
fn described(assignment: &Assignment) -> Vec<(&str, usize)> {
    let topics = assignment.topic_partitions.iter();
    topics
        .map(|topic| (topic.topic_name.as_str(), topic.partitions.len()))
        .collect()
}

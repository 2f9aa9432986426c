use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{config::Config, groups::snapshot::TopicMetadata};

const SECOND: Duration = Duration::from_secs(1);

/// A group with its clock and its topics.
struct Fixture {
    group: ConsumerGroup,
    config: Config,
    began: Instant,
    now: Instant,
    topics: TopicMetadataMap,
}

impl Fixture {
    fn new(partitions: i32) -> Self {
        let config = Config {
            session_timeout: 10 * SECOND,
            ..Config::default()
        };
        let mut fixture = Fixture {
            group: ConsumerGroup::default(),
            config,
            began: Instant::now(),
            now: Instant::now(),
            topics: TopicMetadataMap::new(),
        };
        fixture.set_topic("ping", partitions);
        fixture
    }

    fn set_topic(&mut self, topic: &str, partitions: i32) {
        let id = self.topics.get(topic).map_or_else(Uuid::new_v4, |topic| topic.id);
        self.topics.insert(topic.to_owned(), TopicMetadata { id, partitions });
    }

    fn at<T>(&mut self, act: impl FnOnce(&mut ConsumerGroup, &Snapshot<'_>) -> T) -> T {
        let snapshot = Snapshot {
            now: self.now,
            topics: self.topics.clone(),
            config: &self.config,
        };
        self.group.expire(&snapshot);
        act(&mut self.group, &snapshot)
    }

    fn heartbeat(&mut self, heartbeat: Heartbeat) -> Result<HeartbeatResult, ResponseError> {
        self.at(|group, snapshot| group.heartbeat(heartbeat, snapshot))
    }

    fn ping(&self, partitions: impl IntoIterator<Item = i32>) -> PartitionSet {
        let topic = self.topics["ping"].id;
        partitions.into_iter().map(|index| (topic, index)).collect()
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
    }
}

fn join(member: &str) -> Heartbeat {
    Heartbeat {
        rebalance_timeout: Some(5 * SECOND),
        subscribed_topics: Some(["ping".to_owned()].into()),
        owned_partitions: Some(PartitionSet::new()),
        ..stay(member, 0)
    }
}

fn stay(member: &str, epoch: i32) -> Heartbeat {
    Heartbeat {
        member_id: member.to_owned(),
        member_epoch: epoch,
        ..Heartbeat::default()
    }
}

#[test]
fn target_assignment_waits_for_the_assignment_interval() {
    let mut fixture = Fixture::new(2);
    assert_eq!(
        fixture.heartbeat(join("one")).unwrap().assignment,
        Some(fixture.ping([0, 1]))
    );
    // Within the interval: the new member enters the epoch of the old target assignment, without partitions.
    let two = fixture.heartbeat(join("two")).unwrap();
    assert_eq!((two.member_epoch, two.assignment), (2, Some(PartitionSet::new())));
    assert_eq!(fixture.group.state(), "Assigning");
    fixture.advance(SECOND);
    assert_eq!(fixture.heartbeat(stay("two", 2)).unwrap().member_epoch, 3);
    assert_eq!(fixture.group.state(), "Reconciling");
}

#[test]
fn member_that_joins_again_gets_its_assignment() {
    let mut fixture = Fixture::new(2);
    fixture.heartbeat(join("one")).unwrap();
    let again = fixture.heartbeat(join("one")).unwrap();
    assert_eq!((again.member_epoch, again.assignment), (2, Some(fixture.ping([0, 1]))));
    assert_eq!(fixture.heartbeat(stay("one", 3)), Err(ResponseError::FencedMemberEpoch));
    assert_eq!(fixture.heartbeat(stay("one", 1)), Err(ResponseError::FencedMemberEpoch));
    assert_eq!(fixture.heartbeat(stay("two", 2)), Err(ResponseError::UnknownMemberId));
}

#[test]
fn session_timeout_removes_member() {
    let mut fixture = Fixture::new(2);
    fixture.heartbeat(join("one")).unwrap();
    fixture.heartbeat(join("two")).unwrap();
    fixture.advance(9 * SECOND);
    fixture.heartbeat(stay("one", 2)).unwrap();
    fixture.advance(SECOND);
    assert_eq!(fixture.heartbeat(stay("two", 3)), Err(ResponseError::UnknownMemberId));
    assert!(fixture.heartbeat(stay("one", 2)).is_ok());
    fixture.advance(10 * SECOND);
    fixture.at(|group, _| assert_eq!(group.state(), "Empty"));
}

#[test]
fn rebalance_timeout_removes_member_that_does_not_revoke() {
    let mut fixture = Fixture::new(2);
    fixture.heartbeat(join("one")).unwrap();
    fixture.advance(SECOND);
    fixture.heartbeat(join("two")).unwrap();
    assert_eq!(
        fixture.heartbeat(stay("one", 2)).unwrap().assignment,
        Some(fixture.ping([0]))
    );
    fixture.advance(4 * SECOND);
    // It sends heartbeats, but still owns both partitions.
    let unrevoked = Heartbeat {
        owned_partitions: Some(fixture.ping([0, 1])),
        ..stay("one", 2)
    };
    fixture.heartbeat(unrevoked.clone()).unwrap();
    fixture.advance(SECOND);
    assert_eq!(fixture.heartbeat(unrevoked), Err(ResponseError::UnknownMemberId));
    fixture.advance(SECOND);
    assert_eq!(
        fixture.heartbeat(stay("two", 3)).unwrap().assignment,
        Some(fixture.ping([0, 1]))
    );
}

#[test]
fn assignment_follows_new_partitions_and_deleted_topics() {
    let mut fixture = Fixture::new(1);
    fixture.heartbeat(join("one")).unwrap();
    fixture.advance(SECOND);
    fixture.set_topic("ping", 3);
    let grown = fixture.heartbeat(stay("one", 2)).unwrap();
    assert_eq!(
        (grown.member_epoch, grown.assignment),
        (3, Some(fixture.ping([0, 1, 2])))
    );
    fixture.advance(SECOND);
    let owned = fixture.ping([0, 1, 2]);
    fixture.topics.clear();
    assert_eq!(
        fixture.heartbeat(stay("one", 3)).unwrap().assignment,
        Some(PartitionSet::new())
    );
    let revoked = Heartbeat {
        owned_partitions: Some(PartitionSet::new()),
        ..stay("one", 3)
    };
    assert_eq!(fixture.heartbeat(revoked).unwrap().member_epoch, 4);
    let topic = owned.first().unwrap().0;
    assert!(fixture.group.members["one"].assigned().all(|(id, _)| *id != topic));
}

#[test]
fn unsubscribed_topic_is_revoked_before_the_next_target() {
    let mut fixture = Fixture::new(2);
    fixture.heartbeat(join("one")).unwrap();
    let other = Heartbeat {
        subscribed_topics: Some(["pong".to_owned()].into()),
        ..stay("one", 2)
    };
    let resubscribed = fixture.heartbeat(other).unwrap();
    assert_eq!(
        (resubscribed.member_epoch, resubscribed.assignment),
        (2, Some(PartitionSet::new()))
    );
    // No other member gets the partitions before they are revoked.
    fixture.advance(SECOND);
    fixture.heartbeat(join("two")).unwrap();
    assert_eq!(fixture.group.members["two"].assigned().count(), 0);
    let revoked = Heartbeat {
        owned_partitions: Some(PartitionSet::new()),
        ..stay("one", 2)
    };
    fixture.heartbeat(revoked).unwrap();
    let epoch = fixture.group.members["two"].epoch;
    assert_eq!(
        fixture.heartbeat(stay("two", epoch)).unwrap().assignment,
        Some(fixture.ping([0, 1]))
    );
}

#[test]
fn static_member_keeps_its_assignment_when_it_rejoins() {
    let mut fixture = Fixture::new(2);
    let instance = |heartbeat: Heartbeat| Heartbeat {
        instance_id: Some("a".to_owned()),
        ..heartbeat
    };
    fixture.heartbeat(instance(join("one"))).unwrap();
    assert_eq!(
        fixture.heartbeat(instance(join("new"))),
        Err(ResponseError::UnreleasedInstanceId)
    );
    assert_eq!(
        fixture.heartbeat(instance(stay("new", 2))),
        Err(ResponseError::FencedInstanceId)
    );
    let away = instance(stay("one", LEAVE_TEMPORARILY));
    assert_eq!(
        fixture
            .at(|group, snapshot| group.leave(&away, snapshot))
            .unwrap()
            .member_epoch,
        LEAVE_TEMPORARILY
    );
    let back = fixture.heartbeat(instance(join("new"))).unwrap();
    // The group epoch is the same.
    assert_eq!((back.member_epoch, back.assignment), (2, Some(fixture.ping([0, 1]))));
    assert_eq!(
        fixture.heartbeat(instance(stay("one", 2))),
        Err(ResponseError::FencedInstanceId)
    );
}

#[test]
fn old_epoch_may_commit_partitions_held_since() {
    let mut fixture = Fixture::new(2);
    fixture.heartbeat(join("one")).unwrap();
    fixture.advance(SECOND);
    fixture.heartbeat(join("two")).unwrap();
    fixture.heartbeat(stay("one", 2)).unwrap();
    let revoked = Heartbeat {
        owned_partitions: Some(fixture.ping([0])),
        ..stay("one", 2)
    };
    fixture.heartbeat(revoked).unwrap();
    fixture.heartbeat(stay("two", 3)).unwrap();
    let check = |member_id, epoch, partitions: [i32; 1]| {
        let partitions = fixture.ping(partitions);
        fixture
            .group
            .check_commit(MemberEpoch { member_id, epoch }, 9, &partitions)
    };
    assert_eq!(check("one", 2, [0]), Ok(()));
    assert_eq!(check("one", 2, [1]), Err(ResponseError::StaleMemberEpoch));
    // In its current epoch a member may commit any partition.
    assert_eq!(check("one", 3, [1]), Ok(()));
    assert_eq!(check("two", 2, [1]), Err(ResponseError::StaleMemberEpoch));
    assert_eq!(check("two", 4, [1]), Err(ResponseError::StaleMemberEpoch));
}

/// An event in a group, of one of four clients.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A heartbeat; the client joins if it is not a member.
    Heartbeat(usize),
    /// A heartbeat whose response is lost.
    LostResponse(usize),
    /// The client revokes the partitions that are no longer assigned.
    Revoke(usize),
    Leave(usize),
    Advance(u64),
    AddPartition,
}

fn event() -> impl Strategy<Value = Event> {
    let client = || 0_usize..4;
    prop_oneof![
        6 => client().prop_map(Event::Heartbeat),
        1 => client().prop_map(Event::LostResponse),
        4 => client().prop_map(Event::Revoke),
        1 => client().prop_map(Event::Leave),
        2 => (100_u64..3_000).prop_map(Event::Advance),
        1 => Just(Event::AddPartition),
    ]
}

/// The state of a client.
#[derive(Debug, Default)]
struct Consumer {
    epoch: i32,
    /// The partitions that it reads.
    owned: PartitionSet,
    /// The last assignment from the coordinator.
    assigned: PartitionSet,
}

/// The clients by number, each with the number of its restarts: a restarted client has a new member id.
#[derive(Debug, Default)]
struct Consumers(HashMap<usize, (usize, Consumer)>);

impl Consumers {
    fn id(&mut self, client: usize) -> String {
        format!("{client}-{}", self.0.entry(client).or_default().0)
    }

    fn heartbeat(&mut self, fixture: &mut Fixture, client: usize, lost: bool) {
        let id = self.id(client);
        let (restarts, consumer) = self.0.entry(client).or_default();
        let heartbeat = Heartbeat {
            member_epoch: consumer.epoch,
            owned_partitions: Some(consumer.owned.clone()),
            ..join(&id)
        };
        match fixture.heartbeat(heartbeat) {
            Ok(_) if lost => {}
            Ok(result) => {
                consumer.epoch = result.member_epoch;
                if let Some(assigned) = result.assignment {
                    consumer.owned.extend(assigned.iter().copied());
                    consumer.assigned = assigned;
                }
            }
            Err(_) => {
                *restarts += 1;
                *consumer = Consumer::default();
            }
        }
    }

    /// No partition is read by two members, or held by two members.
    fn check(&mut self, fixture: &Fixture) {
        let clients: Vec<_> = self.0.keys().copied().collect();
        let mut read = PartitionSet::new();
        for client in clients {
            let id = self.id(client);
            // A fenced client reads until its next heartbeat; the coordinator cannot prevent that.
            if fixture.group.members.contains_key(&id) {
                for partition in &self.0[&client].1.owned {
                    assert!(read.insert(*partition), "{partition:?} is read twice");
                }
            }
        }
        let mut held = PartitionSet::new();
        for partition in fixture.group.members.values().flat_map(ConsumerGroupMember::held) {
            assert!(held.insert(*partition), "{partition:?} is held twice");
        }
    }
}

proptest! {
    #[test]
    fn partitions_have_one_reader_and_converge_to_a_balanced_assignment(
        partitions in 1..9_i32,
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut fixture = Fixture::new(partitions);
        let mut consumers = Consumers::default();
        for event in events {
            match event {
                Event::Heartbeat(client) => consumers.heartbeat(&mut fixture, client, false),
                Event::LostResponse(client) => consumers.heartbeat(&mut fixture, client, true),
                Event::Revoke(client) => {
                    let (_, consumer) = consumers.0.entry(client).or_default();
                    consumer.owned = consumer.owned.intersection(&consumer.assigned).copied().collect();
                }
                Event::Leave(client) => {
                    let leaving = stay(&consumers.id(client), -1);
                    // Fails if the client is not a member.
                    let _ = fixture.at(|group, snapshot| group.leave(&leaving, snapshot));
                    consumers.0.entry(client).or_default().0 += 1;
                    consumers.0.entry(client).or_default().1 = Consumer::default();
                }
                Event::Advance(ms) => fixture.advance(Duration::from_millis(ms)),
                Event::AddPartition => fixture.set_topic("ping", fixture.topics["ping"].partitions + 1),
            }
            consumers.check(&fixture);
        }
        // All clients send heartbeats and revoke partitions that are no longer assigned.
        for _ in 0..12 {
            fixture.advance(SECOND);
            for client in 0..4 {
                consumers.heartbeat(&mut fixture, client, false);
                let (_, consumer) = consumers.0.entry(client).or_default();
                consumer.owned = consumer.owned.intersection(&consumer.assigned).copied().collect();
                consumers.check(&fixture);
            }
        }
        prop_assert_eq!(fixture.group.state(), "Stable", "after {:?}", fixture.now - fixture.began);
        let sizes: Vec<_> = consumers.0.values().map(|(_, consumer)| consumer.owned.len()).collect();
        let partitions = usize::try_from(fixture.topics["ping"].partitions).unwrap();
        prop_assert_eq!(sizes.iter().sum::<usize>(), partitions);
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
    }
}

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::{config::Config, groups::view::Listed};

const SECOND: Duration = Duration::from_secs(1);

/// A group, the world around it, and its time.
struct World {
    group: Membership,
    config: Config,
    began: Instant,
    now: Instant,
    topics: Catalog,
}

impl World {
    fn new(partitions: i32) -> Self {
        let config = Config {
            session_timeout: 10 * SECOND,
            ..Config::default()
        };
        let mut world = World {
            group: Membership::default(),
            config,
            began: Instant::now(),
            now: Instant::now(),
            topics: Catalog::new(),
        };
        world.set("ping", partitions);
        world
    }

    fn set(&mut self, topic: &str, partitions: i32) {
        let id = self.topics.get(topic).map_or_else(Uuid::new_v4, |topic| topic.id);
        self.topics.insert(topic.to_owned(), Listed { id, partitions });
    }

    fn at<T>(&mut self, act: impl FnOnce(&mut Membership, &View<'_>) -> T) -> T {
        let view = View {
            now: self.now,
            topics: self.topics.clone(),
            config: &self.config,
        };
        self.group.expire(&view);
        act(&mut self.group, &view)
    }

    fn beat(&mut self, beat: Beat) -> Result<Pulse, ResponseError> {
        self.at(|group, view| group.beat(beat, view))
    }

    fn ids(&self, partitions: impl IntoIterator<Item = i32>) -> Partitions {
        let topic = self.topics["ping"].id;
        partitions.into_iter().map(|index| (topic, index)).collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

fn join(member: &str) -> Beat {
    Beat {
        rebalance_timeout: Some(5 * SECOND),
        subscribed: Some(["ping".to_owned()].into()),
        owned: Some(Partitions::new()),
        ..stay(member, 0)
    }
}

fn stay(member: &str, epoch: i32) -> Beat {
    Beat {
        member: member.to_owned(),
        epoch,
        ..Beat::default()
    }
}

#[test]
fn targets_are_made_once_in_an_interval() {
    let mut world = World::new(2);
    assert_eq!(world.beat(join("one")).unwrap().assignment, Some(world.ids([0, 1])));
    // Too early for another target: it is in the last one's epoch, with nothing.
    let two = world.beat(join("two")).unwrap();
    assert_eq!((two.epoch, two.assignment), (2, Some(Partitions::new())));
    assert_eq!(world.group.state(), "Assigning");
    world.pass(SECOND);
    assert_eq!(world.beat(stay("two", 2)).unwrap().epoch, 3);
    assert_eq!(world.group.state(), "Reconciling");
}

#[test]
fn who_joins_again_is_told_again() {
    let mut world = World::new(2);
    world.beat(join("one")).unwrap();
    let again = world.beat(join("one")).unwrap();
    assert_eq!((again.epoch, again.assignment), (2, Some(world.ids([0, 1]))));
    assert_eq!(world.beat(stay("one", 3)), Err(ResponseError::FencedMemberEpoch));
    assert_eq!(world.beat(stay("one", 1)), Err(ResponseError::FencedMemberEpoch));
    assert_eq!(world.beat(stay("two", 2)), Err(ResponseError::UnknownMemberId));
}

#[test]
fn sessions_end_by_silence() {
    let mut world = World::new(2);
    world.beat(join("one")).unwrap();
    world.beat(join("two")).unwrap();
    world.pass(9 * SECOND);
    world.beat(stay("one", 2)).unwrap();
    world.pass(SECOND);
    assert_eq!(world.beat(stay("two", 3)), Err(ResponseError::UnknownMemberId));
    assert!(world.beat(stay("one", 2)).is_ok());
    world.pass(10 * SECOND);
    world.at(|group, _| assert_eq!(group.state(), "Empty"));
}

#[test]
fn who_does_not_give_up_in_time_is_gone() {
    let mut world = World::new(2);
    world.beat(join("one")).unwrap();
    world.pass(SECOND);
    world.beat(join("two")).unwrap();
    assert_eq!(world.beat(stay("one", 2)).unwrap().assignment, Some(world.ids([0])));
    world.pass(4 * SECOND);
    // It is there, and it says that it still has both: that is no progress.
    let stubborn = Beat {
        owned: Some(world.ids([0, 1])),
        ..stay("one", 2)
    };
    world.beat(stubborn.clone()).unwrap();
    world.pass(SECOND);
    assert_eq!(world.beat(stubborn), Err(ResponseError::UnknownMemberId));
    world.pass(SECOND);
    assert_eq!(world.beat(stay("two", 3)).unwrap().assignment, Some(world.ids([0, 1])));
}

#[test]
fn partitions_come_and_go_with_their_topic() {
    let mut world = World::new(1);
    world.beat(join("one")).unwrap();
    world.pass(SECOND);
    world.set("ping", 3);
    let grown = world.beat(stay("one", 2)).unwrap();
    assert_eq!((grown.epoch, grown.assignment), (3, Some(world.ids([0, 1, 2]))));
    world.pass(SECOND);
    let owned = world.ids([0, 1, 2]);
    world.topics.clear();
    assert_eq!(world.beat(stay("one", 3)).unwrap().assignment, Some(Partitions::new()));
    let gave = Beat {
        owned: Some(Partitions::new()),
        ..stay("one", 3)
    };
    assert_eq!(world.beat(gave).unwrap().epoch, 4);
    let topic = owned.first().unwrap().0;
    assert!(world.group.members["one"].assigned().all(|(id, _)| *id != topic));
}

#[test]
fn what_is_not_wanted_any_more_is_taken_before_there_is_a_target() {
    let mut world = World::new(2);
    world.beat(join("one")).unwrap();
    let other = Beat {
        subscribed: Some(["pong".to_owned()].into()),
        ..stay("one", 2)
    };
    let told = world.beat(other).unwrap();
    assert_eq!((told.epoch, told.assignment), (2, Some(Partitions::new())));
    // And nobody gets it before it is given up.
    world.pass(SECOND);
    world.beat(join("two")).unwrap();
    assert_eq!(world.group.members["two"].assigned().count(), 0);
    let gave = Beat {
        owned: Some(Partitions::new()),
        ..stay("one", 2)
    };
    world.beat(gave).unwrap();
    let epoch = world.group.members["two"].epoch;
    assert_eq!(
        world.beat(stay("two", epoch)).unwrap().assignment,
        Some(world.ids([0, 1]))
    );
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut world = World::new(2);
    let instance = |beat: Beat| Beat {
        instance: Some("a".to_owned()),
        ..beat
    };
    world.beat(instance(join("one"))).unwrap();
    assert_eq!(
        world.beat(instance(join("new"))),
        Err(ResponseError::UnreleasedInstanceId)
    );
    assert_eq!(
        world.beat(instance(stay("new", 2))),
        Err(ResponseError::FencedInstanceId)
    );
    let away = instance(stay("one", AWAY));
    assert_eq!(world.at(|group, view| group.leave(&away, view)).unwrap().epoch, AWAY);
    let back = world.beat(instance(join("new"))).unwrap();
    // Nothing has changed for the group.
    assert_eq!((back.epoch, back.assignment), (2, Some(world.ids([0, 1]))));
    assert_eq!(
        world.beat(instance(stay("one", 2))),
        Err(ResponseError::FencedInstanceId)
    );
}

#[test]
fn an_old_epoch_commits_what_the_member_has_had_since() {
    let mut world = World::new(2);
    world.beat(join("one")).unwrap();
    world.pass(SECOND);
    world.beat(join("two")).unwrap();
    world.beat(stay("one", 2)).unwrap();
    let gave = Beat {
        owned: Some(world.ids([0])),
        ..stay("one", 2)
    };
    world.beat(gave).unwrap();
    world.beat(stay("two", 3)).unwrap();
    let check = |member, epoch, partitions: [i32; 1]| {
        let partitions = world.ids(partitions);
        world.group.check_commit(Asker { member, epoch }, 9, &partitions)
    };
    assert_eq!(check("one", 2, [0]), Ok(()));
    assert_eq!(check("one", 2, [1]), Err(ResponseError::StaleMemberEpoch));
    // In its own epoch a member may commit whatever it wants.
    assert_eq!(check("one", 3, [1]), Ok(()));
    assert_eq!(check("two", 2, [1]), Err(ResponseError::StaleMemberEpoch));
    assert_eq!(check("two", 4, [1]), Err(ResponseError::StaleMemberEpoch));
}

/// What happens to a group: each about one of a few clients.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// It says something, and joins if it is none.
    Beat(usize),
    /// The same, and the answer is lost.
    Lost(usize),
    /// It gives up what it was told to.
    Revoke(usize),
    Leave(usize),
    Pass(u64),
    Grow,
}

fn event() -> impl Strategy<Value = Event> {
    let client = || 0_usize..4;
    prop_oneof![
        6 => client().prop_map(Event::Beat),
        1 => client().prop_map(Event::Lost),
        4 => client().prop_map(Event::Revoke),
        1 => client().prop_map(Event::Leave),
        2 => (100_u64..3_000).prop_map(Event::Pass),
        1 => Just(Event::Grow),
    ]
}

/// A client as it sees itself.
#[derive(Debug, Default)]
struct Consumer {
    epoch: i32,
    /// What it reads.
    owned: Partitions,
    /// What it was last told.
    told: Partitions,
}

/// The clients by number, and how often each has begun anew: then it has another id.
#[derive(Debug, Default)]
struct Consumers(HashMap<usize, (usize, Consumer)>);

impl Consumers {
    fn id(&mut self, client: usize) -> String {
        format!("{client}-{}", self.0.entry(client).or_default().0)
    }

    fn beat(&mut self, world: &mut World, client: usize, lost: bool) {
        let id = self.id(client);
        let (lives, consumer) = self.0.entry(client).or_default();
        let beat = Beat {
            epoch: consumer.epoch,
            owned: Some(consumer.owned.clone()),
            ..join(&id)
        };
        match world.beat(beat) {
            Ok(_) if lost => {}
            Ok(pulse) => {
                consumer.epoch = pulse.epoch;
                if let Some(told) = pulse.assignment {
                    consumer.owned.extend(told.iter().copied());
                    consumer.told = told;
                }
            }
            Err(_) => {
                *lives += 1;
                *consumer = Consumer::default();
            }
        }
    }

    /// Of those that are members: no partition is read by two of them.
    fn check(&mut self, world: &World) {
        let clients: Vec<_> = self.0.keys().copied().collect();
        let mut read = Partitions::new();
        for client in clients {
            let id = self.id(client);
            // Who is no member any more will learn it; Kafka cannot tell what it does until then.
            if world.group.members.contains_key(&id) {
                for partition in &self.0[&client].1.owned {
                    assert!(read.insert(*partition), "{partition:?} is read twice");
                }
            }
        }
        let mut held = Partitions::new();
        for partition in world.group.members.values().flat_map(Member::holds) {
            assert!(held.insert(*partition), "{partition:?} is held twice");
        }
    }
}

proptest! {
    #[test]
    fn no_partition_is_read_twice_and_in_the_end_all_are(
        partitions in 1..9_i32,
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut world = World::new(partitions);
        let mut consumers = Consumers::default();
        for event in events {
            match event {
                Event::Beat(client) => consumers.beat(&mut world, client, false),
                Event::Lost(client) => consumers.beat(&mut world, client, true),
                Event::Revoke(client) => {
                    let (_, consumer) = consumers.0.entry(client).or_default();
                    consumer.owned = consumer.owned.intersection(&consumer.told).copied().collect();
                }
                Event::Leave(client) => {
                    let leaving = stay(&consumers.id(client), -1);
                    // Who is none cannot leave either.
                    let _ = world.at(|group, view| group.leave(&leaving, view));
                    consumers.0.entry(client).or_default().0 += 1;
                    consumers.0.entry(client).or_default().1 = Consumer::default();
                }
                Event::Pass(ms) => world.pass(Duration::from_millis(ms)),
                Event::Grow => world.set("ping", world.topics["ping"].partitions + 1),
            }
            consumers.check(&world);
        }
        // All that are there go on, and give up what they are told to.
        for _ in 0..12 {
            world.pass(SECOND);
            for client in 0..4 {
                consumers.beat(&mut world, client, false);
                let (_, consumer) = consumers.0.entry(client).or_default();
                consumer.owned = consumer.owned.intersection(&consumer.told).copied().collect();
                consumers.check(&world);
            }
        }
        prop_assert_eq!(world.group.state(), "Stable", "after {:?}", world.now - world.began);
        let sizes: Vec<_> = consumers.0.values().map(|(_, consumer)| consumer.owned.len()).collect();
        let all = usize::try_from(world.topics["ping"].partitions).unwrap();
        prop_assert_eq!(sizes.iter().sum::<usize>(), all);
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
    }
}

use std::collections::BTreeSet;

use proptest::{collection::btree_set, prelude::*};

use super::*;

const OLD: Uuid = Uuid::from_u128(1);
const NEW: Uuid = Uuid::from_u128(2);
const SECOND: Duration = Duration::from_secs(1);

/// A member that knows the name of both ids.
fn member() -> (Membership, Instant) {
    let now = Instant::now();
    let mut member = Membership::new("member".into(), now);
    member.resolve([OLD, NEW].map(|id| (id, "ping".into())));
    (member, now)
}

fn of(topic: Uuid, partitions: &[i32]) -> BTreeSet<TopicIdPartition> {
    let partitions = partitions.iter().copied();
    partitions
        .map(|partition| TopicIdPartition { topic, partition })
        .collect()
}

fn named(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(&topic.into(), partition)
}

fn set(partitions: &[i32]) -> BTreeSet<TopicPartition> {
    partitions.iter().map(|partition| named("ping", *partition)).collect()
}

fn numbers(partitions: &BTreeSet<TopicIdPartition>) -> BTreeSet<TopicPartition> {
    partitions
        .iter()
        .map(|assigned| named("ping", assigned.partition))
        .collect()
}

fn answer(epoch: i32, assignment: Option<&[i32]>) -> Answer {
    Answer {
        epoch,
        interval: 5 * SECOND,
        assignment: assignment.map(|partitions| of(OLD, partitions)),
    }
}

/// Sends a heartbeat and answers it.
fn exchange(member: &mut Membership, answer: Answer, now: Instant) -> Heartbeat {
    let heartbeat = member.heartbeat();
    member.on_answer(answer, now);
    heartbeat
}

/// A member that owns these partitions and has reported them.
fn stable(partitions: &[i32]) -> (Membership, Instant) {
    let (mut member, now) = member();
    exchange(&mut member, answer(1, Some(partitions)), now);
    assert_eq!(member.next_rebalance(), Some(Rebalance::Assigned(set(partitions))));
    exchange(&mut member, answer(1, None), now);
    assert_eq!(member.next_rebalance(), None);
    (member, now)
}

#[test]
fn joining_heartbeat_is_full_and_later_ones_send_changes() {
    let (mut member, now) = member();
    assert_eq!(member.due(), now);
    let joining = member.heartbeat();
    assert_eq!((joining.member_epoch.epoch, joining.full), (0, true));
    assert_eq!(joining.owned, Some(BTreeSet::new()));

    member.on_answer(answer(3, Some(&[0, 1])), now);
    assert_eq!(member.member_epoch().epoch, 3);
    assert_eq!(member.next_rebalance(), Some(Rebalance::Assigned(set(&[0, 1]))));
    assert_eq!(member.due(), now, "the assignment is to be acknowledged");
    let owning = member.heartbeat();
    assert_eq!((owning.full, owning.owned), (false, Some(of(OLD, &[0, 1]))));

    member.on_answer(answer(3, None), now);
    assert_eq!(member.due(), now + 5 * SECOND);
    let quiet = member.heartbeat();
    assert_eq!((quiet.full, quiet.owned), (false, None));
    assert_eq!(member.next_rebalance(), None);
}

#[test]
fn revoked_partition_is_owned_until_released() {
    let (mut member, now) = stable(&[0, 1]);
    exchange(&mut member, answer(1, Some(&[0])), now);
    assert_eq!(member.next_rebalance(), Some(Rebalance::Revoked(set(&[1]))));
    assert_eq!(member.next_rebalance(), None);
    let heartbeat = exchange(&mut member, answer(1, None), now);
    assert_eq!(heartbeat.owned, Some(of(OLD, &[0, 1])));
    assert_eq!(member.due(), now + 5 * SECOND, "nothing is released yet");
    member.heartbeat();
    member.on_failure(now);
    let heartbeat = exchange(&mut member, answer(1, None), now);
    assert_eq!(heartbeat.owned, Some(of(OLD, &[0, 1])));
    assert_eq!(member.due(), now + 5 * SECOND, "nothing is released yet");

    member.on_released(&set(&[1]));
    assert_eq!(member.due(), now);
    assert_eq!(member.heartbeat().owned, Some(of(OLD, &[0])));
}

#[test]
fn release_during_a_heartbeat_is_reported_in_the_next() {
    let (mut member, now) = stable(&[0, 1]);
    exchange(&mut member, answer(1, Some(&[0])), now);
    member.next_rebalance();
    assert_eq!(member.heartbeat().owned, Some(of(OLD, &[0, 1])));
    member.on_released(&set(&[1]));
    member.on_answer(answer(1, None), now);
    assert_eq!(member.due(), now);
    assert_eq!(member.heartbeat().owned, Some(of(OLD, &[0])));
}

#[test]
fn partition_reassigned_while_revoking_is_assigned_after_its_release() {
    let (mut member, now) = stable(&[0, 1]);
    exchange(&mut member, answer(1, Some(&[0])), now);
    assert_eq!(member.next_rebalance(), Some(Rebalance::Revoked(set(&[1]))));
    exchange(&mut member, answer(1, Some(&[0, 1, 2])), now);
    assert_eq!(member.next_rebalance(), Some(Rebalance::Assigned(set(&[2]))));
    assert_eq!(member.next_rebalance(), None);
    member.on_released(&set(&[1]));
    assert_eq!(member.next_rebalance(), Some(Rebalance::Assigned(set(&[1]))));
}

#[test]
fn release_of_a_partition_that_is_not_revoked_is_ignored() {
    let (mut member, now) = stable(&[0, 1]);
    exchange(&mut member, answer(1, Some(&[0])), now);
    // The revocation is not handed out yet.
    member.on_released(&set(&[0, 1, 2]));
    assert_eq!(member.heartbeat().owned, Some(of(OLD, &[0, 1])));
}

#[test]
fn recreated_topic_is_revoked_and_assigned_again() {
    let (mut member, now) = stable(&[0]);
    let successor = Answer {
        assignment: Some(of(NEW, &[0])),
        ..answer(2, None)
    };
    exchange(&mut member, successor, now);
    assert_eq!(member.next_rebalance(), Some(Rebalance::Revoked(set(&[0]))));
    assert_eq!(member.next_rebalance(), None);
    member.on_released(&set(&[0]));
    assert_eq!(member.next_rebalance(), Some(Rebalance::Assigned(set(&[0]))));
    assert_eq!(member.heartbeat().owned, Some(of(NEW, &[0])));
}

#[test]
fn fenced_member_loses_everything_and_rejoins_after_a_pause() {
    let (mut member, now) = stable(&[0, 1]);
    exchange(&mut member, answer(1, Some(&[0])), now);
    assert_eq!(member.next_rebalance(), Some(Rebalance::Revoked(set(&[1]))));
    member.heartbeat();
    member.on_fenced(now);
    let due = member.due();
    assert!(due > now && due <= now + PAUSE_MIN, "{:?}", due - now);
    // The release is reported before the loss is handed out, and is ignored.
    member.on_released(&set(&[1]));
    let joining = member.heartbeat();
    assert_eq!(
        (&*joining.member_epoch.member_id, joining.member_epoch.epoch),
        ("member", 0)
    );
    assert_eq!((joining.full, joining.owned), (true, Some(BTreeSet::new())));
    member.on_answer(answer(7, Some(&[1])), due);
    assert_eq!(member.next_rebalance(), Some(Rebalance::Lost));
    assert_eq!(member.next_rebalance(), Some(Rebalance::Assigned(set(&[1]))));
}

#[test]
fn fenced_member_without_partitions_loses_nothing() {
    let (mut member, now) = member();
    member.heartbeat();
    member.on_fenced(now);
    assert_eq!(member.next_rebalance(), None);
}

#[test]
fn failures_back_off_and_keep_the_partitions() {
    let (mut member, mut now) = stable(&[0]);
    for pause in [100, 200, 400, 800, 1000, 1000, 1000, 1000, 1000, 1000] {
        let pause = Duration::from_millis(pause);
        member.heartbeat();
        member.on_failure(now);
        let due = member.due();
        assert!((now + pause / 2..=now + pause).contains(&due), "{:?}", due - now);
        now = due;
    }
    assert_eq!(member.next_rebalance(), None);
    let next = member.heartbeat();
    assert_eq!((next.member_epoch.epoch, next.full), (1, true));
    assert_eq!(next.owned, Some(of(OLD, &[0])));
    member.on_answer(answer(1, None), now);
    assert_eq!(member.due(), now + 5 * SECOND);
}

#[test]
fn heartbeat_interval_is_clamped() {
    let (mut member, now) = stable(&[0]);
    for (interval, due) in [(Duration::ZERO, INTERVAL_MIN), (Duration::MAX, INTERVAL_MAX)] {
        // A repeated assignment makes no heartbeat due at once.
        let repeated = Answer {
            interval,
            ..answer(1, Some(&[0]))
        };
        exchange(&mut member, repeated, now);
        assert_eq!(member.due(), now + due);
    }
}

#[test]
fn first_assignment_is_handed_out_even_if_it_has_no_partitions() {
    let (mut member, now) = member();
    exchange(&mut member, answer(1, None), now);
    assert_eq!(member.next_rebalance(), None);
    exchange(&mut member, answer(1, Some(&[])), now);
    exchange(&mut member, answer(1, None), now);
    assert_eq!(member.next_rebalance(), Some(Rebalance::Assigned(set(&[]))));
    exchange(&mut member, answer(1, Some(&[])), now);
    assert_eq!(member.next_rebalance(), None);
}

#[test]
fn assignment_withdrawn_before_it_was_handed_out_is_acknowledged() {
    let (mut member, now) = member();
    exchange(&mut member, answer(1, Some(&[0])), now);
    exchange(&mut member, answer(1, Some(&[])), now);
    assert_eq!(member.next_rebalance(), Some(Rebalance::Assigned(set(&[]))));
    assert_eq!(member.next_rebalance(), None);
    assert_eq!(member.due(), now);
    assert_eq!(member.heartbeat().owned, Some(BTreeSet::new()));
}

#[test]
fn partitions_are_handed_out_once_the_names_of_their_topics_are_known() {
    const OTHER: Uuid = Uuid::from_u128(3);
    let (mut member, now) = member();
    let both = Answer {
        assignment: Some(&of(OLD, &[0]) | &of(OTHER, &[0])),
        ..answer(1, None)
    };
    exchange(&mut member, both, now);
    assert_eq!(member.unresolved(), [OTHER].into());
    assert_eq!(member.next_rebalance(), Some(Rebalance::Assigned(set(&[0]))));
    assert_eq!(member.heartbeat().owned, Some(of(OLD, &[0])));

    member.resolve([(OTHER, "orders".into())]);
    assert!(member.unresolved().is_empty());
    let orders = BTreeSet::from([named("orders", 0)]);
    assert_eq!(member.next_rebalance(), Some(Rebalance::Assigned(orders.clone())));
    exchange(&mut member, answer(1, Some(&[0])), now);
    assert_eq!(member.next_rebalance(), Some(Rebalance::Revoked(orders.clone())));
    // The partition of the other topic with the same number is not revoked.
    member.on_released(&set(&[0]));
    assert_eq!(member.heartbeat().owned, Some(&of(OLD, &[0]) | &of(OTHER, &[0])));
    member.on_released(&orders);
    assert_eq!(member.heartbeat().owned, Some(of(OLD, &[0])));
}

#[test]
fn revalidate_makes_a_heartbeat_due_once() {
    let (mut member, now) = stable(&[0]);
    member.revalidate();
    assert_eq!(member.due(), now);
    exchange(&mut member, answer(2, None), now);
    assert_eq!(member.due(), now + 5 * SECOND);
}

#[test]
fn leave_is_repeated_until_acknowledged() {
    let (mut member, now) = stable(&[0]);
    member.leave();
    assert_eq!(member.due(), now);
    assert_eq!(member.heartbeat().member_epoch.epoch, LEAVING);
    member.on_failure(now);
    assert!(!member.has_left(), "the coordinator may not know");
    assert_eq!(member.heartbeat().member_epoch.epoch, LEAVING);
    member.on_answer(answer(LEAVING, None), now);
    assert!(member.has_left());
    member.leave();
    assert!(member.has_left());
    assert_eq!(member.next_rebalance(), None);
}

#[test]
fn leave_is_over_without_a_membership() {
    let (mut never_joined, now) = member();
    never_joined.leave();
    never_joined.heartbeat();
    never_joined.on_failure(now);
    assert!(never_joined.has_left());
    let (mut fenced, now) = stable(&[0]);
    fenced.leave();
    fenced.heartbeat();
    fenced.on_fenced(now);
    assert!(fenced.has_left());
}

/// The coordinator's side for one member, by `CurrentAssignmentBuilder` and
/// `GroupMetadataManager.throwIfConsumerGroupMemberEpochIsInvalid` of Kafka 4.
#[derive(Debug, Default)]
struct Broker {
    target: BTreeSet<TopicIdPartition>,
    member: Option<Known>,
    last_epoch: i32,
}

#[derive(Debug, Default)]
struct Known {
    epoch: i32,
    previous_epoch: i32,
    owned: BTreeSet<TopicIdPartition>,
    assigned: BTreeSet<TopicIdPartition>,
    revoking: BTreeSet<TopicIdPartition>,
}

impl Broker {
    /// The answer; none if the member is fenced.
    fn answer(&mut self, heartbeat: &Heartbeat) -> Option<Answer> {
        let epoch = heartbeat.member_epoch.epoch;
        if epoch == 0 {
            assert!(heartbeat.full && heartbeat.owned == Some(BTreeSet::new()));
            self.member = Some(Known::default());
        }
        let known = self.member.as_mut()?;
        let owned = heartbeat.owned.as_ref();
        let repeats = epoch == known.previous_epoch && owned.is_some_and(|owned| owned.is_subset(&known.assigned));
        if epoch != known.epoch && !repeats {
            self.member = None;
            return None;
        }
        if let Some(owned) = owned {
            known.owned.clone_from(owned);
        }
        let before = known.assigned.clone();
        let waits = !known.revoking.is_empty() && owned.is_none_or(|owned| !owned.is_disjoint(&known.revoking));
        let revoke: BTreeSet<_> = known.assigned.difference(&self.target).copied().collect();
        if waits {
            // Until a heartbeat does not name them any more.
        } else if !revoke.is_empty() {
            known.assigned.retain(|partition| self.target.contains(partition));
            known.revoking = revoke;
        } else if known.assigned != self.target || !known.revoking.is_empty() || known.epoch == 0 {
            known.assigned.clone_from(&self.target);
            known.revoking.clear();
            known.previous_epoch = known.epoch;
            self.last_epoch += 1;
            known.epoch = self.last_epoch;
        }
        let changed = heartbeat.full || known.assigned != before;
        Some(Answer {
            epoch: known.epoch,
            interval: 5 * SECOND,
            assignment: changed.then(|| known.assigned.clone()),
        })
    }
}

/// The user of a membership, which checks each rebalance.
#[derive(Debug, Default)]
struct Reader {
    has_assignment: bool,
    reading: BTreeSet<TopicPartition>,
    releasing: BTreeSet<TopicPartition>,
}

impl Reader {
    fn on_rebalance(&mut self, rebalance: Rebalance) {
        match rebalance {
            Rebalance::Assigned(partitions) => {
                assert!(partitions.is_disjoint(&self.reading) && partitions.is_disjoint(&self.releasing));
                let is_first = !std::mem::replace(&mut self.has_assignment, true);
                assert!(is_first || !partitions.is_empty());
                self.reading.extend(partitions);
            }
            Rebalance::Revoked(partitions) => {
                assert!(partitions.is_subset(&self.reading) && !partitions.is_empty());
                self.reading.retain(|partition| !partitions.contains(partition));
                self.releasing.extend(partitions);
            }
            Rebalance::Lost => {
                *self = Self {
                    has_assignment: self.has_assignment,
                    ..Self::default()
                }
            }
        }
    }

    fn in_use(&self) -> BTreeSet<TopicPartition> {
        &self.reading | &self.releasing
    }
}

#[derive(Debug, Clone)]
enum Event {
    Target(Uuid, BTreeSet<i32>),
    Heartbeat,
    RequestLost,
    AnswerLost,
    /// The reader does something before the heartbeat is answered.
    HeartbeatDuring(Box<Event>),
    Fenced,
    Rebalance,
    Release(BTreeSet<i32>),
    Revalidate,
}

fn event() -> impl Strategy<Value = Event> {
    let reader = prop_oneof![
        3 => Just(Event::Rebalance),
        2 => btree_set(0..4, 0..4).prop_map(Event::Release),
        1 => Just(Event::Revalidate),
    ];
    prop_oneof![
        2 => (prop_oneof![5 => Just(OLD), 1 => Just(NEW)], btree_set(0..4, 0..4)).prop_map(|(id, partitions)| Event::Target(id, partitions)),
        4 => Just(Event::Heartbeat),
        1 => Just(Event::RequestLost),
        1 => Just(Event::AnswerLost),
        1 => Just(Event::Fenced),
        2 => reader.clone().prop_map(|event| Event::HeartbeatDuring(Box::new(event))),
        6 => reader,
    ]
}

struct World {
    member: Membership,
    broker: Broker,
    reader: Reader,
    now: Instant,
    /// A loss is not handed out to the reader yet.
    lost: bool,
}

impl World {
    fn heartbeat(&mut self) -> Heartbeat {
        self.now = self.now.max(self.member.due());
        let heartbeat = self.member.heartbeat();
        match (&heartbeat.owned, &self.broker.member) {
            (Some(owned), _) if !self.lost => assert_eq!(numbers(owned), self.reader.in_use()),
            (None, Some(known)) => assert!(self.lost || numbers(&known.owned) == self.reader.in_use()),
            _ => {}
        }
        heartbeat
    }

    fn answered(&mut self, answer: Option<Answer>) {
        match answer {
            Some(answer) => self.member.on_answer(answer, self.now),
            None => {
                self.lost |= !self.reader.in_use().is_empty();
                self.member.on_fenced(self.now);
                assert!(self.member.due() > self.now, "a busy loop");
            }
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Target(topic, partitions) => {
                let partitions: Vec<_> = partitions.into_iter().collect();
                self.broker.target = of(topic, &partitions);
            }
            Event::Heartbeat => {
                let heartbeat = self.heartbeat();
                let answer = self.broker.answer(&heartbeat);
                self.answered(answer);
            }
            Event::HeartbeatDuring(event) => {
                let heartbeat = self.heartbeat();
                self.apply(*event);
                let answer = self.broker.answer(&heartbeat);
                self.answered(answer);
            }
            Event::RequestLost => {
                self.heartbeat();
                self.member.on_failure(self.now);
            }
            Event::AnswerLost => {
                let heartbeat = self.heartbeat();
                self.broker.answer(&heartbeat);
                self.member.on_failure(self.now);
            }
            Event::Fenced => self.broker.member = None,
            Event::Rebalance => {
                if let Some(rebalance) = self.member.next_rebalance() {
                    assert_eq!(rebalance == Rebalance::Lost, std::mem::take(&mut self.lost));
                    self.reader.on_rebalance(rebalance);
                } else {
                    assert!(!self.lost);
                }
            }
            Event::Release(partitions) => {
                let released = &set(&Vec::from_iter(partitions)) & &self.reader.releasing;
                self.member.on_released(&released);
                self.reader.releasing.retain(|partition| !released.contains(partition));
            }
            Event::Revalidate => self.member.revalidate(),
        }
        assert!(self.member.due() <= self.now + INTERVAL_MAX);
    }
}

proptest! {
    #[test]
    fn partition_in_use_is_never_released_and_assignment_converges(events in proptest::collection::vec(event(), 0..60)) {
        let (member, now) = member();
        let mut world = World {
            member,
            broker: Broker::default(),
            reader: Reader::default(),
            now,
            lost: false,
        };
        for event in events {
            world.apply(event);
        }
        // Without further failures the assignment converges.
        for _ in 0..8 {
            world.apply(Event::Heartbeat);
            for _ in 0..3 {
                world.apply(Event::Rebalance);
                world.apply(Event::Release((0..4).collect()));
            }
        }
        prop_assert_eq!(&world.reader.reading, &numbers(&world.broker.target));
        prop_assert!(world.reader.releasing.is_empty());
        prop_assert_eq!(world.member.due(), world.now + 5 * SECOND);
    }
}

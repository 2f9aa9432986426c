use kafka_protocol::{
    messages::{
        ApiKey, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, MetadataResponse, TopicName,
        consumer_group_heartbeat_response::{Assignment, TopicPartitions},
        metadata_response::MetadataResponseTopic,
    },
    protocol::StrBytes,
};
use shared::readiness::Readiness;
use tokio::task::yield_now;

use super::*;
use crate::{
    membership::LEAVING,
    scripted_broker::{Reaction, ReceivedRequest, ScriptedBroker},
};

/// The bound on every wait: the sockets and the clock are real.
const TEST_TIMEOUT: Duration = Duration::from_secs(10);

const TOPIC: Uuid = Uuid::from_u128(7);

fn set(partitions: &[i32]) -> BTreeSet<TopicPartition> {
    let topic = "ping".into();
    partitions
        .iter()
        .map(|partition| TopicPartition::new(&topic, *partition))
        .collect()
}

/// The answer to a heartbeat; the next one is due after `interval_ms`.
fn answer(epoch: i32, interval_ms: i32, assignment: Option<&[i32]>) -> ConsumerGroupHeartbeatResponse {
    let assignment = assignment.map(|partitions| {
        let topic = TopicPartitions::default()
            .with_topic_id(TOPIC)
            .with_partitions(partitions.to_vec());
        Assignment::default().with_topic_partitions(vec![topic])
    });
    ConsumerGroupHeartbeatResponse::default()
        .with_member_epoch(epoch)
        .with_heartbeat_interval_ms(interval_ms)
        .with_assignment(assignment)
}

/// The partitions that a heartbeat names as owned.
fn owned(request: &ReceivedRequest) -> Option<BTreeSet<TopicPartition>> {
    let topics = request.decode::<ConsumerGroupHeartbeatRequest>().topic_partitions?;
    Some(set(&topics
        .into_iter()
        .flat_map(|topic| topic.partitions)
        .collect::<Vec<_>>()))
}

fn epoch(request: &ReceivedRequest) -> i32 {
    request.decode::<ConsumerGroupHeartbeatRequest>().member_epoch
}

/// Joins the group that `broker` coordinates.
fn join(broker: &ScriptedBroker) -> (Group, Readiness, Tasks) {
    let tasks = Tasks::default();
    let readiness = Readiness::default();
    let subscription = Subscription {
        topics: vec!["ping".to_owned()],
        rebalance_timeout: Duration::from_secs(9),
    };
    let health_check = readiness.health_check("group");
    let group = Group::spawn(&tasks, broker.client(), subscription, health_check);
    (group, readiness, tasks)
}

async fn next(group: &mut Group) -> Rebalance {
    timeout(TEST_TIMEOUT, group.next()).await.unwrap()
}

/// Waits until the broker has received such a heartbeat.
async fn wait_for_heartbeat(broker: &ScriptedBroker, predicate: impl Fn(&ReceivedRequest) -> bool) {
    let until = async {
        while !broker.requests(ApiKey::ConsumerGroupHeartbeat).iter().any(&predicate) {
            yield_now().await;
        }
    };
    timeout(TEST_TIMEOUT, until).await.unwrap();
}

/// Waits until the member has this epoch. On one thread, the heartbeat task then waits for its next heartbeat.
async fn wait_for_epoch(group: &Group, epoch: i32) {
    let until = async {
        while group.member_epoch().epoch != epoch {
            yield_now().await;
        }
    };
    timeout(TEST_TIMEOUT, until).await.unwrap();
}

#[tokio::test]
async fn member_joins_releases_and_leaves() {
    let mut assignment: Option<&[i32]> = Some(&[0, 1]);
    let broker = ScriptedBroker::coordinator(move |request| {
        let answered = match epoch(request) {
            LEAVING => answer(LEAVING, 0, None),
            // Part of what the member owns is revoked after it has reported that.
            _ => match assignment.take() {
                Some(given) => answer(1, 3_600_000, Some(given)),
                None if owned(request) == Some(set(&[0, 1])) => answer(1, 100, Some(&[0])),
                None => answer(1, 100, None),
            },
        };
        request.answer(&answered)
    })
    .await;
    let (mut group, readiness, _tasks) = join(&broker);
    assert_eq!(next(&mut group).await, Rebalance::Assigned(set(&[0, 1])));
    assert!(readiness.not_ready().is_empty());
    assert_eq!(group.member_epoch().epoch, 1);
    assert_eq!(next(&mut group).await, Rebalance::Revoked(set(&[1])));
    // Heartbeats go on during the release, and do not report it.
    let before = broker.requests(ApiKey::ConsumerGroupHeartbeat).len();
    let more = async {
        while broker.requests(ApiKey::ConsumerGroupHeartbeat).len() < before + 3 {
            yield_now().await;
        }
    };
    timeout(TEST_TIMEOUT, more).await.unwrap();
    assert!(
        broker
            .requests(ApiKey::ConsumerGroupHeartbeat)
            .iter()
            .all(|request| owned(request) != Some(set(&[0])))
    );
    group.released(&set(&[1]));
    wait_for_heartbeat(&broker, |request| owned(request) == Some(set(&[0]))).await;
    assert!(group.leave(TEST_TIMEOUT).await);
    let epochs: Vec<_> = broker
        .requests(ApiKey::ConsumerGroupHeartbeat)
        .iter()
        .map(epoch)
        .collect();
    assert_eq!(epochs.iter().filter(|epoch| **epoch == LEAVING).count(), 1);
    assert_eq!((epochs.first(), epochs.last()), (Some(&0), Some(&LEAVING)));
}

#[tokio::test]
async fn release_sends_a_heartbeat_at_once() {
    let mut reports_of_both = 0;
    let broker = ScriptedBroker::coordinator(move |request| {
        let both = owned(request) == Some(set(&[0, 1]));
        reports_of_both += i32::from(both);
        request.answer(&match (epoch(request), both, reports_of_both) {
            (0, ..) => answer(1, 3_600_000, Some(&[0, 1])),
            (_, true, 1) => answer(1, 3_600_000, Some(&[0])),
            (_, true, _) => answer(2, 3_600_000, None),
            _ => answer(1, 3_600_000, None),
        })
    })
    .await;
    let (mut group, _readiness, _tasks) = join(&broker);
    assert_eq!(next(&mut group).await, Rebalance::Assigned(set(&[0, 1])));
    assert_eq!(next(&mut group).await, Rebalance::Revoked(set(&[1])));
    wait_for_epoch(&group, 2).await;
    group.released(&set(&[1]));
    wait_for_heartbeat(&broker, |request| owned(request) == Some(set(&[0]))).await;
}

#[tokio::test]
async fn revalidate_sends_a_heartbeat_and_finds_the_fencing() {
    let mut fenced = false;
    let broker = ScriptedBroker::coordinator(move |request| match (epoch(request), owned(request)) {
        (0, _) if fenced => request.answer(&answer(9, 3_600_000, Some(&[2]))),
        (0, _) => request.answer(&answer(1, 3_600_000, Some(&[0]))),
        (_, Some(owned)) if owned.is_empty() => request.answer(&answer(1, 3_600_000, None)),
        (_, Some(_)) => request.answer(&answer(2, 3_600_000, None)),
        (_, None) => {
            fenced = true;
            request.answer(&ConsumerGroupHeartbeatResponse::default().with_error_code(110))
        }
    })
    .await;
    let (mut group, readiness, _tasks) = join(&broker);
    assert_eq!(next(&mut group).await, Rebalance::Assigned(set(&[0])));
    wait_for_epoch(&group, 2).await;
    group.revalidate();
    assert_eq!(next(&mut group).await, Rebalance::Lost);
    assert_eq!(next(&mut group).await, Rebalance::Assigned(set(&[2])));
    assert_eq!(group.member_epoch().epoch, 9);
    assert!(readiness.not_ready().is_empty());
}

#[tokio::test]
async fn refused_group_is_not_ready_with_the_cause() {
    let broker = ScriptedBroker::coordinator(|request| {
        request.answer(&ConsumerGroupHeartbeatResponse::default().with_error_code(30))
    })
    .await;
    let (mut group, readiness, _tasks) = join(&broker);
    let refused = async {
        while !readiness
            .not_ready()
            .iter()
            .any(|(_, cause)| cause.contains("allow Read"))
        {
            yield_now().await;
        }
    };
    tokio::select! {
        change = group.next() => panic!("{change:?}"),
        refused = timeout(TEST_TIMEOUT, refused) => refused.unwrap(),
    }
    // The member has not joined, so it leaves without an answer.
    assert!(group.leave(TEST_TIMEOUT).await);
}

/// The first look-up does not know the second topic yet.
#[tokio::test]
async fn names_of_several_topics_are_looked_up_until_they_are_known() {
    const OTHER: Uuid = Uuid::from_u128(8);
    let mut lookups = 0;
    let broker = ScriptedBroker::coordinator(move |request| match request.key {
        ApiKey::Metadata => {
            lookups += 1;
            let described = |(name, id): (&'static str, Uuid)| {
                let name = TopicName(StrBytes::from_static_str(name));
                let known = MetadataResponseTopic::default().with_name(Some(name));
                match id == OTHER && lookups == 1 {
                    true => known.with_error_code(3),
                    false => known.with_topic_id(id),
                }
            };
            let topics = [("ping", TOPIC), ("orders", OTHER)].map(described);
            request.answer(&MetadataResponse::default().with_topics(topics.into()))
        }
        _ if epoch(request) == 0 => {
            let assigned = |id| TopicPartitions::default().with_topic_id(id).with_partitions(vec![0]);
            let assignment = Assignment::default().with_topic_partitions(vec![assigned(TOPIC), assigned(OTHER)]);
            let mut joined = answer(1, 3_600_000, None);
            joined.assignment = Some(assignment);
            request.answer(&joined)
        }
        _ => request.answer(&answer(1, 3_600_000, None)),
    })
    .await;
    let (tasks, readiness) = (Tasks::default(), Readiness::default());
    let subscription = Subscription {
        topics: ["ping", "orders"].map(str::to_owned).into(),
        rebalance_timeout: Duration::from_secs(9),
    };
    let mut group = Group::spawn(&tasks, broker.client(), subscription, readiness.health_check("group"));
    assert_eq!(next(&mut group).await, Rebalance::Assigned(set(&[0])));
    let orders = TopicPartition::new(&"orders".into(), 0);
    assert_eq!(next(&mut group).await, Rebalance::Assigned([orders].into()));
}

#[tokio::test]
async fn leave_is_bounded() {
    let broker = ScriptedBroker::coordinator(|request| match epoch(request) {
        LEAVING => Reaction::Silence,
        _ => request.answer(&answer(1, 3_600_000, Some(&[0]))),
    })
    .await;
    let (mut group, _readiness, _tasks) = join(&broker);
    next(&mut group).await;
    assert!(!group.leave(Duration::from_millis(50)).await);
}

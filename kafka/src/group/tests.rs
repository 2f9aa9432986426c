use kafka_protocol::messages::{
    ApiKey, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    consumer_group_heartbeat_response::{Assignment, TopicPartitions},
};
use shared::readiness::Readiness;
use tokio::task::yield_now;

use super::*;
use crate::{
    coordinator::peer::{Asked, Peer, Reply},
    membership::LEAVING,
};

/// Real sockets, real clock: nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

const TOPIC: Uuid = Uuid::from_u128(7);

fn set(partitions: &[i32]) -> BTreeSet<i32> {
    partitions.iter().copied().collect()
}

/// An answer that is followed by the next heartbeat after so many milliseconds.
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
fn owned(asked: &Asked) -> Option<BTreeSet<i32>> {
    let topics = asked.request::<ConsumerGroupHeartbeatRequest>().topic_partitions?;
    Some(topics.into_iter().flat_map(|it| it.partitions).collect())
}

fn epoch(asked: &Asked) -> i32 {
    asked.request::<ConsumerGroupHeartbeatRequest>().member_epoch
}

/// A member of the group that `peer` coordinates.
fn join(peer: &Peer) -> (Group, Readiness, Tasks) {
    let tasks = Tasks::default();
    let readiness = Readiness::default();
    let subscription = Subscription {
        topic: "ping".to_owned(),
        rebalance_timeout: Duration::from_secs(9),
    };
    let health_check = readiness.health_check("group");
    let group = Group::spawn(&tasks, peer.client(), subscription, health_check);
    (group, readiness, tasks)
}

async fn next(group: &mut Group) -> Rebalance {
    timeout(PATIENCE, group.next()).await.unwrap()
}

/// Until the peer has got such a heartbeat.
async fn heard(peer: &Peer, such: impl Fn(&Asked) -> bool) {
    let until = async {
        while !peer.asked(ApiKey::ConsumerGroupHeartbeat).iter().any(&such) {
            yield_now().await;
        }
    };
    timeout(PATIENCE, until).await.unwrap();
}

/// Until the heartbeats wait for the one after this epoch came. (On one thread, they do when it can be seen.)
async fn idle_since(group: &Group, epoch: i32) {
    let until = async {
        while group.member_epoch().epoch != epoch {
            yield_now().await;
        }
    };
    timeout(PATIENCE, until).await.unwrap();
}

#[tokio::test]
async fn a_member_takes_releases_and_leaves() {
    let mut assignment: Option<&[i32]> = Some(&[0, 1]);
    let peer = Peer::coordinator(move |asked| {
        let answered = match epoch(asked) {
            LEAVING => answer(LEAVING, 0, None),
            // What it has taken is revoked in part with the next answer but one.
            _ => match assignment.take() {
                Some(given) => answer(1, 3_600_000, Some(given)),
                None if owned(asked) == Some(set(&[0, 1])) => answer(1, 100, Some(&[0])),
                None => answer(1, 100, None),
            },
        };
        asked.answer(&answered)
    })
    .await;
    let (mut group, readiness, _tasks) = join(&peer);
    assert_eq!(next(&mut group).await, Rebalance::Assigned(set(&[0, 1])));
    assert!(readiness.not_ready().is_empty());
    assert_eq!(group.member_epoch().epoch, 1);
    assert_eq!(next(&mut group).await, Rebalance::Revoked(set(&[1])));
    // Heartbeats go on while it is being released, and say nothing of it.
    let before = peer.asked(ApiKey::ConsumerGroupHeartbeat).len();
    let more = async {
        while peer.asked(ApiKey::ConsumerGroupHeartbeat).len() < before + 3 {
            yield_now().await;
        }
    };
    timeout(PATIENCE, more).await.unwrap();
    assert!(
        peer.asked(ApiKey::ConsumerGroupHeartbeat)
            .iter()
            .all(|it| owned(it) != Some(set(&[0])))
    );
    group.released(&set(&[1]));
    heard(&peer, |it| owned(it) == Some(set(&[0]))).await;
    assert!(group.leave(PATIENCE).await);
    let epochs: Vec<_> = peer.asked(ApiKey::ConsumerGroupHeartbeat).iter().map(epoch).collect();
    assert_eq!(epochs.iter().filter(|it| **it == LEAVING).count(), 1);
    assert_eq!((epochs.first(), epochs.last()), (Some(&0), Some(&LEAVING)));
}

#[tokio::test]
async fn a_release_is_acknowledged_long_before_the_next_heartbeat() {
    let mut heard_both = 0;
    let peer = Peer::coordinator(move |asked| {
        let both = owned(asked) == Some(set(&[0, 1]));
        heard_both += i32::from(both);
        asked.answer(&match (epoch(asked), both, heard_both) {
            (0, ..) => answer(1, 3_600_000, Some(&[0, 1])),
            (_, true, 1) => answer(1, 3_600_000, Some(&[0])),
            (_, true, _) => answer(2, 3_600_000, None),
            _ => answer(1, 3_600_000, None),
        })
    })
    .await;
    let (mut group, _readiness, _tasks) = join(&peer);
    assert_eq!(next(&mut group).await, Rebalance::Assigned(set(&[0, 1])));
    assert_eq!(next(&mut group).await, Rebalance::Revoked(set(&[1])));
    idle_since(&group, 2).await;
    group.released(&set(&[1]));
    heard(&peer, |it| owned(it) == Some(set(&[0]))).await;
}

#[tokio::test]
async fn who_doubts_finds_out_at_once() {
    let mut expelled = false;
    let peer = Peer::coordinator(move |asked| match (epoch(asked), owned(asked)) {
        (0, _) if expelled => asked.answer(&answer(9, 3_600_000, Some(&[2]))),
        (0, _) => asked.answer(&answer(1, 3_600_000, Some(&[0]))),
        (_, Some(owned)) if owned.is_empty() => asked.answer(&answer(1, 3_600_000, None)),
        (_, Some(_)) => asked.answer(&answer(2, 3_600_000, None)),
        (_, None) => {
            expelled = true;
            asked.answer(&ConsumerGroupHeartbeatResponse::default().with_error_code(110))
        }
    })
    .await;
    let (mut group, readiness, _tasks) = join(&peer);
    assert_eq!(next(&mut group).await, Rebalance::Assigned(set(&[0])));
    idle_since(&group, 2).await;
    group.revalidate();
    assert_eq!(next(&mut group).await, Rebalance::Lost);
    assert_eq!(next(&mut group).await, Rebalance::Assigned(set(&[2])));
    assert_eq!(group.member_epoch().epoch, 9);
    assert!(readiness.not_ready().is_empty());
}

#[tokio::test]
async fn a_coordinator_that_refuses_is_named() {
    let peer =
        Peer::coordinator(|asked| asked.answer(&ConsumerGroupHeartbeatResponse::default().with_error_code(30))).await;
    let (mut group, readiness, _tasks) = join(&peer);
    let refused = async {
        while !readiness
            .not_ready()
            .iter()
            .any(|(_, cause)| cause.contains("PARTITIONS"))
        {
            yield_now().await;
        }
    };
    tokio::select! {
        change = group.next() => panic!("{change:?}"),
        refused = timeout(PATIENCE, refused) => refused.unwrap(),
    }
    // There is nothing to leave, so it does not take the time it may.
    assert!(group.leave(PATIENCE).await);
}

#[tokio::test]
async fn leaving_takes_no_longer_than_it_may() {
    let peer = Peer::coordinator(|asked| match epoch(asked) {
        LEAVING => Reply::Silence,
        _ => asked.answer(&answer(1, 3_600_000, Some(&[0]))),
    })
    .await;
    let (mut group, _readiness, _tasks) = join(&peer);
    next(&mut group).await;
    assert!(!group.leave(Duration::from_millis(50)).await);
}

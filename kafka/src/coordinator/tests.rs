use bytes::Bytes;
use kafka_protocol::messages::{
    ApiKey, OffsetCommitResponse, OffsetFetchResponse,
    consumer_group_heartbeat_response::{Assignment, TopicPartitions},
    offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    offset_fetch_response::{OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics},
};
use tokio::{net::TcpListener, time::Instant};

use super::*;
use crate::{
    scripted_broker::{Reaction, ReceivedRequest, ScriptedBroker, versions},
    security::Security,
};

const TOPIC: Uuid = Uuid::from_u128(7);

fn subscription() -> Subscription {
    Subscription {
        topics: vec!["ping".to_owned()],
        rebalance_timeout: Duration::from_secs(9),
    }
}

fn heartbeat(epoch: i32) -> Heartbeat {
    Heartbeat {
        member_epoch: member_epoch(epoch),
        full: epoch == 0,
        owned: Some(BTreeSet::new()),
    }
}

fn member_epoch(epoch: i32) -> MemberEpoch {
    MemberEpoch {
        member_id: "m-1".into(),
        epoch,
    }
}

fn heartbeat_answer(epoch: i32) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default()
        .with_member_epoch(epoch)
        .with_heartbeat_interval_ms(5_000)
}

fn heartbeat_error(code: ResponseError) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default().with_error_code(code.code())
}

async fn send_heartbeat(client: &mut Coordinator) -> Result<Answer, Error> {
    client.heartbeat(&heartbeat(3), &subscription()).await
}

/// A coordinator that reacts to its first heartbeat by `reaction`, and answers all others.
async fn fails_first(reaction: impl Fn(&ReceivedRequest) -> Reaction + Send + 'static) -> ScriptedBroker {
    let mut fresh = true;
    ScriptedBroker::coordinator(move |request| match std::mem::take(&mut fresh) {
        true => reaction(request),
        false => request.answer(&heartbeat_answer(3)),
    })
    .await
}

#[tokio::test]
async fn heartbeat_sends_full_state_changes_or_nothing() {
    let broker = ScriptedBroker::coordinator(|request| {
        let topic = TopicPartitions::default()
            .with_topic_id(TOPIC)
            .with_partitions(vec![2, 0]);
        request.answer(
            &heartbeat_answer(4).with_assignment(Some(Assignment::default().with_topic_partitions(vec![topic]))),
        )
    })
    .await;
    let mut client = broker.client();
    let answer = client.heartbeat(&heartbeat(0), &subscription()).await.unwrap();
    let partitions = |numbers: &[i32]| {
        let numbers = numbers.iter().copied();
        numbers
            .map(|partition| TopicIdPartition {
                topic: TOPIC,
                partition,
            })
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        answer,
        Answer {
            epoch: 4,
            interval: Duration::from_secs(5),
            assignment: Some(partitions(&[0, 2])),
        }
    );
    let owning = Heartbeat {
        owned: Some(partitions(&[0, 2])),
        ..heartbeat(4)
    };
    client.heartbeat(&owning, &subscription()).await.unwrap();
    let quiet = Heartbeat {
        owned: None,
        ..heartbeat(4)
    };
    client.heartbeat(&quiet, &subscription()).await.unwrap();

    let requests = broker.requests(ApiKey::ConsumerGroupHeartbeat);
    let sent: Vec<ConsumerGroupHeartbeatRequest> = requests.iter().map(ReceivedRequest::decode).collect();
    let [joining, owning, quiet] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(
        (&**joining.group_id, &*joining.member_id, joining.member_epoch),
        ("g", "m-1", 0)
    );
    assert_eq!(joining.rebalance_timeout_ms, 9_000);
    let topics = joining.subscribed_topic_names.as_deref().unwrap();
    assert_eq!(
        topics.iter().map(|topic| topic.to_string()).collect::<Vec<_>>(),
        ["ping"]
    );
    assert_eq!(joining.topic_partitions, Some(vec![]));
    assert_eq!(
        (owning.rebalance_timeout_ms, &owning.subscribed_topic_names),
        (-1, &None)
    );
    let owned = owning.topic_partitions.as_deref().unwrap();
    assert_eq!(
        owned
            .iter()
            .map(|topic| (topic.topic_id, &topic.partitions[..]))
            .collect::<Vec<_>>(),
        [(TOPIC, &[0, 2][..])]
    );
    assert_eq!((quiet.member_epoch, &quiet.topic_partitions), (4, &None));
    // The bootstrap broker is the coordinator itself.
    assert!(requests.iter().all(|request| request.connection == 0), "{requests:?}");
}

#[tokio::test]
async fn moved_coordinator_is_found_again() {
    let new = ScriptedBroker::coordinator(|request| request.answer(&heartbeat_answer(3))).await;
    let mut moved = false;
    let new_port = new.port;
    let old =
        ScriptedBroker::new(
            move |request, port| match request.usual_answer(if moved { new_port } else { port }) {
                Some(reply) => reply,
                None => {
                    moved = true;
                    request.answer(&heartbeat_error(ResponseError::NotCoordinator))
                }
            },
        )
        .await;
    let mut client = old.client();
    let error = send_heartbeat(&mut client).await.unwrap_err();
    assert!(
        matches!(error, Error::Unavailable(ResponseError::NotCoordinator)),
        "{error:?}"
    );
    send_heartbeat(&mut client).await.unwrap();
    assert_eq!(old.requests(ApiKey::ConsumerGroupHeartbeat).len(), 1);
    assert_eq!(new.requests(ApiKey::ConsumerGroupHeartbeat).len(), 1);
}

#[tokio::test]
async fn loading_coordinator_keeps_its_connection() {
    let broker =
        fails_first(|request| request.answer(&heartbeat_error(ResponseError::CoordinatorLoadInProgress))).await;
    let mut client = broker.client();
    assert!(matches!(send_heartbeat(&mut client).await, Err(Error::Unavailable(_))));
    send_heartbeat(&mut client).await.unwrap();
    assert_eq!(broker.requests(ApiKey::FindCoordinator).len(), 1);
}

#[tokio::test]
async fn invalid_answer_closes_the_connection() {
    type Invalid = fn(&ReceivedRequest) -> Reaction;
    let invalid: [(&str, Invalid); 9] = [
        ("a negative length", |_| {
            Reaction::Bytes(Bytes::from_static(b"\xff\xff\xff\xff"))
        }),
        ("shorter than a header", |_| {
            Reaction::Bytes(Bytes::from_static(b"\0\0\0\x03abc"))
        }),
        ("too long", |_| Reaction::Bytes(Bytes::from_static(b"\0\x10\0\x01"))),
        ("not the Kafka protocol", |_| {
            Reaction::Bytes(Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        }),
        ("a truncated frame", |_| {
            Reaction::Bytes(Bytes::from_static(b"\0\0\0\x09abc"))
        }),
        ("a closed connection", |_| Reaction::Close),
        ("epoch 0", |request| request.answer(&heartbeat_answer(0))),
        ("the epoch of a leave", |request| {
            request.answer(&heartbeat_answer(LEAVING))
        }),
        ("left over bytes", |request| {
            match request.answer(&heartbeat_answer(3)) {
                Reaction::Bytes(frame) => Reaction::framed(&[&frame[4..], b"x"].concat()),
                other => other,
            }
        }),
    ];
    for (name, reaction) in invalid {
        let broker = fails_first(reaction).await;
        let mut client = broker.client();
        let error = send_heartbeat(&mut client).await.unwrap_err();
        assert!(
            matches!(error, Error::InvalidResponse(_) | Error::Unreachable(_)),
            "{name}: {error:?}"
        );
        send_heartbeat(&mut client)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let connections: Vec<_> = broker
            .requests(ApiKey::ConsumerGroupHeartbeat)
            .iter()
            .map(|request| request.connection)
            .collect();
        assert!(connections[0] < connections[1], "{name}: {connections:?}");
    }
}

#[tokio::test]
async fn call_without_answer_times_out() {
    let broker = fails_first(|_| Reaction::Silence).await;
    let mut client = broker.client();
    let before = Instant::now();
    let error = send_heartbeat(&mut client).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable(error) if error.is_timeout()),
        "{error:?}"
    );
    assert!(before.elapsed() >= CALL_TIMEOUT);
    send_heartbeat(&mut client).await.unwrap();
}

#[tokio::test]
async fn dropped_call_closes_the_connection() {
    let broker = fails_first(|_| Reaction::Silence).await;
    let mut client = broker.client();
    tokio::select! {
        answer = send_heartbeat(&mut client) => panic!("{answer:?}"),
        () = async { while broker.requests(ApiKey::ConsumerGroupHeartbeat).is_empty() { tokio::task::yield_now().await } } => {}
    }
    send_heartbeat(&mut client).await.unwrap();
    assert_eq!(broker.requests(ApiKey::FindCoordinator).len(), 2);
}

#[tokio::test]
async fn next_bootstrap_broker_is_asked_at_once() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let broker = ScriptedBroker::coordinator(|request| request.answer(&heartbeat_answer(3))).await;
    let bootstrap = vec![gone.to_string(), broker.addr()];
    let cluster = Cluster::new("worker", bootstrap, Security::default(), Vec::new());
    let mut client = Coordinator::new(&Arc::new(cluster), "g".to_owned());
    send_heartbeat(&mut client).await.unwrap();
}

#[tokio::test]
async fn unsupported_groups_error_names_the_remedy() {
    let without = ScriptedBroker::new(|request, port| match request.key {
        ApiKey::ApiVersions => request.answer(&versions(&[ApiKey::FindCoordinator, ApiKey::OffsetCommit])),
        _ => request.usual_answer(port).unwrap(),
    })
    .await;
    let switched_off =
        ScriptedBroker::coordinator(|request| request.answer(&heartbeat_error(ResponseError::UnsupportedVersion)))
            .await;
    for broker in [without, switched_off] {
        let error = send_heartbeat(&mut broker.client()).await.unwrap_err();
        assert!(matches!(error, Error::UnsupportedGroups), "{error:?}");
        let line = error.to_string();
        for word in ["WORKER_GROUP", "Kafka 4.0", "group.version", "PARTITIONS"] {
            assert!(line.contains(word), "{line}");
        }
        assert_eq!(line.lines().count(), 1);
    }
}

#[tokio::test]
async fn error_codes_are_classified() {
    for (code, word) in [
        (ResponseError::FencedMemberEpoch, "Fenced"),
        (ResponseError::UnknownMemberId, "Fenced"),
        (ResponseError::GroupAuthorizationFailed, "Denied"),
        (ResponseError::TopicAuthorizationFailed, "Denied"),
        (ResponseError::InvalidGroupId, "Refused"),
        (ResponseError::CoordinatorNotAvailable, "Unavailable"),
        (ResponseError::UnknownServerError, "ErrorCode"),
        (ResponseError::Unknown(12345), "ErrorCode"),
    ] {
        let broker = ScriptedBroker::coordinator(move |request| request.answer(&heartbeat_error(code))).await;
        let error = send_heartbeat(&mut broker.client()).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(word), "{code:?}: {error:?}");
        assert_eq!(error.to_string().contains("PARTITIONS"), word == "Refused", "{error}");
    }
}

#[tokio::test]
async fn missing_right_names_group_or_topic() {
    for (code, resource) in [
        (ResponseError::GroupAuthorizationFailed, r#"group "g""#),
        (ResponseError::TopicAuthorizationFailed, r#"topic "ping""#),
    ] {
        let broker = ScriptedBroker::coordinator(move |request| request.answer(&heartbeat_error(code))).await;
        let line = send_heartbeat(&mut broker.client()).await.unwrap_err().to_string();
        assert_eq!(
            line,
            format!("this client may not Read {resource}: allow Read on it to the user")
        );
    }
}

fn commit_answer(codes: &[(i32, i16)]) -> OffsetCommitResponse {
    let partitions = codes.iter().map(|(partition, code)| {
        OffsetCommitResponsePartition::default()
            .with_partition_index(*partition)
            .with_error_code(*code)
    });
    let topic = OffsetCommitResponseTopic::default().with_partitions(partitions.collect());
    OffsetCommitResponse::default().with_topics(vec![topic])
}

#[tokio::test]
async fn commit_sends_member_offsets_and_metadata() {
    let refused = ResponseError::OffsetMetadataTooLarge;
    let broker =
        ScriptedBroker::coordinator(move |request| request.answer(&commit_answer(&[(0, 0), (1, refused.code())])))
            .await;
    let offsets = [0, 1].map(|partition| OffsetToCommit {
        partition,
        offset: 10,
        metadata: "done",
    });
    let mut client = broker.client();
    let member = member_epoch(5);
    for member in [Some(&member), None] {
        let answered = client.commit(member, "ping", &offsets).await.unwrap();
        assert_eq!(answered, [(1, refused)]);
    }
    let requests = broker.requests(ApiKey::OffsetCommit);
    let sent: Vec<OffsetCommitRequest> = requests.iter().map(ReceivedRequest::decode).collect();
    let members: Vec<_> = sent
        .iter()
        .map(|request| (&*request.member_id, request.generation_id_or_member_epoch))
        .collect();
    assert_eq!(members, [("m-1", 5), ("", -1)]);
    for request in &sent {
        assert_eq!((&**request.group_id, &**request.topics[0].name), ("g", "ping"));
        let partitions = request.topics[0].partitions.iter();
        let offsets: Vec<_> = partitions
            .map(|partition| {
                (
                    partition.partition_index,
                    partition.committed_offset,
                    partition.committed_metadata.as_deref(),
                )
            })
            .collect();
        assert_eq!(offsets, [(0, 10, Some("done")), (1, 10, Some("done"))]);
    }
}

#[tokio::test]
async fn commit_error_about_the_group_is_an_error() {
    for (code, word) in [
        (ResponseError::StaleMemberEpoch, "Stale"),
        (ResponseError::UnknownMemberId, "Fenced"),
        (ResponseError::NotCoordinator, "Unavailable"),
        (ResponseError::TopicAuthorizationFailed, "Denied"),
    ] {
        let broker =
            ScriptedBroker::coordinator(move |request| request.answer(&commit_answer(&[(0, code.code())]))).await;
        let offset = OffsetToCommit {
            partition: 0,
            offset: 10,
            metadata: "",
        };
        let error = broker.client().commit(None, "ping", &[offset]).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(word), "{code:?}: {error:?}");
    }
}

#[tokio::test]
async fn commit_answer_without_a_partition_is_invalid() {
    let broker = ScriptedBroker::coordinator(|request| request.answer(&commit_answer(&[(0, 0)]))).await;
    let offsets = [0, 1].map(|partition| OffsetToCommit {
        partition,
        offset: 10,
        metadata: "",
    });
    let error = broker.client().commit(None, "ping", &offsets).await.unwrap_err();
    assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
}

fn fetch_answer(code: i16, partitions: &[(i32, i64, i16)]) -> OffsetFetchResponse {
    let partitions = partitions.iter().map(|(partition, offset, code)| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_metadata(Some(text("done")))
            .with_error_code(*code)
    });
    let topic = OffsetFetchResponseTopics::default().with_partitions(partitions.collect());
    let group = OffsetFetchResponseGroup::default()
        .with_group_id(GroupId(text("g")))
        .with_error_code(code)
        .with_topics(vec![topic]);
    OffsetFetchResponse::default().with_groups(vec![group])
}

#[tokio::test]
async fn fetch_returns_only_partitions_with_a_committed_offset() {
    let broker =
        ScriptedBroker::coordinator(|request| request.answer(&fetch_answer(0, &[(0, -1, 0), (1, 0, 0), (2, 8, 0)])))
            .await;
    let mut client = broker.client();
    let committed = client
        .committed(Some(&member_epoch(5)), "ping", &[0, 1, 2])
        .await
        .unwrap();
    let committed: Vec<_> = committed
        .iter()
        .map(|(partition, committed)| (*partition, committed.offset, &*committed.metadata))
        .collect();
    assert_eq!(committed, [(1, 0, "done"), (2, 8, "done")]);
    let sent: OffsetFetchRequest = broker.requests(ApiKey::OffsetFetch)[0].decode();
    assert!(sent.require_stable);
    assert_eq!(
        (sent.groups[0].member_id.as_deref(), sent.groups[0].member_epoch),
        (Some("m-1"), 5)
    );
}

#[tokio::test]
async fn fetch_with_an_unknown_offset_is_an_error() {
    let unstable = ResponseError::UnstableOffsetCommit.code();
    for answer in [
        fetch_answer(0, &[]),
        fetch_answer(0, &[(0, -1, unstable)]),
        fetch_answer(16, &[(0, -1, 0)]),
    ] {
        let broker = ScriptedBroker::coordinator(move |request| request.answer(&answer)).await;
        assert!(broker.client().committed(None, "ping", &[0]).await.is_err());
    }
}

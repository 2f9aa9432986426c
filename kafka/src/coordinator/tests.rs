use bytes::Bytes;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, OffsetCommitResponse, OffsetFetchResponse,
    consumer_group_heartbeat_response::{Assignment, TopicPartitions},
    offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    offset_fetch_response::{OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics},
};
use tokio::{net::TcpListener, time::Instant};

use super::{
    peer::{Asked, Peer, Reply, versions},
    *,
};

const TOPIC: Uuid = Uuid::from_u128(7);

fn subscription() -> Subscription {
    Subscription {
        topic: "ping".to_owned(),
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

fn beaten(epoch: i32) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default()
        .with_member_epoch(epoch)
        .with_heartbeat_interval_ms(5_000)
}

fn refusal(code: ResponseError) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default().with_error_code(code.code())
}

async fn beat(client: &mut Coordinator) -> Result<Answer, Error> {
    client.heartbeat(&heartbeat(3), &subscription()).await
}

/// A coordinator that does `first` about its first heartbeat, and answers all others.
async fn first(reply: impl Fn(&Asked) -> Reply + Send + 'static) -> Peer {
    let mut fresh = true;
    Peer::coordinator(move |asked| match std::mem::take(&mut fresh) {
        true => reply(asked),
        false => asked.answer(&beaten(3)),
    })
    .await
}

#[tokio::test]
async fn a_heartbeat_says_what_it_should() {
    let peer = Peer::coordinator(|asked| {
        let topic = TopicPartitions::default()
            .with_topic_id(TOPIC)
            .with_partitions(vec![2, 0]);
        asked.answer(&beaten(4).with_assignment(Some(Assignment::default().with_topic_partitions(vec![topic]))))
    })
    .await;
    let mut client = peer.client();
    let answer = client.heartbeat(&heartbeat(0), &subscription()).await.unwrap();
    let partitions = |numbers: &[i32]| {
        let numbers = numbers.iter().copied();
        numbers
            .map(|partition| TopicPartition {
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

    let asked = peer.asked(ApiKey::ConsumerGroupHeartbeat);
    let said: Vec<ConsumerGroupHeartbeatRequest> = asked.iter().map(Asked::request).collect();
    let [joining, owning, quiet] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(
        (&**joining.group_id, &*joining.member_id, joining.member_epoch),
        ("g", "m-1", 0)
    );
    assert_eq!(joining.rebalance_timeout_ms, 9_000);
    let topics = joining.subscribed_topic_names.as_deref().unwrap();
    assert_eq!(topics.iter().map(|it| it.to_string()).collect::<Vec<_>>(), ["ping"]);
    assert_eq!(joining.topic_partitions, Some(vec![]));
    assert_eq!(
        (owning.rebalance_timeout_ms, &owning.subscribed_topic_names),
        (-1, &None)
    );
    let owned = owning.topic_partitions.as_deref().unwrap();
    assert_eq!(
        owned
            .iter()
            .map(|it| (it.topic_id, &it.partitions[..]))
            .collect::<Vec<_>>(),
        [(TOPIC, &[0, 2][..])]
    );
    assert_eq!((quiet.member_epoch, &quiet.topic_partitions), (4, &None));
    // The first connection was the one to find the coordinator.
    assert!(asked.iter().all(|it| it.connection == 1), "{asked:?}");
}

#[tokio::test]
async fn a_coordinator_that_moved_is_found_again() {
    let new = Peer::coordinator(|asked| asked.answer(&beaten(3))).await;
    let mut moved = false;
    let new_port = new.port;
    let old = Peer::new(
        move |asked, port| match asked.as_usual(if moved { new_port } else { port }) {
            Some(reply) => reply,
            None => {
                moved = true;
                asked.answer(&refusal(ResponseError::NotCoordinator))
            }
        },
    )
    .await;
    let mut client = old.client();
    let error = beat(&mut client).await.unwrap_err();
    assert!(
        matches!(error, Error::Unavailable(ResponseError::NotCoordinator)),
        "{error:?}"
    );
    beat(&mut client).await.unwrap();
    assert_eq!(old.asked(ApiKey::ConsumerGroupHeartbeat).len(), 1);
    assert_eq!(new.asked(ApiKey::ConsumerGroupHeartbeat).len(), 1);
}

#[tokio::test]
async fn a_coordinator_that_is_loading_keeps_its_connection() {
    let peer = first(|asked| asked.answer(&refusal(ResponseError::CoordinatorLoadInProgress))).await;
    let mut client = peer.client();
    assert!(matches!(beat(&mut client).await, Err(Error::Unavailable(_))));
    beat(&mut client).await.unwrap();
    assert_eq!(peer.asked(ApiKey::FindCoordinator).len(), 1);
}

#[tokio::test]
async fn nothing_odd_survives_on_its_connection() {
    type Odd = fn(&Asked) -> Reply;
    let odd: [(&str, Odd); 10] = [
        ("another call's", |asked| asked.answer_as(-1, &beaten(3))),
        ("a negative length", |_| {
            Reply::Bytes(Bytes::from_static(b"\xff\xff\xff\xff"))
        }),
        ("less than a header", |_| {
            Reply::Bytes(Bytes::from_static(b"\0\0\0\x03abc"))
        }),
        ("too long", |_| Reply::Bytes(Bytes::from_static(b"\0\x10\0\x01"))),
        ("not Kafka", |_| {
            Reply::Bytes(Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        }),
        ("only the start of a frame", |_| {
            Reply::Bytes(Bytes::from_static(b"\0\0\0\x09abc"))
        }),
        ("nothing but the end", |_| Reply::Close),
        ("no epoch", |asked| asked.answer(&beaten(0))),
        ("a leave", |asked| asked.answer(&beaten(LEAVING))),
        ("left over bytes", |asked| match asked.answer(&beaten(3)) {
            Reply::Bytes(frame) => Reply::framed(&[&frame[4..], b"x"].concat()),
            other => other,
        }),
    ];
    for (name, reply) in odd {
        let peer = first(reply).await;
        let mut client = peer.client();
        let error = beat(&mut client).await.unwrap_err();
        assert!(
            matches!(error, Error::Garbled(_) | Error::Unreachable(_) | Error::TimedOut(_)),
            "{name}: {error:?}"
        );
        beat(&mut client)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let connections: Vec<_> = peer
            .asked(ApiKey::ConsumerGroupHeartbeat)
            .iter()
            .map(|it| it.connection)
            .collect();
        assert_eq!(connections, [1, 3], "{name}");
    }
}

#[tokio::test]
async fn silence_is_not_waited_for() {
    let peer = first(|_| Reply::Silence).await;
    let mut client = peer.client();
    let before = Instant::now();
    let error = beat(&mut client).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut(LIMIT)), "{error:?}");
    assert!(before.elapsed() >= LIMIT);
    beat(&mut client).await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_dropped_takes_its_connection_along() {
    let peer = first(|_| Reply::Silence).await;
    let mut client = peer.client();
    tokio::select! {
        answer = beat(&mut client) => panic!("{answer:?}"),
        () = async { while peer.asked(ApiKey::ConsumerGroupHeartbeat).is_empty() { tokio::task::yield_now().await } } => {}
    }
    beat(&mut client).await.unwrap();
    assert_eq!(peer.asked(ApiKey::FindCoordinator).len(), 2);
}

#[tokio::test]
async fn bootstrap_brokers_are_asked_in_turn() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let peer = Peer::coordinator(|asked| asked.answer(&beaten(3))).await;
    let mut client = Coordinator::new("worker", vec![gone.to_string(), peer.addr()], "g".to_owned());
    assert!(matches!(beat(&mut client).await, Err(Error::Unreachable(_))));
    beat(&mut client).await.unwrap();
}

#[tokio::test]
async fn a_broker_without_such_groups_is_named_with_the_way_out() {
    let without = Peer::new(|asked, port| match asked.key {
        ApiKey::ApiVersions => asked.answer(&versions(&[ApiKey::FindCoordinator, ApiKey::OffsetCommit])),
        _ => asked.as_usual(port).unwrap(),
    })
    .await;
    let switched_off = Peer::coordinator(|asked| asked.answer(&refusal(ResponseError::UnsupportedVersion))).await;
    for peer in [without, switched_off] {
        let error = beat(&mut peer.client()).await.unwrap_err();
        assert!(matches!(error, Error::NoGroups), "{error:?}");
        let line = error.to_string();
        for word in ["WORKER_GROUP", "Kafka 4.0", "group.version", "PARTITIONS"] {
            assert!(line.contains(word), "{line}");
        }
        assert_eq!(line.lines().count(), 1);
    }
}

#[tokio::test]
async fn a_broker_of_another_age_is_too_old() {
    // It answers in version 0, whatever it was asked in.
    let peer = Peer::new(|asked, _| {
        let Reply::Bytes(frame) = asked.answer(&ApiVersionsResponse::default()) else {
            unreachable!()
        };
        Reply::framed(&[&frame[4..8], b"\0\x23\0\0\0\0"].concat())
    })
    .await;
    let error = beat(&mut peer.client()).await.unwrap_err();
    assert!(matches!(error, Error::TooOld(_)), "{error:?}");
}

#[tokio::test]
async fn codes_are_sorted_by_what_to_do() {
    for (code, word) in [
        (ResponseError::FencedMemberEpoch, "Fenced"),
        (ResponseError::UnknownMemberId, "Fenced"),
        (ResponseError::GroupAuthorizationFailed, "Refused"),
        (ResponseError::TopicAuthorizationFailed, "Refused"),
        (ResponseError::InvalidGroupId, "Refused"),
        (ResponseError::CoordinatorNotAvailable, "Unavailable"),
        (ResponseError::UnknownServerError, "Answered"),
        (ResponseError::Unknown(12345), "Answered"),
    ] {
        let peer = Peer::coordinator(move |asked| asked.answer(&refusal(code))).await;
        let error = beat(&mut peer.client()).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(word), "{code:?}: {error:?}");
        assert_eq!(error.to_string().contains("PARTITIONS"), word == "Refused", "{error}");
    }
}

fn commits(codes: &[(i32, i16)]) -> OffsetCommitResponse {
    let partitions = codes.iter().map(|(partition, code)| {
        OffsetCommitResponsePartition::default()
            .with_partition_index(*partition)
            .with_error_code(*code)
    });
    let topic = OffsetCommitResponseTopic::default().with_partitions(partitions.collect());
    OffsetCommitResponse::default().with_topics(vec![topic])
}

#[tokio::test]
async fn a_commit_says_who_and_what() {
    let refused = ResponseError::OffsetMetadataTooLarge;
    let peer = Peer::coordinator(move |asked| asked.answer(&commits(&[(0, 0), (1, refused.code())]))).await;
    let positions = [0, 1].map(|partition| Position {
        partition,
        offset: 10,
        metadata: "done",
    });
    let mut client = peer.client();
    let member = member_epoch(5);
    for member in [Some(&member), None] {
        let answered = client.commit(member, "ping", &positions).await.unwrap();
        assert_eq!(answered, [(1, refused)]);
    }
    let asked = peer.asked(ApiKey::OffsetCommit);
    let said: Vec<OffsetCommitRequest> = asked.iter().map(Asked::request).collect();
    let who: Vec<_> = said
        .iter()
        .map(|it| (&*it.member_id, it.generation_id_or_member_epoch))
        .collect();
    assert_eq!(who, [("m-1", 5), ("", -1)]);
    for it in &said {
        assert_eq!((&**it.group_id, &**it.topics[0].name), ("g", "ping"));
        let what = it.topics[0].partitions.iter();
        let what: Vec<_> = what
            .map(|it| {
                (
                    it.partition_index,
                    it.committed_offset,
                    it.committed_metadata.as_deref(),
                )
            })
            .collect();
        assert_eq!(what, [(0, 10, Some("done")), (1, 10, Some("done"))]);
    }
}

#[tokio::test]
async fn a_commit_that_fails_as_a_whole_is_an_error() {
    for (code, word) in [
        (ResponseError::StaleMemberEpoch, "Stale"),
        (ResponseError::UnknownMemberId, "Fenced"),
        (ResponseError::NotCoordinator, "Unavailable"),
        (ResponseError::TopicAuthorizationFailed, "Refused"),
    ] {
        let peer = Peer::coordinator(move |asked| asked.answer(&commits(&[(0, code.code())]))).await;
        let position = Position {
            partition: 0,
            offset: 10,
            metadata: "",
        };
        let error = peer.client().commit(None, "ping", &[position]).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(word), "{code:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_commit_that_is_not_answered_for_a_partition_is_not_taken_for_done() {
    let peer = Peer::coordinator(|asked| asked.answer(&commits(&[(0, 0)]))).await;
    let positions = [0, 1].map(|partition| Position {
        partition,
        offset: 10,
        metadata: "",
    });
    let error = peer.client().commit(None, "ping", &positions).await.unwrap_err();
    assert!(matches!(error, Error::Garbled(_)), "{error:?}");
}

fn fetched(code: i16, partitions: &[(i32, i64, i16)]) -> OffsetFetchResponse {
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
async fn only_partitions_with_a_position_have_one() {
    let peer = Peer::coordinator(|asked| asked.answer(&fetched(0, &[(0, -1, 0), (1, 0, 0), (2, 8, 0)]))).await;
    let mut client = peer.client();
    let committed = client
        .committed(Some(&member_epoch(5)), "ping", &[0, 1, 2])
        .await
        .unwrap();
    let committed: Vec<_> = committed
        .iter()
        .map(|(it, at)| (*it, at.offset, &*at.metadata))
        .collect();
    assert_eq!(committed, [(1, 0, "done"), (2, 8, "done")]);
    let said: OffsetFetchRequest = peer.asked(ApiKey::OffsetFetch)[0].request();
    assert!(said.require_stable);
    assert_eq!(
        (said.groups[0].member_id.as_deref(), said.groups[0].member_epoch),
        (Some("m-1"), 5)
    );
}

#[tokio::test]
async fn a_position_that_is_not_known_is_not_taken_for_none() {
    let unstable = ResponseError::UnstableOffsetCommit.code();
    for answer in [
        fetched(0, &[]),
        fetched(0, &[(0, -1, unstable)]),
        fetched(16, &[(0, -1, 0)]),
    ] {
        let peer = Peer::coordinator(move |asked| asked.answer(&answer)).await;
        assert!(peer.client().committed(None, "ping", &[0]).await.is_err());
    }
}

//! Topics and brokers: creation, recreation, bootstrap addresses, and the number of connections.

use std::time::Duration;

use e2e::{
    closed_port::ClosedPort,
    engine::Engine,
    fixture::Fixture,
    http::get,
    process::Process,
    topic::{self, Topic},
    wait::{WAIT_LIMIT, until, until_eq, within},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::load::{assert_answered, open_loop};

pub(crate) async fn missing_topics_are_created_with_one_partition(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let before = topic::list(fixture.brokers()).await;
    let (gateway, _worker) = fixture.pair().await;
    assert_eq!(gateway.get("/ping").await.status, 200);

    let after = topic::list(fixture.brokers()).await;
    assert_eq!(after.get(fixture.ping_name()), Some(&1));
    assert_eq!(after.get(fixture.pong_name()), Some(&1));
    // No others, but for those of the other tests, which have ids of their own in their names.
    let own_id = fixture.ping_name().trim_start_matches("ping-");
    let is_own = |name: &str| [fixture.ping_name(), fixture.pong_name()].contains(&name);
    let of_another_test = |name: &str| !name.contains(own_id) && name.split('-').any(is_id);
    let mut created = after.keys().filter(|name| !before.contains_key(*name));
    let unexpected = created.find(|name| !is_own(name) && !of_another_test(name));
    assert_eq!(unexpected, None);
}

/// A UUID without hyphens.
fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(crate) async fn existing_topics_keep_their_partitions(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let names = [fixture.ping_name(), fixture.pong_name()];
    for name in names {
        topic::create(fixture.brokers(), name, 3).await;
    }
    let (gateway, _worker) = fixture.pair().await;

    for _ in 0..10 {
        assert_eq!(gateway.get("/ping").await.status, 200);
    }

    // The contract uses partition 0 only.
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    assert_eq!((ping.end().await, pong.read_all().await.len()), (10, 10));
    let topics = topic::list(fixture.brokers()).await;
    assert_eq!(names.map(|name| topics.get(name)), [Some(&3); 2]);
}

pub(crate) async fn unreachable_bootstrap_addresses_are_skipped(engine: &Engine) {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [silent.local_addr().unwrap(), http.local_addr().unwrap()];
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = http.accept().await {
            let _ = stream.read(&mut [0; 64]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let closed = ClosedPort::reserve();
    let brokers = format!(
        "{},{},{},no-such-host.invalid:9092,{}",
        closed.addr(),
        addresses[0],
        addresses[1],
        engine.brokers().await
    );

    let (gateway, _worker) = Fixture::at(&brokers).pair().await;

    assert_eq!(gateway.get("/ping").await.status, 200);
}

pub(crate) async fn recreated_topics_are_used_again(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (gateway, worker) = fixture.pair().await;
    assert_eq!(gateway.get("/ping").await.status, 200);

    for name in [fixture.ping_name(), fixture.pong_name()] {
        topic::delete(fixture.brokers(), name).await;
    }
    let (gateway_causes, worker_causes) = tokio::join!(gateway.until_unready(), worker.until_unready());
    assert!(gateway_causes.contains(fixture.pong_name()), "{gateway_causes}");
    assert!(worker_causes.contains(fixture.ping_name()), "{worker_causes}");
    assert_eq!(gateway.get("/ping").await.status, 500);
    // A running process does not recreate them.
    let topics = topic::list(fixture.brokers()).await;
    assert!(!topics.contains_key(fixture.ping_name()) && !topics.contains_key(fixture.pong_name()));

    let _topics: (Topic, Topic) = tokio::join!(fixture.ping(), fixture.pong());
    until_eq("requests are answered again", WAIT_LIMIT, 200, async || {
        gateway.get("/ping").await.status
    })
    .await;
    tokio::join!(gateway.until_ready(), worker.until_ready());
    for _ in 0..100 {
        assert_eq!(gateway.get("/ping").await.status, 200);
    }
}

pub(crate) async fn recreated_reply_topic_is_read_from_its_beginning(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let gateway = fixture.gateway().set("REPLY_TIMEOUT", "1m").ready().await;
    let ping = fixture.ping().await;
    let mut caller = gateway.connect().await;
    caller.send(get("/ping")).await.unwrap();
    let key = ping.read_one(0).await.key.unwrap();

    topic::delete(fixture.brokers(), fixture.pong_name()).await;
    gateway.until_unready().await;
    // Written before the gateway finds the new topic.
    fixture.pong().await.write(Some(&key), Some(b"the first record")).await;

    assert_eq!(caller.response().await.message(), "the first record");
}

/// The worker uses all partitions, without a group and in one.
pub(crate) async fn topics_recreated_with_fewer_partitions_are_used_again(engine: &Engine) {
    for in_group in [false, true] {
        recreated_with_fewer_partitions(engine, in_group).await;
    }
}

/// The gateway reads the last reply partition, so that it has to choose another one.
async fn recreated_with_fewer_partitions(engine: &Engine, in_group: bool) {
    /// The next look at the metadata, the drain of the partitions that are gone, and a rebalance.
    const RECREATED_LIMIT: Duration = Duration::from_secs(30);

    let fixture = Fixture::shared(engine).await;
    let names = [fixture.ping_name(), fixture.pong_name()];
    for name in names {
        topic::create(fixture.brokers(), name, 3).await;
    }
    let gateway = fixture.gateway().set("REQUEST_PARTITIONS", "all");
    let gateway = gateway.set("REPLY_PARTITION", "auto").set("HOSTNAME", "gw-2");
    let worker = if in_group {
        fixture.member()
    } else {
        fixture.worker().set("PARTITIONS", "all")
    };
    let (gateway, worker) = tokio::join!(gateway.ready(), worker.ready());
    worker.until_metric("worker_partitions", 3).await;
    for _ in 0..100 {
        assert_eq!(gateway.get("/ping").await.status, 200);
    }

    for name in names {
        topic::delete(fixture.brokers(), name).await;
    }
    gateway.until_unready().await;
    for name in names {
        topic::create(fixture.brokers(), name, 1).await;
    }

    let used_again = async {
        worker.until_metric("worker_partitions", 1).await;
        tokio::join!(gateway.until_ready(), worker.until_ready());
        until_eq("requests are answered again", WAIT_LIMIT, 200, async || {
            gateway.get("/ping").await.status
        })
        .await;
    };
    within("the partition that is left is used", RECREATED_LIMIT, used_again).await;
    for _ in 0..100 {
        assert_eq!(gateway.get("/ping").await.status, 200);
    }
}

/// The highest numbers of connections to Kafka during a load.
async fn most_connections(fixture: &Fixture, processes: [&Process; 2]) -> [usize; 2] {
    let load = tokio::spawn(open_loop(processes[0].http(), 300, Duration::from_secs(3)).run());
    let mut most = [0; 2];
    until("the load ends", WAIT_LIMIT, async || {
        for (most, process) in most.iter_mut().zip(processes) {
            *most = process.connections(fixture.brokers()).await.max(*most);
        }
        load.is_finished().then_some(())
    })
    .await;
    assert_answered(&load.await.unwrap().unwrap(), &[]);
    most
}

/// Gateway and worker use all partitions, the worker without a group and in one.
pub(crate) async fn connections_to_kafka_are_bounded(engine: &Engine) {
    const PARTITIONS: usize = 6;
    const REPLY_PARTITIONS: usize = 3;
    const MAX_PRODUCER_CONNECTIONS: usize = 4;
    const METADATA: usize = 1;
    const REPLIES: usize = 1;
    const OFFSETS: usize = 1;

    let fixture = Fixture::shared(engine).await;
    topic::create(fixture.brokers(), fixture.ping_name(), 6).await;
    topic::create(fixture.brokers(), fixture.pong_name(), 3).await;
    for (worker, group) in [(fixture.worker().set("PARTITIONS", "all"), 0), (fixture.member(), 1)] {
        let gateway = fixture.gateway().set("REQUEST_PARTITIONS", "all");
        let (gateway, worker) = tokio::join!(gateway.ready(), worker.ready());
        worker.until_metric("worker_partitions", 6).await;

        let found = most_connections(&fixture, [&gateway, &worker]).await;

        let gateway_limit = MAX_PRODUCER_CONNECTIONS.max(PARTITIONS) + REPLIES + METADATA;
        let producers = MAX_PRODUCER_CONNECTIONS.max(REPLY_PARTITIONS);
        let worker_limit = PARTITIONS + producers + METADATA + OFFSETS + group;
        assert!(found[0] <= gateway_limit, "gateway: {} of {gateway_limit}", found[0]);
        assert!(found[1] <= worker_limit, "worker: {} of {worker_limit}", found[1]);
        // The count works: both use every partition.
        assert!(found[0] > PARTITIONS && found[1] > PARTITIONS, "{found:?}");
    }
}

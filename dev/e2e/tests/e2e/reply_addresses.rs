//! Reply addresses: the topic and partition that the headers of a request name.

use std::collections::BTreeSet;

use e2e::{
    cluster::Cluster,
    engine::Engine,
    environment::has,
    fixture::Fixture,
    kcat,
    topic::{self, Topic, create, record},
    wait::{WAIT_LIMIT, until, until_eq, within},
};
use futures_util::future::join_all;
use libtest_mimic::Completion;
use rskafka::{client::ClientBuilder, record::Record};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::load::{assert_answered, closed_loop, reply_ids};

/// A request with a reply address.
fn request(id: &str, topic: &str, partition: &str) -> Record {
    let value = json!({ "id": id, "name": "n", "value": "v" }).to_string();
    let mut request = record(Some(id.as_bytes()), Some(value.as_bytes()));
    let headers = [("kafka_replyTopic", topic), ("pingpong_replyPartition", partition)];
    request.headers = headers
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .into();
    request
}

async fn partitions(fixture: &Fixture, name: &str, count: i32) -> Vec<Topic> {
    create(fixture.brokers(), name, count).await;
    join_all((0..count).map(|index| Topic::partition(fixture.brokers(), name, index))).await
}

pub(crate) async fn reply_goes_to_the_topic_and_partition_of_the_request(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let allowed = format!("{},pong-other-*", fixture.pong_name());
    let _worker = fixture.worker().set("REPLY_TOPICS", allowed).ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    let other = format!("pong-other-{}", Uuid::new_v4().simple());
    let others = partitions(&fixture, &other, 2).await;

    ping.write_batch(vec![
        request("other 0", &other, "0"),
        request("other 1", &other, "1"),
        request("default", fixture.pong_name(), "0"),
    ])
    .await;

    for (topic, id) in [(&others[0], "other 0"), (&others[1], "other 1"), (&pong, "default")] {
        topic.read(0, 1).await;
        assert_eq!(reply_ids(topic).await, [id]);
    }
}

pub(crate) async fn unknown_reply_topic_is_skipped_and_not_created(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let worker = fixture.worker().set("REPLY_TOPICS", "*").ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    let missing = format!("no-such-{}", Uuid::new_v4().simple());
    let internal = format!("__internal-{}", Uuid::new_v4().simple());

    ping.write_batch(vec![
        request("1", &missing, "0"),
        request("2", fixture.pong_name(), "7"),
        request("3", &internal, "0"),
        request("4", "__consumer_offsets", "0"),
        request("5", "no topic name", "0"),
        request("6", &missing, "first"),
        request("valid", fixture.pong_name(), "0"),
    ])
    .await;

    pong.read(0, 1).await;
    assert_eq!(reply_ids(&pong).await, ["valid"]);
    for (reason, count) in [("no_such_place", 2), ("bad_headers", 4)] {
        let series = format!("worker_records_skipped_total{{reason=\"{reason}\"}}");
        worker.until_metric(&series, count).await;
    }
    let line = worker.until_logged("skipping a request").await;
    assert!(line.contains(&missing), "{line}");
    let topics = topic::list(fixture.brokers()).await;
    assert!(
        !topics.contains_key(&missing) && !topics.contains_key(&internal),
        "{topics:?}"
    );
    assert_eq!(topics.get(fixture.pong_name()), Some(&1));
    worker.until_ready().await;
}

/// The worker keeps 64 partition producers and closes the least recently used one. No reply is lost.
pub(crate) async fn many_reply_partitions_share_a_bounded_number_of_connections(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let worker = fixture.worker().set("REPLY_TOPICS", "pong-other-*").ready().await;
    let ping = fixture.ping().await;
    let other = format!("pong-other-{}", Uuid::new_v4().simple());
    let others = partitions(&fixture, &other, 70).await;

    for round in 0..3 {
        let requests = (0..others.len()).map(|n| request(&format!("{round} {n}"), &other, &n.to_string()));
        ping.write_batch(requests.collect()).await;
    }

    for (n, topic) in others.iter().enumerate() {
        topic.read(0, 3).await;
        let ids: BTreeSet<_> = reply_ids(topic).await.into_iter().collect();
        assert_eq!(ids, (0..3).map(|round| format!("{round} {n}")).collect());
    }
    worker
        .until_metric("worker_replies_total{fate=\"acknowledged\"}", 210)
        .await;
    // Four connections at most have other purposes.
    until("the other connections are closed", WAIT_LIMIT, async || {
        (worker.connections(fixture.brokers()).await <= 64 + 4).then_some(())
    })
    .await;
}

pub(crate) async fn each_gateway_has_its_own_reply_partition(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let pongs = partitions(&fixture, fixture.pong_name(), 2).await;
    let (zero, one, _worker) = tokio::join!(
        fixture.gateway().set("REPLY_PARTITION", "0").ready(),
        fixture.gateway().set("REPLY_PARTITION", "1").ready(),
        fixture.worker().ready()
    );

    let loads = [&zero, &one].map(|gateway| closed_loop(gateway, 8, 200).run());
    for report in join_all(loads).await {
        assert_answered(&report.unwrap(), &[]);
    }

    for (gateway, pong) in [&zero, &one].into_iter().zip(&pongs) {
        assert_eq!(pong.read_all().await.len(), 200);
        for (kind, count) in [("answered", 200), ("foreign", 0), ("malformed", 0)] {
            let series = format!("gateway_replies_total{{kind=\"{kind}\"}}");
            until_eq(kind, WAIT_LIMIT, count, async || gateway.metric(&series).await).await;
        }
    }
}

/// The leader of one reply partition ends, and no other node has a replica of it.
pub(crate) async fn unreachable_reply_partition_does_not_block_the_rest(cluster: &Cluster) -> Completion {
    if !has("kcat", "-V") {
        return Completion::ignored_with("kcat, which names the leaders, is not installed");
    }
    let fixture = Fixture::on(cluster);
    let ping = fixture.ping().await;
    let [reachable, lost] = leaders_of_single_replicas(&fixture).await;
    assert_ne!(reachable, lost);
    let worker = fixture.worker().ready().await;
    let to = |id: &str, partition| request(id, fixture.pong_name(), partition);
    ping.write_batch(vec![to("before", "0"), to("to be lost", "1")]).await;
    worker
        .until_metric("worker_replies_total{fate=\"acknowledged\"}", 2)
        .await;

    cluster.kill(lost).await;
    // 1 MB, twice the bound on the bytes that wait for one partition.
    let padding = "x".repeat(20_000);
    for n in 0..50 {
        ping.write_batch(vec![to(&format!("{n} {padding}"), "1")]).await;
    }
    ping.write_batch(vec![to("after", "0")]).await;

    let pong = fixture.pong().await;
    let expected = vec!["before".to_owned(), "after".to_owned()];
    until_eq("the other partition is served", WAIT_LIMIT, expected, async || {
        reply_ids(&pong).await
    })
    .await;
    let skipped = "worker_records_skipped_total{reason=\"place_full\"}";
    assert!(worker.metric(skipped).await > 0);
    worker.until_ready().await;
    cluster.start(lost).await;
    Completion::Completed
}

/// Creates the reply topic with two partitions, each with one replica, and returns their leaders.
async fn leaders_of_single_replicas(fixture: &Fixture) -> [u32; 2] {
    let topic = fixture.pong_name();
    within("a topic", WAIT_LIMIT, async {
        let client = ClientBuilder::new(fixture.brokers().split(',').map(str::to_owned).collect());
        let controller = client.build().await.unwrap().controller_client().unwrap();
        controller.create_topic(topic, 2, 1, 10_000).await.unwrap();
    })
    .await;
    until("both partitions have leaders", WAIT_LIMIT, async || {
        let listed = kcat::run(fixture.brokers(), &["-L", "-J", "-t", topic], "").await;
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let leader = |index: i32| {
            let mut partitions = listed["topics"][0]["partitions"].as_array()?.iter();
            let node = partitions.find(|partition| partition["partition"] == index)?["leader"].as_u64()?;
            u32::try_from(node).ok()
        };
        Some([leader(0)?, leader(1)?])
    })
    .await
}

//! Where replies go: to the place that the request names, if there is one.

use std::collections::BTreeSet;

use e2e::{
    engine::Engine,
    environment::has,
    kcat,
    scene::Scene,
    topic::{self, Topic, create, record},
    wait::{SOON, until, until_eq, within},
};
use futures_util::future::join_all;
use libtest_mimic::Completion;
use rskafka::{client::ClientBuilder, record::Record};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::load::{assert_answered, closed_loop, reply_ids};

/// A request whose reply belongs there.
fn request(id: &str, topic: &str, partition: &str) -> Record {
    let value = json!({ "id": id, "name": "n", "value": "v" }).to_string();
    let mut request = record(Some(id.as_bytes()), Some(value.as_bytes()));
    let headers = [("kafka_replyTopic", topic), ("pingpong_replyPartition", partition)];
    request.headers = headers
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .into();
    request
}

async fn partitions(scene: &Scene, name: &str, count: i32) -> Vec<Topic> {
    create(scene.brokers(), name, count).await;
    join_all((0..count).map(|it| Topic::partition(scene.brokers(), name, it))).await
}

pub(crate) async fn are_where_the_request_says(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let _worker = scene.worker().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    let other = format!("pong-other-{}", Uuid::new_v4().simple());
    let others = partitions(&scene, &other, 2).await;

    ping.write_batch(vec![
        request("other 0", &other, "0"),
        request("other 1", &other, "1"),
        request("home", scene.pong_name(), "0"),
    ])
    .await;

    for (topic, id) in [(&others[0], "other 0"), (&others[1], "other 1"), (&pong, "home")] {
        topic.read(0, 1).await;
        assert_eq!(reply_ids(topic).await, [id]);
    }
}

pub(crate) async fn that_do_not_exist_are_not_made(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let worker = scene.worker().ready().await;
    let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
    let missing = format!("no-such-{}", Uuid::new_v4().simple());
    let hidden = format!("__hidden-{}", Uuid::new_v4().simple());

    ping.write_batch(vec![
        request("1", &missing, "0"),
        request("2", scene.pong_name(), "7"),
        request("3", &hidden, "0"),
        request("4", "__consumer_offsets", "0"),
        request("5", "no topic at all", "0"),
        request("6", &missing, "first"),
        request("good", scene.pong_name(), "0"),
    ])
    .await;

    pong.read(0, 1).await;
    assert_eq!(reply_ids(&pong).await, ["good"]);
    for (reason, count) in [("no_such_place", 2), ("bad_headers", 4)] {
        let series = format!("worker_records_skipped_total{{reason=\"{reason}\"}}");
        worker.until_metric(&series, count).await;
    }
    let line = worker.logged("skipping a request").await;
    assert!(line.contains(&missing), "{line}");
    let topics = topic::list(scene.brokers()).await;
    assert!(
        !topics.contains_key(&missing) && !topics.contains_key(&hidden),
        "{topics:?}"
    );
    assert_eq!(topics.get(scene.pong_name()), Some(&1));
    worker.until_ready().await;
}

/// More places than the worker keeps open: the one unused longest is closed for the next, and nothing is lost.
pub(crate) async fn may_be_many(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let worker = scene.worker().ready().await;
    let ping = scene.ping().await;
    let other = format!("pong-other-{}", Uuid::new_v4().simple());
    let others = partitions(&scene, &other, 70).await;

    for round in 0..3 {
        let requests = (0..others.len()).map(|it| request(&format!("{round} {it}"), &other, &it.to_string()));
        ping.write_batch(requests.collect()).await;
    }

    for (index, topic) in others.iter().enumerate() {
        topic.read(0, 3).await;
        let ids: BTreeSet<_> = reply_ids(topic).await.into_iter().collect();
        let expected = (0..3).map(|round| format!("{round} {index}")).collect();
        assert_eq!(ids, expected);
    }
    worker
        .until_metric("worker_replies_total{fate=\"acknowledged\"}", 210)
        .await;
    // One connection for each of 64 places, and a few that are for something else.
    until("the others are closed", SOON, async || {
        (worker.connections(scene.brokers()).await <= 64 + 4).then_some(())
    })
    .await;
}

pub(crate) async fn are_each_gateways_own(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let pongs = partitions(&scene, scene.pong_name(), 2).await;
    let (zero, one, _worker) = tokio::join!(
        scene.gateway().set("REPLY_PARTITION", "0").ready(),
        scene.gateway().set("REPLY_PARTITION", "1").ready(),
        scene.worker().ready()
    );

    let loads = [&zero, &one].map(|it| closed_loop(it, 8, 200).run());
    for report in join_all(loads).await {
        assert_answered(&report.unwrap(), &[]);
    }

    for (gateway, pong) in [&zero, &one].into_iter().zip(&pongs) {
        assert_eq!(pong.read_all().await.len(), 200);
        for (kind, count) in [("answered", 200), ("foreign", 0), ("malformed", 0)] {
            let series = format!("gateway_replies_total{{kind=\"{kind}\"}}");
            until_eq(kind, SOON, count, async || gateway.metric(&series).await).await;
        }
    }
}

/// Its leader dies, and no other node has a copy.
pub(crate) async fn out_of_reach_hold_up_no_others(engine: &Engine) -> Completion {
    if !engine.has_separate_nodes() {
        return Completion::ignored_with("another node of this engine leads whatever one has led");
    }
    if !has("kcat", "-V") {
        return Completion::ignored_with("kcat is not installed");
    }
    let cluster = engine.own(3).await;
    let scene = Scene::on(&cluster);
    let ping = scene.ping().await;
    let [home, lost] = leaders_of_the_only_copies(&scene).await;
    assert_ne!(home, lost);
    let worker = scene.worker().ready().await;
    let to = |id: &str, partition| request(id, scene.pong_name(), partition);
    ping.write_batch(vec![to("before", "0"), to("to be lost", "1")]).await;
    worker
        .until_metric("worker_replies_total{fate=\"acknowledged\"}", 2)
        .await;

    cluster.kill(lost).await;
    // Twice as many bytes as may wait for one place.
    let padding = "x".repeat(20_000);
    for n in 0..50 {
        ping.write_batch(vec![to(&format!("{n} {padding}"), "1")]).await;
    }
    ping.write_batch(vec![to("after", "0")]).await;

    let pong = Topic::partition(scene.brokers(), scene.pong_name(), 0).await;
    until_eq(
        "the others are served",
        SOON,
        vec!["before".to_owned(), "after".to_owned()],
        async || reply_ids(&pong).await,
    )
    .await;
    assert!(
        worker
            .metric("worker_records_skipped_total{reason=\"place_full\"}")
            .await
            > 0
    );
    worker.until_ready().await;
    Completion::Completed
}

/// Creates the topic of the replies with two partitions, each on one node; gives the nodes.
async fn leaders_of_the_only_copies(scene: &Scene) -> [u32; 2] {
    let topic = scene.pong_name();
    within("a topic", SOON, async {
        let client = ClientBuilder::new(scene.brokers().split(',').map(str::to_owned).collect());
        let controller = client.build().await.unwrap().controller_client().unwrap();
        controller.create_topic(topic, 2, 1, 10_000).await.unwrap();
    })
    .await;
    until("both have leaders", SOON, async || {
        let listed: Value =
            serde_json::from_str(&kcat::run(scene.brokers(), &["-L", "-J", "-t", topic], "").await).unwrap();
        let leader = |partition: i32| {
            let mut partitions = listed["topics"][0]["partitions"].as_array()?.iter();
            let node = partitions.find(|it| it["partition"] == partition)?["leader"].as_u64()?;
            u32::try_from(node).ok()
        };
        Some([leader(0)?, leader(1)?])
    })
    .await
}

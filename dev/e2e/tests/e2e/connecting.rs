//! The way to Kafka: bootstrap addresses and topics.

use e2e::{
    engine::Engine,
    http::get,
    nowhere::Nowhere,
    scene::Scene,
    topic::{self, Topic},
    wait::{SOON, until_eq},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

pub(crate) async fn makes_two_topics_of_one_partition(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let before = topic::list(scene.brokers()).await;
    let (gateway, _worker) = scene.pair().await;
    assert_eq!(gateway.get("/ping").await.status, 200);

    let after = topic::list(scene.brokers()).await;
    assert_eq!(after.get(scene.ping_name()), Some(&1));
    assert_eq!(after.get(scene.pong_name()), Some(&1));
    // Other tests make topics, too; all of them have names like these.
    let usual = ["ping-", "pong-", "same-"];
    let alien = |name: &&String| !before.contains_key(*name) && !usual.iter().any(|it| name.starts_with(it));
    assert_eq!(after.keys().find(alien), None);
}

pub(crate) async fn leaves_topics_as_they_are(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    topic::create(scene.brokers(), scene.ping_name(), 3).await;
    topic::create(scene.brokers(), scene.pong_name(), 3).await;
    let (gateway, _worker) = scene.pair().await;

    for _ in 0..10 {
        assert_eq!(gateway.get("/ping").await.status, 200);
    }

    // All in partition 0, as the contract has it.
    assert_eq!(
        (
            scene.ping().await.end().await,
            scene.pong().await.read_all().await.len()
        ),
        (10, 10)
    );
    let topics = topic::list(scene.brokers()).await;
    assert_eq!(
        (topics.get(scene.ping_name()), topics.get(scene.pong_name())),
        (Some(&3), Some(&3))
    );
}

pub(crate) async fn passes_over_addresses_that_do_not_answer(engine: &Engine) {
    let quiet = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let foreign = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [quiet.local_addr().unwrap(), foreign.local_addr().unwrap()];
    // One takes connections and never says anything, the other says something else.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = foreign.accept().await {
            let _ = stream.read(&mut [0; 64]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let shared = engine.brokers().await;
    let nowhere = Nowhere::reserve();
    let [silent, foreign] = addresses;
    let brokers = format!(
        "{},{silent},{foreign},no-such-host.invalid:9092,{shared}",
        nowhere.addr()
    );
    let scene = Scene::at(&brokers);

    let (gateway, _worker) = scene.pair().await;

    assert_eq!(gateway.get("/ping").await.status, 200);
}

pub(crate) async fn survives_new_topics_of_the_same_name(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let (gateway, worker) = scene.pair().await;
    assert_eq!(gateway.get("/ping").await.status, 200);

    for name in [scene.ping_name(), scene.pong_name()] {
        topic::delete(scene.brokers(), name).await;
    }
    let (gateway_causes, worker_causes) = tokio::join!(gateway.until_unready(), worker.until_unready());
    assert!(gateway_causes.contains(scene.pong_name()), "{gateway_causes}");
    assert!(worker_causes.contains(scene.ping_name()), "{worker_causes}");
    assert_eq!(gateway.get("/ping").await.status, 500);
    // They come back by nobody's hand but the operator's.
    let topics = topic::list(scene.brokers()).await;
    assert!(!topics.contains_key(scene.ping_name()) && !topics.contains_key(scene.pong_name()));

    let _topics: (Topic, Topic) = tokio::join!(scene.ping(), scene.pong());
    until_eq("requests are answered again", SOON, 200, async || {
        gateway.get("/ping").await.status
    })
    .await;
    tokio::join!(gateway.until_ready(), worker.until_ready());
    for _ in 0..100 {
        assert_eq!(gateway.get("/ping").await.status, 200);
    }
}

pub(crate) async fn reads_a_new_topic_from_its_beginning(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    let gateway = scene.gateway().set("REPLY_TIMEOUT", "1m").ready().await;
    let ping = scene.ping().await;
    let mut caller = gateway.connect().await;
    caller.send(get("/ping")).await.unwrap();
    let key = ping.read_one(0).await.key.unwrap();

    topic::delete(scene.brokers(), scene.pong_name()).await;
    gateway.until_unready().await;
    // The reply is there before the gateway has found the topic.
    scene.pong().await.write(Some(&key), Some(b"the first record")).await;

    assert_eq!(caller.answer().await.message(), "the first record");
}

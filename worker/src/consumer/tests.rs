use kafka::{Cluster, CommitMetrics, ConsumerMetrics, Coordinator, PartitionDiscovery, ProducerMetrics, Start};
use prometheus_client::registry::Registry;
use shared::{
    config::{Partitions, StartFrom},
    readiness::Readiness,
    tasks::Tasks,
};
use tokio::sync::Notify;

use super::*;
use crate::{
    delivery::ReplyDelivery,
    executor::{Executor, Parts},
    gate::Gate,
    handler::{Handler, Service},
    metrics::Metrics,
    ping,
    reply_producers::ReplyProducers,
    reply_topics::ReplyTopics,
};

const PARTITIONS: i32 = 12;

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new(&"ping".into(), number)
}

fn spawn(consumer: &mut Consumer, number: i32, start: i64) -> PartitionWorker {
    let (start, context) = (Start::At(start), consumer.context.clone());
    PartitionWorker::spawn(&mut consumer.running, partition(number), start, context).unwrap()
}

/// A consumer whose brokers and coordinator refuse every connection.
fn consumer(tasks: &Tasks) -> Consumer {
    let bootstrap = vec!["127.0.0.1:1".to_owned()];
    let cluster = Arc::new(Cluster::new("test", bootstrap, kafka::Security::default(), Vec::new()));
    let readiness = Readiness::default();
    let metrics = Metrics::register(&mut Registry::default());
    let replies = ReplyProducers::new(
        &cluster,
        tasks,
        vec!["pong".to_owned()],
        ReplyDelivery(metrics.clone()),
        readiness.health_check("outbox"),
        ProducerMetrics::default(),
    );
    let committed_offsets = CommittedOffsets::new(
        Coordinator::new(&cluster, "group".to_owned()),
        StartFrom::Resume,
        CommitMetrics::default(),
    );
    let discovery = PartitionDiscovery::new(&cluster, "ping", Partitions::All);
    let executor = Executor::new(Parts {
        concurrency: 1,
        default_timeout: Duration::from_secs(60),
        runtime: tokio::runtime::Handle::current(),
        tasks: tasks.clone(),
        replies: replies.clone(),
        dead_letters: None,
        gate: Gate::new(true),
        metrics: metrics.clone(),
        retries: readiness.health_check("failing requests"),
    });
    let service = Service::new("ping", Handler::inline(ping::answer));
    let services = [(Arc::clone(service.topic()), service)];
    let context = Context {
        cluster,
        services: Arc::new(services.into()),
        executor,
        reply_topics: Arc::new(ReplyTopics::new(Vec::new(), Vec::new())),
        replies,
        metrics,
        consumer_metrics: ConsumerMetrics::default(),
        readiness: readiness.clone(),
        drain_timeout: Duration::from_secs(5),
        start_known: Arc::new(Notify::new()),
    };
    let (served, _) = watch::channel(Served::new());
    let health_check = readiness.health_check("partitions");
    Consumer::new(
        Assignment::Static(vec![discovery]),
        committed_offsets,
        context,
        health_check,
        served,
    )
}

/// Each worker has an offset to commit, and the coordinator is unreachable, so that a last commit takes all its time.
#[tokio::test(start_paused = true)]
async fn partitions_revoked_together_share_one_last_commit() {
    let tasks = Tasks::default();
    let mut consumer = consumer(&tasks);
    for number in 0..PARTITIONS {
        let worker = spawn(&mut consumer, number, 5);
        consumer.workers.insert(partition(number), worker);
    }
    consumer.context.start_known.notified().await;
    consumer.on_rebalance(Rebalance::Revoked((0..PARTITIONS).map(partition).collect()));

    let begin = Instant::now();
    let first = consumer.running.join_next_with_id().await.unwrap();
    let workers = consumer.workers.values();
    assert!(
        workers
            .map(|worker| worker.offsets().committable())
            .all(|offset| offset == Some(5))
    );
    consumer.on_ended(first).await;
    assert!(consumer.workers.is_empty() && consumer.running.is_empty());
    assert_eq!(begin.elapsed(), LAST_COMMIT);
}

#[tokio::test(start_paused = true)]
async fn worker_of_a_lost_partition_releases_nothing() {
    let tasks = Tasks::default();
    let mut consumer = consumer(&tasks);
    // Ends by itself before it is lost; its result arrives after the partition is assigned again.
    let worker = spawn(&mut consumer, 0, 5);
    worker.stop();
    consumer.workers.insert(partition(0), worker);
    let old = consumer.running.join_next_with_id().await.unwrap();
    consumer.on_rebalance(Rebalance::Lost);
    let newer = spawn(&mut consumer, 0, 7);
    consumer.workers.insert(partition(0), newer);
    consumer.on_ended(old).await;
    assert!(
        consumer.workers.contains_key(&partition(0)),
        "the newer worker serves the partition"
    );
}

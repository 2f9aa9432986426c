use kafka::{Cluster, CommitMetrics, ConsumerMetrics, Coordinator, PartitionDiscovery, ProducerMetrics, Start};
use prometheus_client::registry::Registry;
use shared::{
    config::{Partitions, StartFrom},
    readiness::Readiness,
    tasks::Tasks,
};
use tokio::sync::Notify;

use super::*;
use crate::{delivery::ReplyDelivery, metrics::Metrics, reply_producers::ReplyProducers};

const PARTITIONS: i32 = 12;

/// A consumer whose brokers and coordinator refuse every connection.
fn consumer(tasks: &Tasks) -> Consumer {
    let bootstrap = vec!["127.0.0.1:1".to_owned()];
    let cluster = Arc::new(Cluster::new("test", bootstrap, kafka::Security::default(), Vec::new()));
    let readiness = Readiness::default();
    let metrics = Metrics::register(&mut Registry::default());
    let replies = ReplyProducers::new(
        &cluster,
        tasks,
        "pong",
        ReplyDelivery(metrics.clone()),
        readiness.health_check("outbox"),
        ProducerMetrics::default(),
    );
    let committed_offsets = CommittedOffsets::new(
        Coordinator::new(&cluster, "group".to_owned()),
        "ping",
        StartFrom::Resume,
        CommitMetrics::default(),
    );
    let discovery = PartitionDiscovery::new(&cluster, "ping", Partitions::All);
    let context = Context {
        cluster,
        topic: "ping".to_owned(),
        replies,
        metrics,
        consumer_metrics: ConsumerMetrics::default(),
        readiness: readiness.clone(),
        drain_timeout: Duration::from_secs(5),
        start_known: Arc::new(Notify::new()),
    };
    let (partition_count, _) = watch::channel(0);
    let health_check = readiness.health_check("partitions");
    Consumer::new(
        Assignment::Static(discovery),
        committed_offsets,
        context,
        health_check,
        partition_count,
    )
}

/// Each worker has an offset to commit, and the coordinator is unreachable, so that a last commit takes all its time.
#[tokio::test(start_paused = true)]
async fn partitions_revoked_together_share_one_last_commit() {
    let tasks = Tasks::default();
    let mut consumer = consumer(&tasks);
    for partition in 0..PARTITIONS {
        let start = Start::At(5);
        let worker = PartitionWorker::spawn(&mut consumer.running, partition, start, consumer.context.clone());
        consumer.workers.insert(partition, worker);
    }
    consumer.context.start_known.notified().await;
    consumer.on_rebalance(Rebalance::Revoked((0..PARTITIONS).collect()));

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
    let context = consumer.context.clone();
    // Ends by itself before it is lost; its result arrives after the partition is assigned again.
    let worker = PartitionWorker::spawn(&mut consumer.running, 0, Start::At(5), context.clone());
    worker.stop();
    consumer.workers.insert(0, worker);
    let old = consumer.running.join_next_with_id().await.unwrap();
    consumer.on_rebalance(Rebalance::Lost);
    let newer = PartitionWorker::spawn(&mut consumer.running, 0, Start::At(7), context);
    consumer.workers.insert(0, newer);
    consumer.on_ended(old).await;
    assert!(
        consumer.workers.contains_key(&0),
        "the newer worker serves the partition"
    );
}

//! Builds the parts of a worker, runs them, and shuts them down.
//!
//! Shutdown: report not ready; send the last heartbeat; stop polling, drain and commit; close the producers; leave the
//! admin listener for last.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use kafka::{
    Assignment, Cluster, CommitMetrics, CommittedOffsets, ConsumerMetrics, Coordinator, Group, PartitionDiscovery,
    ProducerMetrics, Security, Subscription,
};
use prometheus_client::registry::Registry;
use shared::{
    admin::Admin,
    config::Partitions,
    process::Fatal,
    readiness::Readiness,
    server::bind,
    tasks::{TaskPanicked, Tasks},
};
use tokio::{
    net::TcpListener,
    sync::{Notify, oneshot, watch},
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    Settings, consumer::Consumer, delivery::ReplyDelivery, heartbeats, metrics::Metrics, partition_worker::Context,
    reply_producers::ReplyProducers,
};

/// The client id in the logs and quotas of the brokers.
const CLIENT_ID: &str = "worker";

/// The request partition that is served by default; the contract of `/ping` names it.
const DEFAULT_PARTITION: i32 = 0;

/// Time for the last commit and for leaving the group, beyond the drain timeout.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(800);

/// A worker that has bound its admin port.
#[derive(Debug)]
pub struct Worker {
    settings: Settings,
    security: Security,
    admin: TcpListener,
}

/// A signal whose sender is dropped and never used, so that it also fires when the sender's owner ends.
type DropSignal = oneshot::Receiver<Infallible>;

// === impl Worker ===

impl Worker {
    /// Binds the admin port.
    ///
    /// # Errors
    /// When the address is in use or not permitted; when a certificate or a password cannot be read.
    pub async fn bind(settings: Settings) -> Result<Self, Fatal> {
        let security = Security::new(&settings.common.kafka)?;
        let admin = bind("ADMIN_ADDR", settings.admin_addr)?;
        Ok(Self {
            settings,
            security,
            admin,
        })
    }

    /// The address of the admin listener.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn admin_addr(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Answers requests until `shutdown` resolves, then drains.
    ///
    /// # Errors
    /// When one of its tasks panicked.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), TaskPanicked> {
        let Self {
            settings,
            security,
            admin,
        } = self;
        let common = &settings.common;
        let readiness = Readiness::default();
        let mut registry = Registry::with_prefix("worker");
        let metrics = Metrics::register(&mut registry);
        let tasks = Tasks::default();

        let client_id = common.kafka.kafka_client_id.as_deref().unwrap_or(CLIENT_ID);
        let topics = vec![common.ping_topic.clone(), common.pong_topic.clone()];
        let cluster = Arc::new(Cluster::new(
            client_id,
            common.kafka.kafka_brokers.clone(),
            security,
            topics,
        ));
        let replies = ReplyProducers::new(
            &cluster,
            &tasks,
            &common.pong_topic,
            ReplyDelivery(metrics.clone()),
            readiness.health_check("outbox"),
            ProducerMetrics::register(&mut registry),
        );
        let assignment = assignment(&settings, &cluster, &tasks, &readiness);
        let committed_offsets = CommittedOffsets::new(
            coordinator(&settings, &cluster),
            &common.ping_topic,
            settings.start_from,
            CommitMetrics::register(&mut registry),
        );
        let context = Context {
            cluster: Arc::clone(&cluster),
            topic: common.ping_topic.clone(),
            replies: replies.clone(),
            metrics,
            consumer_metrics: ConsumerMetrics::register(&mut registry),
            readiness: readiness.clone(),
            drain_timeout: common.drain_timeout,
            start_known: Arc::new(Notify::new()),
        };
        let (partition_count, partition_counts) = watch::channel(0);
        let consumer = Consumer::new(
            assignment,
            committed_offsets,
            context,
            readiness.health_check("partitions"),
            partition_count,
        );
        let serving = readiness.health_check("serving");
        serving.ready();
        let admin = Admin::spawn(admin, readiness, registry);

        // Heartbeats stop before the consumer: the last one is sent only while partitions are served.
        let (stop_heartbeats, stopped) = oneshot::channel();
        if !settings.announce_interval.is_zero() {
            let discovery = PartitionDiscovery::new(&cluster, &common.pong_topic, Partitions::All);
            let period = settings.announce_interval;
            let stopped = dropped(stopped);
            tasks.spawn(heartbeats::run(
                discovery,
                replies.clone(),
                partition_counts,
                period,
                stopped,
            ));
        }
        let (stop_consumer, stopped) = oneshot::channel();
        let (consuming, consumed) = oneshot::channel();
        tasks.spawn(async move {
            consumer.run(dropped(stopped)).await;
            drop(consuming);
        });
        tokio::select! {
            () = shutdown => {}
            panicked = tasks.panicked() => return Err(panicked),
        }

        serving.not_ready(&"shutting down");
        drop(stop_heartbeats);
        drop(stop_consumer);
        let drain = async {
            dropped(consumed).await;
            replies.close(common.drain_timeout).await
        };
        let drained = tokio::select! {
            drained = timeout(common.drain_timeout + SHUTDOWN_GRACE, drain) => drained.unwrap_or(false),
            panicked = tasks.panicked() => return Err(panicked),
        };
        if !drained {
            warn!("requests were still unanswered at the end of the drain");
        }
        tasks.abort_all();
        admin.stop().await;
        info!("drained");
        Ok(())
    }
}

/// Where the partitions come from: a group, or the settings.
fn assignment(settings: &Settings, cluster: &Arc<Cluster>, tasks: &Tasks, readiness: &Readiness) -> Assignment {
    let topic = &settings.common.ping_topic;
    if settings.worker_group.is_some() {
        let subscription = Subscription {
            topic: topic.clone(),
            // The drain of a revoked partition, its last commit, and a heartbeat.
            rebalance_timeout: settings.common.drain_timeout + 2 * SHUTDOWN_GRACE,
        };
        let health_check = readiness.health_check("group");
        return Assignment::Group(Group::spawn(
            tasks,
            coordinator(settings, cluster),
            subscription,
            health_check,
        ));
    }
    let partitions = settings.partitions.clone();
    let partitions = partitions.unwrap_or_else(|| Partitions::Listed([DEFAULT_PARTITION].into()));
    Assignment::Static(PartitionDiscovery::new(cluster, topic, partitions))
}

/// A client of the coordinator of this worker's group.
fn coordinator(settings: &Settings, cluster: &Arc<Cluster>) -> Coordinator {
    let group = settings.worker_group.as_ref().unwrap_or(&settings.position_group);
    Coordinator::new(cluster, group.clone())
}

/// Resolves when the sender is dropped.
async fn dropped(signal: DropSignal) {
    let _ = signal.await;
}

//! A worker from its port to its end.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use kafka::{
    Assignment, Cluster, CommitMetrics, CommittedOffsets, ConsumerMetrics, Coordinator, Group, PartitionDiscovery,
    ProducerMetrics, Subscription,
};
use prometheus_client::registry::Registry;
use shared::{
    admin::Admin,
    config::Partitions,
    readiness::Readiness,
    server::{BindError, bind},
    tasks::{TaskPanicked, Tasks},
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    Settings, consumer::Consumer, delivery::ReplyDelivery, heartbeats, metrics::Metrics,
    reply_producers::ReplyProducers,
};

/// How we call ourselves to the brokers.
const CLIENT_ID: &str = "worker";

/// The partition that the contract names.
const PARTITION: i32 = 0;

/// What the shutdown may take beyond the drain: committing, and leaving the group.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(800);

/// A worker that has its port.
#[derive(Debug)]
pub struct Worker {
    settings: Settings,
    admin: TcpListener,
}

// === impl Worker ===

impl Worker {
    /// Binds the admin port.
    ///
    /// # Errors
    /// When it is in use or not ours to have.
    pub async fn bind(settings: Settings) -> Result<Self, BindError> {
        let admin = bind("ADMIN_ADDR", settings.admin_addr)?;
        Ok(Self { settings, admin })
    }

    /// Where the admin listener is.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn admin_addr(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Answers requests until `shutdown` resolves, then sends what is answered.
    ///
    /// # Errors
    /// When a part of it panicked.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), TaskPanicked> {
        let Self { settings, admin } = self;
        let common = &settings.common;
        let readiness = Readiness::default();
        let mut registry = Registry::with_prefix("worker");
        let metrics = Metrics::register(&mut registry);
        let tasks = Tasks::default();

        let cluster = Arc::new(Cluster::new(
            CLIENT_ID,
            common.kafka_brokers.clone(),
            vec![common.ping_topic.clone(), common.pong_topic.clone()],
        ));
        let replies = ReplyProducers::new(
            &cluster,
            &tasks,
            &common.pong_topic,
            ReplyDelivery(metrics.clone()),
            readiness.health_check("outbox"),
            ProducerMetrics::register(&mut registry),
        );
        let group_name = settings.worker_group.as_ref().unwrap_or(&settings.position_group);
        let coordinator = || Coordinator::new(CLIENT_ID, common.kafka_brokers.clone(), group_name.clone());
        let assignment = if settings.worker_group.is_some() {
            let subscription = Subscription {
                topic: common.ping_topic.clone(),
                // A worker may take the drain to finish, and its last commit some more.
                rebalance_timeout: common.drain_timeout + 2 * SHUTDOWN_GRACE,
            };
            Assignment::Group(Group::spawn(
                &tasks,
                coordinator(),
                subscription,
                readiness.health_check("group"),
            ))
        } else {
            let partitions = settings.partitions.clone();
            let partitions = partitions.unwrap_or_else(|| Partitions::Listed([PARTITION].into()));
            Assignment::Static(PartitionDiscovery::new(&cluster, &common.ping_topic, partitions))
        };
        let (reading, partitions) = watch::channel(0);
        // Nothing is ever sent: the end of the sender is the signal. This one comes first, so that it still reads something.
        let (leave, leaving) = oneshot::channel::<Infallible>();
        if !settings.announce_interval.is_zero() {
            let discovery = PartitionDiscovery::new(&cluster, &common.pong_topic, Partitions::All);
            let every = settings.announce_interval;
            let leaving = async { drop(leaving.await) };
            tasks.spawn(heartbeats::run(discovery, replies.clone(), partitions, every, leaving));
        }
        let consumer = Consumer {
            cluster,
            topic: common.ping_topic.clone(),
            assignment,
            positions: CommittedOffsets::new(
                coordinator(),
                &common.ping_topic,
                settings.start_from,
                CommitMetrics::register(&mut registry),
            ),
            replies: replies.clone(),
            metrics,
            consumer_metrics: ConsumerMetrics::register(&mut registry),
            health_check: readiness.health_check("partitions"),
            readiness: readiness.clone(),
            drain: common.drain_timeout,
            reading,
        };
        let serving = readiness.health_check("serving");
        serving.ready();
        let admin = Admin::spawn(admin, readiness, registry);

        let (stop, stopped) = oneshot::channel::<Infallible>();
        let (working, mut finished) = oneshot::channel::<Infallible>();
        tasks.spawn(async move {
            consumer.run(async { drop(stopped.await) }).await;
            drop(working);
        });
        tokio::select! {
            () = shutdown => {}
            panicked = tasks.panicked() => return Err(panicked),
        }
        serving.not_ready(&"shutting down");
        drop(leave);
        drop(stop);
        let drain = async {
            let _ = (&mut finished).await;
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

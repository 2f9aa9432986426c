//! A worker from its port to its end.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use kafka::{
    Assignment, Cluster, Coordinator, Group, OutboxMetrics, PositionMetrics, Positions, Subscription, Survey,
    TailMetrics,
};
use prometheus_client::registry::Registry;
use shared::{
    admin::Admin,
    config::Partitions,
    readiness::Readiness,
    server::{BindError, bind},
    tasks::{Panicked, Tasks},
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    Settings, announcements, crew::Crew, destinations::Destinations, metrics::Metrics, receipts::ReplyReceipts,
};

/// How we call ourselves to the brokers.
const CLIENT_ID: &str = "worker";

/// The partition that the contract names.
const PARTITION: i32 = 0;

/// What the shutdown may take beyond the drain: committing, and leaving the group.
const LAST_WORDS: Duration = Duration::from_millis(800);

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
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Panicked> {
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
        let replies = Destinations::new(
            &cluster,
            &tasks,
            &common.pong_topic,
            ReplyReceipts(metrics.clone()),
            readiness.condition("outbox"),
            OutboxMetrics::register(&mut registry),
        );
        let group_name = settings.worker_group.as_ref().unwrap_or(&settings.position_group);
        let coordinator = || Coordinator::new(CLIENT_ID, common.kafka_brokers.clone(), group_name.clone());
        let assignment = if settings.worker_group.is_some() {
            let subscription = Subscription {
                topic: common.ping_topic.clone(),
                // A reader may take the drain to finish, and its last commit some more.
                rebalance_timeout: common.drain_timeout + 2 * LAST_WORDS,
            };
            Assignment::Group(Group::spawn(
                &tasks,
                coordinator(),
                subscription,
                readiness.condition("group"),
            ))
        } else {
            let partitions = settings.partitions.clone();
            let partitions = partitions.unwrap_or_else(|| Partitions::Listed([PARTITION].into()));
            Assignment::Static(Survey::new(&cluster, &common.ping_topic, partitions))
        };
        let (reading, partitions) = watch::channel(0);
        // Nothing is ever sent: the end of the sender is the signal. This one comes first, so that it still reads something.
        let (leave, leaving) = oneshot::channel::<Infallible>();
        if !settings.announce_interval.is_zero() {
            let survey = Survey::new(&cluster, &common.pong_topic, Partitions::All);
            let every = settings.announce_interval;
            let leaving = async { drop(leaving.await) };
            tasks.spawn(announcements::run(survey, replies.clone(), partitions, every, leaving));
        }
        let crew = Crew {
            cluster,
            topic: common.ping_topic.clone(),
            assignment,
            positions: Positions::new(
                coordinator(),
                &common.ping_topic,
                settings.start_from,
                PositionMetrics::register(&mut registry),
            ),
            replies: replies.clone(),
            metrics,
            tail_metrics: TailMetrics::register(&mut registry),
            condition: readiness.condition("partitions"),
            readiness: readiness.clone(),
            drain: common.drain_timeout,
            reading,
        };
        let serving = readiness.condition("serving");
        serving.met();
        let admin = Admin::spawn(admin, readiness, registry);

        let (stop, stopped) = oneshot::channel::<Infallible>();
        let (working, mut finished) = oneshot::channel::<Infallible>();
        tasks.spawn(async move {
            crew.run(async { drop(stopped.await) }).await;
            drop(working);
        });
        tokio::select! {
            () = shutdown => {}
            panicked = tasks.panicked() => return Err(panicked),
        }
        serving.unmet(&"shutting down");
        drop(leave);
        drop(stop);
        let drain = async {
            let _ = (&mut finished).await;
            replies.flush(common.drain_timeout).await
        };
        let drained = tokio::select! {
            drained = timeout(common.drain_timeout + LAST_WORDS, drain) => drained.unwrap_or(false),
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

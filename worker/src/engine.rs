//! Builds the parts of a worker, runs them, and shuts them down.
//!
//! Shutdown: report not ready; send the last heartbeat; stop polling, drain and commit; close the producers; leave the
//! admin listener for last.

use std::{collections::BTreeMap, convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use kafka::{
    Assignment, Cluster, CommitMetrics, CommittedOffsets, ConsumerMetrics, Coordinator, Group, PartitionDiscovery,
    ProducerMetrics, Security, Subscription,
};
use prometheus_client::registry::Registry;
use shared::{
    admin::Admin,
    config::Partitions,
    heartbeat::Heartbeat,
    process::Fatal,
    readiness::{HealthCheck, Readiness},
    server::bind,
    tasks::Tasks,
};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{Notify, oneshot, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    Settings,
    consumer::Consumer,
    dead_letters::DeadLetters,
    delivery::ReplyDelivery,
    executor::{Executor, Parts},
    forward::Forward,
    gate::Gate,
    handler::Service,
    heartbeats::{Heartbeats, Served},
    metrics::Metrics,
    partition_worker::Context,
    reply_producers::ReplyProducers,
    reply_topics::{ReplyTopic, ReplyTopics},
};

/// The client id in the logs and quotas of the brokers.
const CLIENT_ID: &str = "worker";

/// The request partition that is served by default; the contract of `/ping` names it.
const DEFAULT_PARTITION: i32 = 0;

/// Time for the last commit and for leaving the group, beyond the drain timeout.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(800);

/// How often the age of the oldest handler is looked at, at least.
const STUCK_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What a worker is built from.
#[derive(Debug)]
pub(crate) struct Blueprint {
    pub(crate) settings: Settings,
    /// Where `/live`, `/ready` and `/metrics` are, if anywhere.
    pub(crate) admin_addr: Option<SocketAddr>,
    pub(crate) services: Vec<Service>,
    /// The bound on a handler whose request has no deadline.
    pub(crate) default_timeout: Duration,
    /// The name of the service, and its version.
    pub(crate) identity: (String, String),
    /// The HTTP server that must be there for requests to be handled.
    pub(crate) forward: Option<Forward>,
}

/// A worker that has bound its admin port.
#[derive(Debug)]
pub struct Engine {
    blueprint: Blueprint,
    security: Security,
    admin: Option<TcpListener>,
}

/// A handler has run for longer than `HANDLER_STUCK_AFTER`.
#[derive(Debug, thiserror::Error)]
#[error("a handler has run for {0:?}: this worker leaves its partitions to others")]
struct HandlerStuck(Duration);

/// A signal whose sender is dropped and never used, so that it also fires when the sender's owner ends.
type DropSignal = oneshot::Receiver<Infallible>;

// === impl Engine ===

impl Engine {
    /// Binds the admin port.
    ///
    /// # Errors
    /// When the address is in use or not permitted; when a certificate or a password cannot be read.
    pub(crate) fn bind(blueprint: Blueprint) -> Result<Self, Fatal> {
        let security = Security::new(&blueprint.settings.common.kafka)?;
        let admin = blueprint.admin_addr.map(|addr| bind("ADMIN_ADDR", addr)).transpose()?;
        Ok(Self {
            blueprint,
            security,
            admin,
        })
    }

    /// The address of the admin listener.
    ///
    /// # Errors
    /// When the system call fails, or there is no admin listener.
    pub fn admin_addr(&self) -> io::Result<SocketAddr> {
        let admin = self.admin.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        admin.local_addr()
    }

    /// Handles requests until `shutdown` resolves, then drains. Handlers run on this runtime.
    ///
    /// # Errors
    /// When one of its tasks panicked, or a handler is stuck.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Fatal> {
        self.run_with_handlers_on(Handle::current(), shutdown).await
    }

    /// The same, with the handlers on another runtime.
    pub(crate) async fn run_with_handlers_on(
        self,
        runtime: Handle,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Fatal> {
        let Self {
            blueprint,
            security,
            admin,
        } = self;
        let settings = &blueprint.settings;
        let common = &settings.common;
        let readiness = Readiness::default();
        let mut registry = Registry::with_prefix("worker");
        let metrics = Metrics::register(&mut registry);
        let tasks = Tasks::default();
        let services = blueprint
            .services
            .into_iter()
            .map(|service| (Arc::clone(service.topic()), service));
        let services = Arc::new(services.collect::<BTreeMap<_, _>>());
        let topics: Vec<String> = services.keys().map(ToString::to_string).collect();
        let reply_topics = ReplyTopics::new(
            settings
                .reply_topics
                .clone()
                .unwrap_or_else(|| vec![ReplyTopic::Name(common.pong_topic.clone())]),
            topics.clone(),
        );

        let client_id = common.kafka.kafka_client_id.as_deref().unwrap_or(CLIENT_ID);
        let has_ping = services.contains_key(&*common.ping_topic);
        let own_reply_topics = own_reply_topics(&reply_topics, &common.pong_topic, has_ping);
        // The topics of other services are not this worker's to create.
        let created = [
            (&common.ping_topic, has_ping),
            (&common.pong_topic, own_reply_topics.contains(&common.pong_topic)),
        ];
        let created = created.into_iter().filter(|(_, is_own)| *is_own);
        let cluster = Arc::new(Cluster::new(
            client_id,
            common.kafka.kafka_brokers.clone(),
            security,
            created.map(|(topic, _)| topic.clone()).collect(),
        ));
        let replies = ReplyProducers::new(
            &cluster,
            &tasks,
            own_reply_topics.clone(),
            ReplyDelivery(metrics.clone()),
            readiness.health_check("outbox"),
            ProducerMetrics::register(&mut registry),
        );
        let gate = match blueprint.forward {
            Some(forward) => {
                let gate = forward.gate().clone();
                tasks.spawn_endless(forward.watch(readiness.health_check("forward_to")));
                gate
            }
            None => Gate::new(true),
        };
        let dead_letters = settings.dead_letter_topic.clone();
        let executor = Executor::new(Parts {
            concurrency: settings.concurrency,
            default_timeout: blueprint.default_timeout,
            runtime,
            tasks: tasks.clone(),
            replies: replies.clone(),
            dead_letters: dead_letters.map(|topic| DeadLetters::new(&cluster, replies.clone(), topic)),
            gate: gate.clone(),
            metrics: metrics.clone(),
            retries: readiness.health_check("failing requests"),
        });
        let assignment = assignment(settings, &topics, &cluster, &tasks, &readiness);
        let committed_offsets = CommittedOffsets::new(
            coordinator(settings, &cluster),
            settings.start_from,
            CommitMetrics::register(&mut registry),
        );
        let context = Context {
            cluster: Arc::clone(&cluster),
            services,
            executor: executor.clone(),
            reply_topics: Arc::new(reply_topics),
            replies: replies.clone(),
            metrics: metrics.clone(),
            consumer_metrics: ConsumerMetrics::register(&mut registry),
            readiness: readiness.clone(),
            drain_timeout: common.drain_timeout,
            start_known: Arc::new(Notify::new()),
        };
        let (served, served_now) = watch::channel(Served::new());
        let consumer = Consumer::new(
            assignment,
            committed_offsets,
            context,
            readiness.health_check("partitions"),
            served,
        );
        let handlers = readiness.health_check("handlers");
        handlers.ready();
        let serving = readiness.health_check("serving");
        serving.ready();
        let admin = admin.map(|admin| Admin::spawn(admin, readiness, registry, Vec::new()));

        // Heartbeats stop before the consumer: the last one is sent only while partitions are served.
        let mut stop_heartbeats = Vec::new();
        if !settings.announce_interval.is_zero() {
            let (name, version) = blueprint.identity;
            let template = Heartbeat {
                topics,
                name,
                version,
                id: Uuid::new_v4().to_string(),
                group: group(settings).to_owned(),
                ..Heartbeat::default()
            };
            for topic in own_reply_topics {
                let (stop, stopped) = oneshot::channel();
                stop_heartbeats.push(stop);
                let discovery = PartitionDiscovery::new(&cluster, &topic, Partitions::All);
                let heartbeats = Heartbeats {
                    topic,
                    replies: replies.clone(),
                    served: served_now.clone(),
                    gate: gate.clone(),
                    executor: executor.clone(),
                    metrics: metrics.clone(),
                    template: template.clone(),
                };
                tasks.spawn(heartbeats.run(discovery, settings.announce_interval, dropped(stopped)));
            }
        }
        let (stop_consumer, stopped) = oneshot::channel();
        let (consuming, consumed) = oneshot::channel();
        tasks.spawn(async move {
            consumer.run(dropped(stopped)).await;
            drop(consuming);
        });
        let stuck = tokio::select! {
            () = shutdown => None,
            stuck = watch_handlers(&executor, settings.handler_stuck_after, &handlers) => Some(stuck),
            panicked = tasks.panicked() => return Err(panicked.into()),
        };

        serving.not_ready(&"shutting down");
        drop(stop_heartbeats);
        drop(stop_consumer);
        let drain = async {
            dropped(consumed).await;
            replies.close(common.drain_timeout).await
        };
        let drained = tokio::select! {
            drained = timeout(common.drain_timeout + SHUTDOWN_GRACE, drain) => drained.unwrap_or(false),
            panicked = tasks.panicked() => return Err(panicked.into()),
        };
        if !drained {
            warn!("requests were still unanswered at the end of the drain");
        }
        tasks.abort_all();
        if let Some(admin) = admin {
            admin.stop().await;
        }
        info!("drained");
        stuck.map_or(Ok(()), |stuck| Err(stuck.into()))
    }
}

/// The reply topics that this worker writes heartbeats to. The first one takes the replies to requests without an address.
fn own_reply_topics(allowed: &ReplyTopics, pong_topic: &str, has_ping: bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if has_ping || allowed.allows(pong_topic) || allowed.names().next().is_none() {
        names.push(pong_topic.to_owned());
    }
    for name in allowed.names() {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Resolves when a handler has run for too long.
async fn watch_handlers(executor: &Executor, limit: Duration, health_check: &HealthCheck) -> HandlerStuck {
    let mut checks = interval(STUCK_CHECK_INTERVAL.min(limit));
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        checks.tick().await;
        if let Some(oldest) = executor.oldest().filter(|oldest| *oldest > limit) {
            let stuck = HandlerStuck(oldest);
            health_check.not_ready(&stuck);
            return stuck;
        }
    }
}

/// Where the partitions come from: a group, or the settings.
fn assignment(
    settings: &Settings,
    topics: &[String],
    cluster: &Arc<Cluster>,
    tasks: &Tasks,
    readiness: &Readiness,
) -> Assignment {
    if settings.worker_group.is_some() {
        let subscription = Subscription {
            topics: topics.to_vec(),
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
    let discovery = |topic: &String| PartitionDiscovery::new(cluster, topic, partitions.clone());
    Assignment::Static(topics.iter().map(discovery).collect())
}

/// A client of the coordinator of this worker's group.
fn coordinator(settings: &Settings, cluster: &Arc<Cluster>) -> Coordinator {
    Coordinator::new(cluster, group(settings).to_owned())
}

/// The group of this worker's offsets.
fn group(settings: &Settings) -> &str {
    settings.worker_group.as_ref().unwrap_or(&settings.position_group)
}

/// Resolves when the sender is dropped.
async fn dropped(signal: DropSignal) {
    let _ = signal.await;
}

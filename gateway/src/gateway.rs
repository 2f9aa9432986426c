//! A gateway from its ports to its end.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use kafka::{Cluster, LANES, Outbox, OutboxMetrics, OutboxSettings, Partition, Start, Survey, Tail, TailMetrics};
use prometheus_client::registry::Registry;
use shared::{
    admin::Admin,
    config::Partitions,
    readiness::Readiness,
    server::{BindError, Limits, Server, bind},
    tasks::{Panicked, Tasks},
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use crate::{
    Settings,
    bodies::Bodies,
    descriptors,
    front::Front,
    mailbox::Mailbox,
    metrics::{FrontMetrics, ReplyMetrics},
    pending::Pending,
    replies,
    requests::SendReceipts,
};

/// Requests that may wait for Kafka, in bytes.
const OUTBOX_BYTES: usize = 16 << 20;

/// What the shutdown may take beyond the drain: writing the last answers, and flushing the last records.
const LAST_ANSWERS: Duration = Duration::from_millis(400);

/// A gateway that has its ports.
#[derive(Debug)]
pub struct Gateway {
    settings: Settings,
    http: TcpListener,
    admin: TcpListener,
}

// === impl Gateway ===

impl Gateway {
    /// Binds the ports.
    ///
    /// # Errors
    /// When one is in use or not ours to have.
    pub async fn bind(settings: Settings) -> Result<Self, BindError> {
        let http = bind("HTTP_ADDR", settings.http_addr)?;
        let admin = bind("ADMIN_ADDR", settings.admin_addr)?;
        Ok(Self { settings, http, admin })
    }

    /// Where callers connect.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn http_addr(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Where the admin listener is.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn admin_addr(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves until `shutdown` resolves, then drains.
    ///
    /// # Errors
    /// When a part of it panicked.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Panicked> {
        let Self { settings, http, admin } = self;
        let common = &settings.common;
        let readiness = Readiness::default();
        let mut registry = Registry::with_prefix("gateway");
        let metrics = FrontMetrics::register(&mut registry);
        let tasks = Tasks::default();

        let cluster = Arc::new(Cluster::new(
            "gateway",
            common.kafka_brokers.clone(),
            vec![common.ping_topic.clone(), common.pong_topic.clone()],
        ));
        let pending = Pending::new(
            settings.max_in_flight,
            settings.reply_timeout,
            metrics.in_flight.clone(),
            metrics.abandoned.clone(),
        );
        let outbox = Outbox::new(
            OutboxSettings {
                lanes: LANES,
                max_bytes: OUTBOX_BYTES,
                patience: Duration::ZERO,
            },
            SendReceipts(pending.clone()),
            readiness.condition("outbox"),
            OutboxMetrics::register(&mut registry),
        );
        tasks.spawn_endless(write_to(
            settings.request_partitions,
            Arc::clone(&cluster),
            common.ping_topic.clone(),
            outbox.clone(),
            tasks.clone(),
        ));
        let mailbox = Arc::new(Mailbox::new(
            &cluster,
            &common.pong_topic,
            settings.reply_partition,
            settings.hostname,
            settings.wire_headers,
            settings.reply_timeout,
        ));
        tasks.spawn_endless({
            let (mailbox, pending) = (Arc::clone(&mailbox), pending.clone());
            let condition = readiness.condition("replies");
            let tail_metrics = TailMetrics::register(&mut registry);
            let metrics = ReplyMetrics::register(&mut registry);
            async move {
                let partition = mailbox.open(&condition).await;
                let tail_metrics = tail_metrics.of(partition.number());
                let tail = Tail::new(partition, Start::Latest, condition, tail_metrics);
                replies::run(tail, pending, metrics).await
            }
        });
        tasks.spawn_endless(pending.clone().expire());

        let serving = readiness.condition("serving");
        serving.met();
        let admin = Admin::spawn(admin, readiness, registry);
        let front = Front {
            pending: pending.clone(),
            outbox: outbox.clone(),
            mailbox,
            metrics,
            bodies: Bodies::new(
                usize::try_from(settings.max_body.as_u64()).unwrap_or(usize::MAX),
                settings.header_timeout,
            ),
        };
        let server = Server::new(
            http,
            Limits {
                max_connections: descriptors::room_for(settings.max_connections),
                header_timeout: settings.header_timeout,
            },
        );
        let serve = async {
            let connections = server.serve(front, shutdown).await;
            serving.unmet(&"shutting down");
            let deadline = Instant::now() + common.drain_timeout;
            let last_word = async {
                sleep_until(deadline).await;
                pending.shut_down();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = connections.finish(common.drain_timeout + LAST_ANSWERS) => {}
                () = last_word => {}
            }
            if !outbox.flush(LAST_ANSWERS).await {
                warn!("records were still unsent at the end of the drain");
            }
        };
        tokio::select! {
            () = serve => {}
            panicked = tasks.panicked() => return Err(panicked),
        }
        tasks.abort_all();
        admin.stop().await;
        info!("drained");
        Ok(())
    }
}

/// Has the outbox write to these partitions of the topic.
async fn write_to(
    partitions: Partitions,
    cluster: Arc<Cluster>,
    topic: String,
    outbox: Outbox<SendReceipts>,
    tasks: Tasks,
) -> Infallible {
    let mut survey = Survey::new(&cluster, &topic, partitions);
    loop {
        for partition in survey.next().await {
            outbox.add(&tasks, Partition::new(&cluster, &topic, partition));
        }
    }
}

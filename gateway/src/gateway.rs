//! The gateway process: wiring, serving, and the order of its shutdown.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use kafka::{
    Cluster, ConsumerMetrics, MAX_PRODUCER_CONNECTIONS, Partition, PartitionConsumer, PartitionDiscovery, Producer,
    ProducerMetrics, ProducerSettings, Rebalance, Security, Start, WhenHeldFull,
};
use prometheus_client::registry::Registry;
use shared::{
    admin::Admin,
    config::Partitions,
    process::Fatal,
    readiness::Readiness,
    server::{Limits, Server, bind},
    tasks::{TaskPanicked, Tasks},
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use crate::{
    Settings,
    body::BodyReader,
    descriptors,
    in_flight::InFlight,
    metrics::{ReplyMetrics, RequestMetrics},
    replies,
    reply_address::ReplyAddress,
    service::GatewayService,
};

/// Records that wait in the producer, in bytes.
const PRODUCER_BYTES: usize = 16 << 20;

/// Time after `DRAIN_TIMEOUT` to write the last responses, and again as much to send the last records.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(400);

/// A gateway whose ports are bound.
#[derive(Debug)]
pub struct Gateway {
    settings: Settings,
    security: Security,
    http: TcpListener,
    admin: TcpListener,
}

// === impl Gateway ===

impl Gateway {
    /// Binds the ports.
    ///
    /// # Errors
    /// When a port is in use, or needs a privilege; when a certificate or a password cannot be read.
    pub async fn bind(settings: Settings) -> Result<Self, Fatal> {
        let security = Security::new(&settings.common.kafka)?;
        let http = bind("HTTP_ADDR", settings.http_addr)?;
        let admin = bind("ADMIN_ADDR", settings.admin_addr)?;
        Ok(Self {
            settings,
            security,
            http,
            admin,
        })
    }

    /// The address that callers connect to.
    ///
    /// # Errors
    /// When the system does not tell the address of the socket.
    pub fn http_addr(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// The address of the admin listener.
    ///
    /// # Errors
    /// When the system does not tell the address of the socket.
    pub fn admin_addr(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves until `shutdown` resolves, then drains: no new connections; requests in flight get their responses;
    /// at `DRAIN_TIMEOUT` the rest get 503; the producer is closed; the admin listener ends last.
    ///
    /// # Errors
    /// When a task panicked.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), TaskPanicked> {
        let Self {
            settings,
            security,
            http,
            admin,
        } = self;
        let drain_timeout = settings.common.drain_timeout;
        let readiness = Readiness::default();
        let mut registry = Registry::with_prefix("gateway");
        let tasks = Tasks::default();

        let service = wire(&settings, security, &tasks, &readiness, &mut registry);
        let (in_flight, producer) = (service.in_flight.clone(), service.producer.clone());
        let body_reader = Arc::clone(&service.body_reader);

        let serving = readiness.health_check("serving");
        serving.ready();
        let admin = Admin::spawn(admin, readiness, registry);
        let server = Server::new(
            http,
            Limits {
                max_connections: descriptors::max_connections(settings.max_connections),
                header_timeout: settings.header_timeout,
                idle_timeout: settings.idle_timeout,
            },
        );
        let serve = async {
            let connections = server.serve(service, shutdown).await;
            serving.not_ready(&"shutting down");
            let deadline = Instant::now() + drain_timeout;
            let fail_the_rest = async {
                sleep_until(deadline).await;
                in_flight.shut_down();
                body_reader.shut_down();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = connections.finish(drain_timeout + SHUTDOWN_GRACE) => {}
                () = fail_the_rest => {}
            }
            if !producer.close(SHUTDOWN_GRACE).await {
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

/// Builds the service, and starts the tasks behind it: the producer of the request topic and the consumer of the reply topic.
fn wire(
    settings: &Settings,
    security: Security,
    tasks: &Tasks,
    readiness: &Readiness,
    registry: &mut Registry,
) -> GatewayService {
    let common = &settings.common;
    let metrics = RequestMetrics::register(registry);
    let cluster = Arc::new(Cluster::new(
        common.kafka.kafka_client_id.as_deref().unwrap_or("gateway"),
        common.kafka.kafka_brokers.clone(),
        security,
        vec![common.ping_topic.clone(), common.pong_topic.clone()],
    ));
    let in_flight = InFlight::new(
        settings.max_in_flight,
        settings.reply_timeout,
        metrics.in_flight.clone(),
        metrics.abandoned.clone(),
    );

    let producer = Producer::new(
        ProducerSettings {
            connections: MAX_PRODUCER_CONNECTIONS,
            max_bytes: PRODUCER_BYTES,
            // A record is sent once: a repeated request would be executed twice.
            delivery_timeout: Duration::ZERO,
            in_flight: Some(metrics.in_flight.clone()),
        },
        in_flight.clone(),
        readiness.health_check("outbox"),
        ProducerMetrics::register(registry),
    );
    tasks.spawn_endless(follow_partitions(
        producer.clone(),
        settings.request_partitions.clone(),
        Arc::clone(&cluster),
        common.ping_topic.clone(),
        tasks.clone(),
    ));

    let reply_address = Arc::new(ReplyAddress::new(
        &cluster,
        &common.pong_topic,
        settings.reply_partition,
        settings.hostname.clone(),
        settings.wire_headers,
        settings.reply_timeout,
    ));
    tasks.spawn_endless(read_replies(
        Arc::clone(&reply_address),
        in_flight.clone(),
        readiness.clone(),
        ConsumerMetrics::register(registry),
        ReplyMetrics::register(registry),
    ));

    GatewayService {
        in_flight,
        producer,
        reply_address,
        metrics,
        body_reader: Arc::new(BodyReader::new(
            usize::try_from(settings.max_body.as_u64()).unwrap_or(usize::MAX),
            settings.header_timeout,
        )),
    }
}

/// Adds the partitions of the request topic to the producer, including those created later, and removes those that the topic
/// no longer has.
async fn follow_partitions(
    producer: Producer<InFlight>,
    partitions: Partitions,
    cluster: Arc<Cluster>,
    topic: String,
    tasks: Tasks,
) -> Infallible {
    let mut discovery = PartitionDiscovery::new(&cluster, &topic, partitions);
    loop {
        match discovery.next().await {
            Rebalance::Assigned(added) => {
                for partition in added {
                    producer.add_partition(&tasks, Partition::new(&cluster, &topic, partition));
                }
            }
            Rebalance::Revoked(removed) => {
                for partition in removed {
                    producer.remove_partition(partition);
                }
            }
            // Only a group loses partitions.
            Rebalance::Lost => {}
        }
    }
}

/// Chooses the reply partition, and reads it until another one has to be chosen.
async fn read_replies(
    reply_address: Arc<ReplyAddress>,
    in_flight: InFlight,
    readiness: Readiness,
    consumer_metrics: ConsumerMetrics,
    reply_metrics: ReplyMetrics,
) -> Infallible {
    let mut health_check = readiness.health_check("replies");
    loop {
        let partition = reply_address.choose_partition(&health_check).await;
        let number = partition.number();
        let consumer = PartitionConsumer::new(
            partition,
            Start::Latest,
            // No caller waits as long as it takes to fill the memory for open transactions.
            WhenHeldFull::DropOldest,
            health_check,
            consumer_metrics.for_partition(number),
        );
        // The next health check is there before the consumer drops its own: the gateway is not ready in between.
        let removed = async {
            reply_address.partition_removed(number).await;
            in_flight.not_ready();
            let next = readiness.health_check("replies");
            next.not_ready(&format_args!("the reply topic no longer has partition {number}"));
            next
        };
        health_check = tokio::select! {
            never = replies::run(consumer, in_flight.clone(), reply_metrics.clone()) => match never {},
            next = removed => next,
        };
    }
}

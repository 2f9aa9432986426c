//! A gateway from its ports to its end.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use kafka::{
    Cluster, ConsumerMetrics, MAX_PRODUCER_CONNECTIONS, Partition, PartitionConsumer, PartitionDiscovery, Producer,
    ProducerMetrics, ProducerSettings, Start,
};
use prometheus_client::registry::Registry;
use shared::{
    admin::Admin,
    config::Partitions,
    readiness::Readiness,
    server::{BindError, Limits, Server, bind},
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

/// Requests that may wait for Kafka, in bytes.
const BUFFER_BYTES: usize = 16 << 20;

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
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), TaskPanicked> {
        let Self { settings, http, admin } = self;
        let common = &settings.common;
        let readiness = Readiness::default();
        let mut registry = Registry::with_prefix("gateway");
        let metrics = RequestMetrics::register(&mut registry);
        let tasks = Tasks::default();

        let cluster = Arc::new(Cluster::new(
            "gateway",
            common.kafka_brokers.clone(),
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
                max_bytes: BUFFER_BYTES,
                delivery_timeout: Duration::ZERO,
                in_flight: Some(metrics.in_flight.clone()),
            },
            in_flight.clone(),
            readiness.health_check("outbox"),
            ProducerMetrics::register(&mut registry),
        );
        tasks.spawn_endless(write_to(
            settings.request_partitions,
            Arc::clone(&cluster),
            common.ping_topic.clone(),
            producer.clone(),
            tasks.clone(),
        ));
        let reply_address = Arc::new(ReplyAddress::new(
            &cluster,
            &common.pong_topic,
            settings.reply_partition,
            settings.hostname,
            settings.wire_headers,
            settings.reply_timeout,
        ));
        tasks.spawn_endless({
            let (reply_address, in_flight) = (Arc::clone(&reply_address), in_flight.clone());
            let health_check = readiness.health_check("replies");
            let consumer_metrics = ConsumerMetrics::register(&mut registry);
            let metrics = ReplyMetrics::register(&mut registry);
            async move {
                let partition = reply_address.open(&health_check).await;
                let consumer_metrics = consumer_metrics.for_partition(partition.number());
                let consumer = PartitionConsumer::new(partition, Start::Latest, health_check, consumer_metrics);
                replies::run(consumer, in_flight, metrics).await
            }
        });

        let serving = readiness.health_check("serving");
        serving.ready();
        let admin = Admin::spawn(admin, readiness, registry);
        let service = GatewayService {
            in_flight: in_flight.clone(),
            producer: producer.clone(),
            reply_address,
            metrics,
            body_reader: BodyReader::new(
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
            let connections = server.serve(service, shutdown).await;
            serving.not_ready(&"shutting down");
            let deadline = Instant::now() + common.drain_timeout;
            let last_word = async {
                sleep_until(deadline).await;
                in_flight.shut_down();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = connections.finish(common.drain_timeout + LAST_ANSWERS) => {}
                () = last_word => {}
            }
            if !producer.close(LAST_ANSWERS).await {
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

/// Has the producer write to these partitions of the topic.
async fn write_to(
    partitions: Partitions,
    cluster: Arc<Cluster>,
    topic: String,
    producer: Producer<InFlight>,
    tasks: Tasks,
) -> Infallible {
    let mut discovery = PartitionDiscovery::new(&cluster, &topic, partitions);
    loop {
        for partition in discovery.next().await {
            producer.add_partition(&tasks, Partition::new(&cluster, &topic, partition));
        }
    }
}

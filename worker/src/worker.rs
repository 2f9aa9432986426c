//! A worker from its port to its end.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc};

use prometheus_client::registry::Registry;
use shared::{
    admin::Admin,
    kafka::{Cluster, Outbox, OutboxMetrics, OutboxSettings, Partition, Tail, TailMetrics},
    readiness::Readiness,
    server::{BindError, bind},
    tasks::{Panicked, Tasks},
};
use tokio::{net::TcpListener, sync::oneshot, time::timeout};
use tracing::{info, warn};

use crate::{
    Settings,
    metrics::Metrics,
    requests::{self, ReplyReceipts},
};

/// The partition of both topics that the contract names.
const PARTITION: i32 = 0;

/// Connections to produce with: the measured optimum on a small machine, and a bound on a large one.
const LANES: usize = 4;

/// Replies that may wait for Kafka, in bytes; then no more requests are read.
const OUTBOX_BYTES: usize = 1 << 20;

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
        let admin = bind("ADMIN_ADDR", settings.admin_addr).await?;
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
        let mut tasks = Tasks::default();

        let cluster = Arc::new(Cluster::new(
            "worker",
            common.kafka_brokers.clone(),
            vec![common.ping_topic.clone(), common.pong_topic.clone()],
        ));
        let outbox = Outbox::spawn(
            &mut tasks,
            Partition::new(&cluster, &common.pong_topic, PARTITION),
            OutboxSettings {
                lanes: LANES,
                max_bytes: OUTBOX_BYTES,
                resend: true,
            },
            ReplyReceipts(metrics.clone()),
            readiness.condition("outbox"),
            OutboxMetrics::register(&mut registry),
        );
        let tail = Tail::new(
            Partition::new(&cluster, &common.ping_topic, PARTITION),
            settings.start_from.into(),
            readiness.condition("requests"),
            TailMetrics::register(&mut registry),
        );
        let serving = readiness.condition("serving");
        serving.met();
        let admin = Admin::spawn(admin, readiness, registry);

        let (stop, stopped) = oneshot::channel::<Infallible>();
        let mut answering = pin!(requests::run(tail, outbox.clone(), metrics, async {
            // Nothing is ever sent: the end of the sender is the signal.
            let _ = stopped.await;
        }));
        tokio::select! {
            // It is not stopped yet, and does not end by itself.
            () = &mut answering => {}
            () = shutdown => {}
            panicked = tasks.panicked() => return Err(panicked),
        }
        serving.unmet(&"shutting down");
        drop(stop);
        let drain = async {
            // What is read already: it waits for room in the outbox only.
            answering.await;
            outbox.flush(common.drain_timeout).await
        };
        if !timeout(common.drain_timeout, drain).await.unwrap_or(false) {
            warn!("requests were still unanswered at the end of the drain");
        }
        drop(tasks);
        admin.stop().await;
        info!("drained");
        Ok(())
    }
}

//! Starts broker, worker and gateway, and stops them in order.

use broker::Broker;
use gateway::Gateway;
use shared::{process::Fatal, server::BindError, signals::Signals};
use tokio::sync::oneshot;
use tracing::info;
use worker::binary;

use crate::{
    settings::AllInOne,
    welcome::{self, Addresses},
};

/// Runs all parts until the first signal. Shutdown order: gateway, worker, broker, so that requests in flight get their
/// replies.
pub(crate) async fn run(mut settings: AllInOne, signals: Signals) -> Result<(), Fatal> {
    settings.gateway.create_topics.get_or_insert(true);
    let (stop_broker, on_stop_broker) = oneshot::channel::<()>();
    let mut broker = None;
    if settings.has_built_in_broker() {
        let bound = Broker::bind(settings.broker_addr).await;
        let built_in = bound.map_err(|source| BindError::new("BROKER_ADDR", settings.broker_addr, source))?;
        info!(addr = %built_in.local_addr(), "built-in broker");
        settings.gateway.common.kafka.kafka_brokers = vec![built_in.local_addr().to_string()];
        // Dropping the sender stops the broker too.
        broker = Some(tokio::spawn(built_in.run(async { _ = on_stop_broker.await })));
    }
    let worker = binary::bind(settings.worker()).await?;
    let brokers = settings.gateway.common.kafka.kafka_brokers.join(",");
    let gateway = Gateway::bind(settings.gateway).await?;
    let addresses = Addresses {
        http: gateway.http_addr()?,
        gateway_admin: gateway.admin_addr()?,
        worker_admin: worker.admin_addr()?,
        brokers,
    };
    let welcome = welcome::print_when_ready(addresses, gateway.examples());

    let (stop_worker, on_stop_worker) = oneshot::channel::<()>();
    let mut worker = tokio::spawn(worker.run(async { _ = on_stop_worker.await }));
    let gateway = async {
        tokio::select! {
            ended = gateway.run(signals.shutdown()) => ended,
            never = welcome => match never {},
        }
    };
    tokio::select! {
        ended = gateway => ended?,
        // The worker ends before the gateway only by a defect.
        ended = &mut worker => return ended?,
    }
    drop(stop_worker);
    worker.await??;
    drop(stop_broker);
    if let Some(broker) = broker {
        broker.await?;
    }
    Ok(())
}

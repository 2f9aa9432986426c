//! The parts, from their ports to their end.

use broker::Broker;
use gateway::Gateway;
use shared::{process::Fatal, server::BindError, signals::Signals};
use tokio::sync::oneshot;
use tracing::info;
use worker::Worker;

use crate::{settings::AllInOne, welcome};

/// Runs all parts until the first signal. They end in the order of a request's way: what the gateway has in flight is
/// still answered by the others.
pub(crate) async fn run(mut settings: AllInOne, signals: Signals) -> Result<(), Fatal> {
    let (end_broker, broker_ended) = oneshot::channel::<()>();
    let mut broker = None;
    if settings.has_own_broker() {
        let bound = Broker::bind(settings.broker_addr).await;
        let own = bound.map_err(|source| BindError::new("BROKER_ADDR", settings.broker_addr, source))?;
        info!(addr = %own.local_addr(), "built-in broker");
        settings.gateway.common.kafka_brokers = vec![own.local_addr().to_string()];
        // Dropping the sender is as good as sending.
        broker = Some(tokio::spawn(own.run(async { _ = broker_ended.await })));
    }
    let worker = Worker::bind(settings.worker()).await?;
    let gateway = Gateway::bind(settings.gateway).await?;
    let welcome = welcome::print_when_ready(gateway.http_addr()?, gateway.admin_addr()?, worker.admin_addr()?);

    let (end_worker, worker_ended) = oneshot::channel::<()>();
    let mut worker = tokio::spawn(worker.run(async { _ = worker_ended.await }));
    let gateway = async {
        tokio::select! {
            ended = gateway.run(signals.shutdown()) => ended,
            never = welcome => match never {},
        }
    };
    tokio::select! {
        ended = gateway => ended?,
        // Before the gateway's end it ends for a defect only.
        ended = &mut worker => return ended?.map_err(Fatal::from),
    }
    drop(end_worker);
    worker.await??;
    drop(end_broker);
    if let Some(broker) = broker {
        broker.await?;
    }
    Ok(())
}

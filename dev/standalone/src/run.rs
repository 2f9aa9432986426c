//! Builds the parts from the settings, and runs them.

use std::collections::BTreeSet;

use broker::Broker;
use gateway::{Example, Gateway};
use shared::{process::Fatal, server::BindError, signals::Signals};
use standalone::{echo, parts::Parts};
use tracing::info;
use worker::binary::{self, Engine};

use crate::{
    settings::AllInOne,
    welcome::{self, Welcome},
};

/// Runs all parts until the first signal.
pub(crate) async fn run(mut settings: AllInOne, signals: Signals) -> Result<(), Fatal> {
    settings.gateway.create_topics.get_or_insert(true);
    let mut broker = None;
    if settings.has_built_in_broker() {
        let bound = Broker::bind(settings.broker_addr).await;
        let built_in = bound.map_err(|source| BindError::new("BROKER_ADDR", settings.broker_addr, source))?;
        info!(addr = %built_in.local_addr(), "built-in broker");
        settings.gateway.common.kafka.kafka_brokers = vec![built_in.local_addr().to_string()];
        broker = Some(built_in);
    }
    let gateway = Gateway::bind(settings.gateway.clone()).await?;
    let examples = gateway.examples();
    let worker = match broker {
        Some(_) => built_in_services(&settings, &examples)?,
        // The topics of a cluster have services of their own.
        None => Some(binary::bind(settings.worker()).await?),
    };
    let welcome = Welcome {
        http: gateway.http_addr()?,
        admin: gateway.admin_addr()?,
        brokers: settings.gateway.common.kafka.kafka_brokers.join(","),
        has_built_in_broker: broker.is_some(),
        examples,
    };
    let parts = Parts {
        broker,
        gateway,
        worker,
    };
    let start_up = parts.start_up()?;
    tokio::select! {
        ended = parts.run(signals.shutdown()) => ended,
        never = welcome::print_when_ready(start_up, welcome) => match never {},
    }
}

/// The worker for the routes of the built-in broker; `None` if it would have no topic.
fn built_in_services(settings: &AllInOne, routes: &[Example]) -> Result<Option<Engine>, Fatal> {
    if !settings.echo && !routes.iter().any(|route| route.is_ping) {
        return Ok(None);
    }
    let reply_topics: BTreeSet<_> = routes.iter().filter_map(|route| route.reply_topic.clone()).collect();
    let mut worker_settings = settings.worker();
    worker_settings.set_reply_topics(reply_topics);
    let worker = echo::add_handlers(binary::worker(worker_settings), routes, settings.echo);
    binary::bind_worker(worker).map(Some)
}

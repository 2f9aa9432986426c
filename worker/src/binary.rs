//! What the binary serves: the `/ping` handler, or an HTTP server. And what `dev/standalone` needs, which runs a worker beside a
//! broker and a gateway.

use shared::process::Fatal;

use crate::{
    Worker,
    forward::Forward,
    handler::{Handler, Service},
    ping,
};

pub use crate::{engine::Engine, settings::Settings};

/// Builds the worker of the binary and binds its admin port.
///
/// # Errors
/// When the address is in use or not permitted; when a certificate or a password cannot be read.
pub async fn bind(settings: Settings) -> Result<Engine, Fatal> {
    let name = settings.common.kafka.kafka_client_id.clone();
    let name = name.unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned());
    let topics = settings.topics.clone();
    let forward = settings
        .forward_to
        .clone()
        .map(|to| Forward::new(to, settings.forward_reply_headers.clone()));
    let ping_topic = settings.common.ping_topic.clone();
    let worker = worker(settings).identity(&name, env!("CARGO_PKG_VERSION"));
    let worker = match forward {
        None => answer_pings(worker, &ping_topic),
        Some(forward) => {
            let worker = topics.iter().fold(worker, |worker, topic| {
                let forward = forward.clone();
                worker.topic(topic, move |request| forward.clone().send(request))
            });
            worker.while_reachable(forward)
        }
    };
    bind_worker(worker)
}

/// A worker with these settings, which are valid, and no topic yet.
pub fn worker(settings: Settings) -> Worker {
    Worker::with_settings(settings)
}

/// Answers the pings in a topic.
pub fn answer_pings(worker: Worker, topic: &str) -> Worker {
    let mut ping = Service::new(topic, Handler::inline(ping::answer));
    ping.has_default_address = true;
    worker.service(ping)
}

/// Changes the settings of a worker. It has an admin listener from now on.
pub fn configure(worker: Worker, change: impl FnOnce(&mut Settings)) -> Worker {
    worker.map(|blueprint| {
        change(&mut blueprint.settings);
        blueprint.admin_addr = Some(blueprint.settings.admin_addr);
    })
}

/// Binds the admin port of a worker.
///
/// # Errors
/// As for [`bind`]; when the settings are not valid.
pub fn bind_worker(worker: Worker) -> Result<Engine, Fatal> {
    worker.bind()
}

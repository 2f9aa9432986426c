//! What the binary serves: the `/ping` handler, or an HTTP server.

use shared::process::Fatal;

use crate::{
    Worker,
    engine::Engine,
    forward::Forward,
    handler::{Handler, Service},
    ping,
};

pub use crate::settings::Settings;

/// Builds the worker and binds its admin port.
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
    let mut ping = Service::new(&settings.common.ping_topic, Handler::inline(ping::answer));
    ping.has_default_address = true;
    let worker = Worker::with_settings(settings).identity(&name, env!("CARGO_PKG_VERSION"));
    let worker = match forward {
        None => worker.service(ping),
        Some(forward) => {
            let worker = topics.iter().fold(worker, |worker, topic| {
                let forward = forward.clone();
                worker.topic(topic, move |request| forward.clone().send(request))
            });
            worker.while_reachable(forward)
        }
    };
    worker.bind()
}

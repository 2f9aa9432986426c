//! The parts of the process: how they wait for each other at the start, and stop in order.

use std::{io, net::SocketAddr, time::Duration};

use broker::Broker;
use gateway::Gateway;
use shared::{http_client, process::Fatal, readiness::Readiness};
use tokio::{sync::oneshot, time::sleep};
use worker::binary::Engine;

/// How often readiness is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The parts, with their ports bound.
#[derive(Debug)]
pub struct Parts {
    /// `None`: Kafka is elsewhere.
    pub broker: Option<Broker>,
    /// The gateway.
    pub gateway: Gateway,
    /// `None`: the services are elsewhere.
    pub worker: Option<Engine>,
}

/// Tells when the parts can serve.
#[derive(Debug)]
pub struct StartUp {
    /// Of the gateway and the worker.
    pub admin_addrs: Vec<SocketAddr>,
    /// Of the gateway, if each of its routes is waited for.
    pub routes: Option<Readiness>,
}

// === impl Parts ===

impl Parts {
    /// Tells when gateway and worker can serve, once they run. With the built-in broker, that is every route: its topics are
    /// created.
    ///
    /// # Errors
    /// When the system does not tell the address of a socket.
    pub fn start_up(&self) -> io::Result<StartUp> {
        let worker = self.worker.as_ref().map(Engine::admin_addr).transpose()?;
        Ok(StartUp {
            admin_addrs: [self.gateway.admin_addr()?].into_iter().chain(worker).collect(),
            routes: self.broker.as_ref().map(|_| self.gateway.readiness()),
        })
    }

    /// Runs all parts until `shutdown` resolves. They stop in the order gateway, worker, broker, so that requests in flight get
    /// their replies.
    ///
    /// # Errors
    /// When a part fails.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Fatal> {
        let Self {
            broker,
            gateway,
            worker,
        } = self;
        // Dropping a sender stops its part, too.
        let (stop_broker, on_stop_broker) = oneshot::channel::<()>();
        let (stop_worker, on_stop_worker) = oneshot::channel::<()>();
        let broker = broker.map(|broker| tokio::spawn(broker.run(async { _ = on_stop_broker.await })));
        let mut worker = tokio::spawn(async {
            match worker {
                Some(worker) => worker.run(async { _ = on_stop_worker.await }).await,
                None => {
                    let _ = on_stop_worker.await;
                    Ok(())
                }
            }
        });
        tokio::select! {
            ended = gateway.run(shutdown) => ended?,
            // The worker ends before the gateway only by a defect, or because a handler is stuck.
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
}

// === impl StartUp ===

impl StartUp {
    /// Waits until all parts are ready.
    pub async fn ready(&self) {
        for admin_addr in &self.admin_addrs {
            while self.causes(*admin_addr).await.is_some() {
                sleep(POLL_INTERVAL).await;
            }
        }
        // The health checks are there, since the gateway was ready.
        while !self.routes.as_ref().is_none_or(Readiness::is_complete) {
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Why a part is not ready; `None` if it is.
    async fn causes(&self, admin_addr: SocketAddr) -> Option<String> {
        match http_client::get(admin_addr, "/ready").await {
            Ok(response) if response.status == 200 => None,
            Ok(response) => Some(response.body),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Why the parts are not ready.
    pub async fn all_causes(&self) -> String {
        let mut causes = Vec::new();
        for admin_addr in &self.admin_addrs {
            causes.extend(self.causes(*admin_addr).await);
        }
        causes.join(", ")
    }
}

//! The gateway process: wiring, serving, and the order of its shutdown.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use kafka::Security;
use prometheus_client::registry::Registry;
use shared::{
    admin::{Admin, Page},
    process::Fatal,
    readiness::Readiness,
    server::{Limits, Server, bind},
    tasks::{TaskPanicked, Tasks},
};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use crate::{Example, Settings, descriptors, routes::Routes, start::Starter, workers::Workers};

/// Time after `DRAIN_TIMEOUT` to write the last responses, and again as much to send the last records.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(400);

/// A gateway whose ports are bound.
#[derive(Debug)]
pub struct Gateway {
    settings: Settings,
    routes: Routes,
    security: Security,
    readiness: Readiness,
    http: TcpListener,
    admin: TcpListener,
}

// === impl Gateway ===

impl Gateway {
    /// Binds the ports.
    ///
    /// # Errors
    /// When a port is in use, or needs a privilege; when a certificate, a password or the routes cannot be read.
    pub async fn bind(settings: Settings) -> Result<Self, Fatal> {
        let routes = settings.read_routes()?;
        let security = Security::new(&settings.common.kafka)?;
        let http = bind("HTTP_ADDR", settings.http_addr)?;
        let admin = bind("ADMIN_ADDR", settings.admin_addr)?;
        Ok(Self {
            settings,
            routes,
            security,
            readiness: Readiness::default(),
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

    /// The health checks of its parts, once it runs.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Requests to try, in the order of the routes.
    #[must_use]
    pub fn examples(&self) -> Vec<Example> {
        self.routes.list.iter().flat_map(Example::of_route).collect()
    }

    /// Serves until `shutdown` resolves, then drains: no new connections; requests in flight get their responses;
    /// at `DRAIN_TIMEOUT` the rest get an error; the producer is closed; the admin listener ends last.
    ///
    /// # Errors
    /// When a task panicked.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), TaskPanicked> {
        let Self {
            settings,
            routes,
            security,
            readiness,
            http,
            admin,
        } = self;
        let drain_timeout = settings.common.drain_timeout;
        let mut registry = Registry::with_prefix("gateway");
        let tasks = Tasks::default();

        let topics = routes.topics().into_iter().map(|route| route.topic.clone());
        let workers = Workers::new(topics.collect());
        registry.register_collector(Box::new(workers.clone()));
        let starter = Starter {
            settings: &settings,
            security,
            tasks: &tasks,
            readiness: &readiness,
            registry: &mut registry,
            workers: workers.clone(),
        };
        let service = starter.start(routes);
        let in_flight = service.in_flight.clone();
        let topics: Vec<_> = service.routes.iter().map(|route| Arc::clone(&route.topic)).collect();
        let body_reader = Arc::clone(&service.body_reader);

        let serving = readiness.health_check("serving");
        serving.ready();
        let pages = vec![Page::new("/workers", move || workers.json(Instant::now()))];
        let admin = Admin::spawn(admin, readiness, registry, pages);
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
            // Routes share topics: to close one again is harmless.
            let mut closing = JoinSet::new();
            for topic in topics {
                closing.spawn(async move { topic.close(SHUTDOWN_GRACE).await });
            }
            if !closing.join_all().await.into_iter().all(|is_empty| is_empty) {
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

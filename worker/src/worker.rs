//! The worker as its users see it: topics with handlers, and the life of the process.

use std::{fmt, thread, time::Duration};

use clap::parser::ValueSource;
use shared::{config, process, process::Settings as _};
use tokio::{
    runtime::{Builder, Handle},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{
    Error, Failure, Reply, Request, Settings,
    engine::{Blueprint, Engine},
    forward::Forward,
    handler::{Handler, Service},
};

/// The bound on a handler whose request has no deadline.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest bound.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// A worker: topics, each with its handler.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use worker::{Failure, Reply, Request, Worker};
///
/// #[derive(Deserialize)]
/// struct Order {
///     sku: String,
///     quantity: u32,
/// }
///
/// #[derive(Serialize)]
/// struct Placed {
///     id: u64,
/// }
///
/// async fn place(request: Request) -> Result<Reply, Failure> {
///     let order: Order = request.json()?;
///     if order.quantity == 0 {
///         return Err(Failure::new(422, "quantity must not be 0"));
///     }
///     let id = 7;
///     Ok(Reply::json(&Placed { id })?.status(201).header("location", format!("/orders/{id}")))
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<(), worker::Error> {
///     Worker::from_env().topic("orders", place).serve().await
/// }
/// ```
#[must_use = "a worker does nothing before it serves"]
pub struct Worker {
    blueprint: Result<Blueprint, String>,
    /// The settings were checked before.
    is_validated: bool,
}

// === impl Worker ===

impl Worker {
    /// A worker with the settings in the environment: `KAFKA_BROKERS`, `WORKER_GROUP` and so on. The arguments of the process are
    /// not read. `/live`, `/ready` and `/metrics` are served only if `ADMIN_ADDR` is set. `RUST_LOG` and `LOG_FORMAT` are the
    /// host's. A bad value is an error of [`Worker::serve`].
    pub fn from_env() -> Self {
        let blueprint = config::from_env::<Settings>().map(|(settings, sources)| {
            let is_set = sources.value_source("admin_addr") == Some(ValueSource::EnvVariable);
            let admin_addr = is_set.then_some(settings.admin_addr);
            Blueprint {
                admin_addr,
                ..blueprint(settings)
            }
        });
        Self {
            blueprint,
            is_validated: false,
        }
    }

    /// A worker with these settings, which are valid.
    pub(crate) fn with_settings(settings: Settings) -> Self {
        Self {
            blueprint: Ok(blueprint(settings)),
            is_validated: true,
        }
    }

    /// Handles the requests of a topic. Its handler is spawned on the runtime that [`Worker::serve`] is called on. A second
    /// handler of a topic replaces the first one. A name that no topic can have is an error of [`Worker::serve`].
    pub fn topic<F, R>(self, name: &str, handle: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reply, Failure>> + Send + 'static,
    {
        self.service(Service::new(name, Handler::spawned(handle)))
    }

    /// Answers the requests of a topic with a quick function without I/O. It runs on the thread that reads Kafka, without the
    /// cost of a task: while it runs, nothing else does, and one that blocks costs the membership of the group. The bound on
    /// concurrent handlers does not count it. Requests without a caller are handled as those of [`Worker::topic`].
    pub fn answer<F>(self, name: &str, answer: F) -> Self
    where
        F: Fn(&Request) -> Result<Reply, Failure> + Send + Sync + 'static,
    {
        self.service(Service::new(name, Handler::inline(answer)))
    }

    pub(crate) fn service(self, service: Service) -> Self {
        self.map(|blueprint| blueprint.services.push(service))
    }

    /// Sets how many handlers run at a time, over all topics and partitions; 0 counts as 1. The default is `CONCURRENCY`, which
    /// is 64.
    pub fn concurrency(self, handlers: usize) -> Self {
        self.map(|blueprint| blueprint.settings.concurrency = handlers.max(1))
    }

    /// Sets the bound on a handler whose request has no deadline, an hour at most. The default is 60 s; 0 is an error of
    /// [`Worker::serve`]. A caller of such a request then gets 504 `the service took too long`. `HANDLER_STUCK_AFTER` must be
    /// longer, and longer than the longest timeout of a route: it ends the worker.
    pub fn default_timeout(self, timeout: Duration) -> Self {
        self.map(|blueprint| blueprint.default_timeout = timeout.min(MAX_TIMEOUT))
    }

    /// Sets the name and the version of the service, which its heartbeats tell and the gateway's `/workers` shows. The default
    /// name is `KAFKA_CLIENT_ID`; without that it is empty.
    pub fn identity(self, name: &str, version: &str) -> Self {
        self.map(|blueprint| blueprint.identity = (name.to_owned(), version.to_owned()))
    }

    /// Pauses while the HTTP server is not there.
    pub(crate) fn while_reachable(self, forward: Forward) -> Self {
        self.map(|blueprint| blueprint.forward = Some(forward))
    }

    /// Serves until SIGTERM or SIGINT, and drains: see the guarantees of the crate. It catches both signals from then on, also
    /// after it has returned; a second one does nothing. A program with signal handlers of its own uses [`Worker::serve_until`].
    ///
    /// It must be called in a tokio runtime. An unreachable Kafka or a missing topic is no error: the worker keeps trying.
    ///
    /// # Errors
    /// [`Error::Settings`] at once. [`Error::Failed`] when it cannot start, or when a handler is stuck.
    pub async fn serve(self) -> Result<(), Error> {
        let (stop, stopped) = oneshot::channel();
        let running = self.start(async move {
            tokio::select! {
                result = terminated() => result,
                _ = stopped => Ok(()),
            }
        })?;
        let result = running.await;
        drop::<oneshot::Sender<()>>(stop);
        ended(result)
    }

    /// Serves until `shutdown` resolves, and drains. It catches no signal.
    ///
    /// It returns up to `DRAIN_TIMEOUT` and a second after `shutdown` resolves: keep the runtime until then. If its future is
    /// dropped, the worker drains as well, and its end is not waited for.
    ///
    /// ```no_run
    /// # async fn host(service: worker::Worker) -> Result<(), Box<dyn std::error::Error>> {
    /// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    /// let serving = tokio::spawn(service.serve_until(async {
    ///     let _ = stopped.await;
    /// }));
    /// // The host does its own work here.
    /// drop(stop);
    /// serving.await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Worker::serve`].
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let (stop, stopped) = oneshot::channel::<()>();
        let mut running = self.start(async move {
            // An error means that the sender was dropped: that asks for a shutdown as well.
            let _ = stopped.await;
            Ok(())
        })?;
        tokio::select! {
            result = &mut running => return ended(result),
            () = shutdown => drop(stop),
        }
        ended(running.await)
    }

    /// Starts the thread of the engine.
    fn start<S>(self, shutdown: S) -> Result<oneshot::Receiver<Result<(), process::Fatal>>, Error>
    where
        S: Future<Output = Result<(), process::Fatal>> + Send + 'static,
    {
        let blueprint = self.validated().map_err(Error::Settings)?;
        let handlers = Handle::current();
        let (done, result) = oneshot::channel();
        let run = move || -> Result<(), process::Fatal> {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let result = runtime.block_on(async {
                let engine = Engine::bind(blueprint)?;
                let mut failed: Result<(), process::Fatal> = Ok(());
                let shutdown = async { failed = shutdown.await };
                engine.run_with_handlers_on(handlers, shutdown).await?;
                failed
            });
            // Dropping the runtime would wait for blocking tasks, such as a DNS lookup of a broker without an answer.
            runtime.shutdown_background();
            result
        };
        let thread = thread::Builder::new().name("worker".to_owned());
        let spawned = thread.spawn(move || {
            // An error means that the future of the user was dropped.
            let _ = done.send(run());
        });
        spawned.map_err(|error| Error::Failed(error.into()))?;
        Ok(result)
    }

    /// Binds the admin port.
    pub(crate) fn bind(self) -> Result<Engine, process::Fatal> {
        Engine::bind(self.validated()?)
    }

    fn validated(self) -> Result<Blueprint, String> {
        let blueprint = self.blueprint?;
        if self.is_validated {
            return Ok(blueprint);
        }
        if blueprint.services.is_empty() {
            return Err("the worker has no topic".to_owned());
        }
        if blueprint.default_timeout.is_zero() {
            return Err("the default timeout is 0: it must be longer".to_owned());
        }
        blueprint.settings.validate()?;
        let topics = blueprint.services.iter().map(|service| &**service.topic());
        for topic in topics.clone() {
            config::topic(topic).map_err(|allowed| format!("{topic:?} is not allowed: it must be {allowed}"))?;
        }
        blueprint.settings.validate_topics(topics)?;
        Ok(blueprint)
    }

    pub(crate) fn map(mut self, change: impl FnOnce(&mut Blueprint)) -> Self {
        if let Ok(blueprint) = &mut self.blueprint {
            change(blueprint);
        }
        self
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

fn blueprint(settings: Settings) -> Blueprint {
    let name = settings.common.kafka.kafka_client_id.as_deref();
    Blueprint {
        admin_addr: Some(settings.admin_addr),
        services: Vec::new(),
        default_timeout: DEFAULT_TIMEOUT,
        identity: (name.unwrap_or_default().to_owned(), String::new()),
        forward: None,
        settings,
    }
}

/// The result of the thread; an error means that it panicked.
fn ended(result: Result<Result<(), process::Fatal>, oneshot::error::RecvError>) -> Result<(), Error> {
    let result = result.unwrap_or_else(|_panicked| Err("the thread of the worker panicked".into()));
    result.map_err(Error::Failed)
}

/// Resolves at SIGTERM or SIGINT.
async fn terminated() -> Result<(), process::Fatal> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

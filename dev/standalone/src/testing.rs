//! The process in a test of a service.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    thread,
    time::Duration,
};

use broker::Broker;
use clap::{CommandFactory, FromArgMatches, builder::Resettable};
use gateway::{Gateway, Settings};
use shared::{config::Partitions, process::Fatal};
use tokio::{runtime::Builder, sync::oneshot, time::timeout};
use worker::{Worker, binary};

use crate::parts::Parts;

/// Any free port of the loopback.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Bound on the start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Broker, gateway and a service, ready for HTTP requests. Dropping it stops them.
#[derive(Debug)]
pub struct Standalone {
    http: SocketAddr,
    brokers: String,
    /// Dropped, it stops the parts.
    _stop: oneshot::Sender<()>,
}

// === impl Standalone ===

impl Standalone {
    /// Starts a broker, a gateway with this file of routes, and `worker`, and waits until every route can be served. The topics
    /// are created, with one partition each.
    ///
    /// They have threads of their own, so a test may use a blocking HTTP client. The gateway has its default settings. Of the
    /// worker's settings in the environment, those that say where Kafka is, what it reads and where it replies are replaced.
    ///
    /// # Errors
    /// When the file of routes or a setting is not valid; when the worker has a topic without a route, and when it is not ready
    /// within 30 s.
    pub async fn start(routes: impl AsRef<Path>, worker: Worker) -> Result<Self, Fatal> {
        let routes = routes.as_ref().to_owned();
        let (started, starting) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || -> Result<(), Fatal> {
            let runtime = Builder::new_multi_thread().enable_all().build()?;
            let result = runtime.block_on(async {
                let (parts, brokers) = bind(&routes, worker).await?;
                let http = parts.gateway.http_addr()?;
                let start_up = parts.start_up()?;
                let mut started = Some(started);
                let report = async {
                    let ready = timeout(START_LIMIT, start_up.ready()).await;
                    let result = match ready {
                        Ok(()) => Ok((http, brokers)),
                        Err(_) => Err(format!(
                            "not ready within {START_LIMIT:?}: {}",
                            start_up.all_causes().await
                        )),
                    };
                    // An error means that the test has ended.
                    _ = started.take().map(|started| started.send(result));
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    ended = parts.run(async { _ = stopped.await }) => ended,
                    () = report => Ok(()),
                }
            });
            runtime.shutdown_background();
            result
        };
        let (done, ended) = oneshot::channel();
        thread::Builder::new().name("standalone".to_owned()).spawn(move || {
            // An error means that the test has ended.
            _ = done.send(run());
        })?;
        let (http, brokers) = tokio::select! {
            biased;
            Ok(started) = starting => started?,
            ended = ended => {
                ended.unwrap_or_else(|_panicked| Err("it panicked at the start".into()))?;
                return Err("it ended at the start".into());
            }
        };
        Ok(Self {
            http,
            brokers,
            _stop: stop,
        })
    }

    /// The URL of a path on the gateway.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// The address of the gateway.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// `host:port` of the broker, for a Kafka client of the test.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }
}

async fn bind(routes: &Path, worker: Worker) -> Result<(Parts, String), Fatal> {
    let broker = Broker::bind(ANY_PORT).await?;
    let brokers = broker.local_addr().to_string();
    let settings = gateway_settings(&brokers, routes)?;
    let common = settings.common.clone();
    let gateway = Gateway::bind(settings).await?;
    let reply_topics: BTreeSet<_> = gateway
        .examples()
        .into_iter()
        .filter_map(|route| route.reply_topic)
        .collect();
    let worker = binary::configure(worker, |settings| {
        settings.common = common;
        settings.admin_addr = ANY_PORT;
        settings.worker_group = None;
        // The one of each topic. Listed, it is waited for.
        settings.partitions = Some(Partitions::Listed([0].into()));
        settings.set_reply_topics(reply_topics);
    });
    let worker = binary::bind_worker(worker)?;
    let parts = Parts {
        broker: Some(broker),
        gateway,
        worker: Some(worker),
    };
    Ok((parts, brokers))
}

/// The default settings, whatever the environment has.
fn gateway_settings(brokers: &str, routes: &Path) -> Result<Settings, Fatal> {
    let mut args: Vec<OsString> = [
        "gateway",
        "--kafka-brokers",
        brokers,
        "--http-addr",
        &ANY_PORT.to_string(),
        "--admin-addr",
        &ANY_PORT.to_string(),
        "--create-topics=true",
        "--drain-timeout=1s",
        "--routes",
    ]
    .map(OsString::from)
    .into();
    args.push(routes.into());
    let command = Settings::command().mut_args(|argument| argument.env(Resettable::Reset));
    Ok(Settings::from_arg_matches(&command.try_get_matches_from(args)?)?)
}

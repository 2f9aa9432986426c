//! Builds the service from the routes, and starts the tasks behind it: the producers of each request topic and the consumer of
//! each reply topic.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use kafka::{
    Cluster, ConsumerMetrics, PartitionConsumer, ProducerMetrics, Security, Start, TopicPartition, WhenHeldFull,
};
use prometheus_client::registry::Registry;
use shared::{
    readiness::{HealthCheck, HealthCheckId, Readiness},
    tasks::Tasks,
};
use tracing::{info, warn};

use crate::{
    Settings,
    admission::RouteLimits,
    body::BodyReader,
    in_flight::InFlight,
    metrics::{ReplyMetrics, RequestMetrics},
    replies::{self, Observers},
    reply_address::{AddressHeaders, ReplyAddress, new_gateway_id},
    request_topic::RequestTopic,
    routes::{Route, Routes},
    service::{GatewayService, RouteService},
    unusable_replies::UnusableReplies,
    watched_topic::WatchedTopic,
    workers::Workers,
};

/// A request topic with a reply topic: the unit of admission.
type TopicPair<'a> = (&'a str, &'a str);

/// What is needed to build a service.
#[derive(Debug)]
pub(crate) struct Starter<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) security: Security,
    pub(crate) tasks: &'a Tasks,
    pub(crate) readiness: &'a Readiness,
    pub(crate) registry: &'a mut Registry,
    pub(crate) workers: Workers,
}

/// By name, with the id of the health check.
type RequestTopics = BTreeMap<String, (Arc<RequestTopic>, HealthCheckId)>;
type ReplyAddresses = BTreeMap<String, (Arc<ReplyAddress>, HealthCheckId)>;

// === impl Starter ===

impl Starter<'_> {
    /// Starts everything.
    pub(crate) fn start(mut self, routes: Routes) -> GatewayService {
        let unused = self.settings.unused();
        if !unused.is_empty() {
            warn!(settings = unused.join(", "), "without effect: ROUTES names the topics");
        }
        let metrics = RequestMetrics::register(self.registry);
        let route_metrics: Vec<_> = routes.list.iter().map(|route| metrics.route(route)).collect();
        let pairs = topic_pairs(&routes.list);
        let in_flight = InFlight::new(
            self.settings.max_in_flight,
            &routes
                .list
                .iter()
                .map(|route| limits(route, &pairs))
                .collect::<Vec<_>>(),
            metrics.in_flight.clone(),
            route_metrics.iter().map(|metrics| metrics.gauges.clone()).collect(),
        );
        let common = &self.settings.common;
        let cluster = Arc::new(Cluster::new(
            common.kafka.kafka_client_id.as_deref().unwrap_or("gateway"),
            common.kafka.kafka_brokers.clone(),
            self.security.clone(),
            own_topics(self.settings, &routes),
        ));

        let topics = request_topics(&routes, &in_flight, self.readiness, self.registry);
        for (topic, _) in topics.values() {
            let discovery = Arc::clone(topic).follow_partitions(Arc::clone(&cluster), self.tasks.clone());
            self.tasks.spawn_endless(discovery);
        }
        let unusable = UnusableReplies::default();
        let addresses = self.read_replies(&routes, &cluster, &in_flight, &pairs, &topics, &unusable);
        self.readiness
            .set_alternatives(alternatives(&routes, &topics, &addresses));

        let gateway_id = new_gateway_id();
        let services = routes.list.into_iter().zip(route_metrics).enumerate();
        let services = services.filter_map(|(index, (route, metrics))| {
            log(&route);
            let address = route.reply_topic.as_ref().and_then(|topic| addresses.get(topic));
            let address = address.map(|(address, _)| Arc::clone(address));
            Some(RouteService {
                index,
                topic: Arc::clone(&topics.get(&route.topic)?.0),
                address: AddressHeaders::new(address, route.dialect, Arc::clone(&gateway_id), route.timeout),
                route,
                metrics,
            })
        });
        GatewayService {
            router: routes.router,
            routes: services.collect(),
            in_flight,
            metrics,
            body_reader: Arc::new(BodyReader::new(self.settings.header_timeout)),
            unusable,
        }
    }

    /// Starts a consumer for each reply topic.
    fn read_replies(
        &mut self,
        routes: &Routes,
        cluster: &Arc<Cluster>,
        in_flight: &InFlight,
        pairs: &[TopicPair<'_>],
        topics: &RequestTopics,
        unusable: &UnusableReplies,
    ) -> ReplyAddresses {
        let names = routes.reply_topics();
        if names.is_empty() {
            return BTreeMap::new();
        }
        let consumer_metrics = ConsumerMetrics::register(self.registry);
        let observers = Observers {
            metrics: ReplyMetrics::register(self.registry),
            workers: self.workers.clone(),
            unusable: unusable.clone(),
        };
        let addresses = names.into_iter().map(|name| {
            let health_check = self.readiness.health_check(format!("replies in {name}"));
            let id = health_check.id();
            let (setting, hostname) = (self.settings.reply_partition, self.settings.hostname.clone());
            let address = Arc::new(ReplyAddress::new(cluster, name, setting, hostname));
            let watched = pairs
                .iter()
                .enumerate()
                .filter(|(_, (_, reply_topic))| *reply_topic == name);
            let watched = watched.map(|(index, (topic, _))| {
                let request_topic = topics.get(*topic).map(|(topic, _)| Arc::clone(topic));
                WatchedTopic::new(index, topic, request_topic)
            });
            let reader = ReplyReader {
                reply_address: Arc::clone(&address),
                in_flight: in_flight.clone(),
                topics: watched.collect(),
                health_check,
                consumer_metrics: consumer_metrics.clone(),
                observers: observers.clone(),
            };
            self.tasks.spawn_endless(reader.run());
            (name.to_owned(), (address, id))
        });
        addresses.collect()
    }
}

/// The distinct pairs, in the order of the routes.
fn topic_pairs(routes: &[Route]) -> Vec<TopicPair<'_>> {
    let mut pairs = Vec::new();
    for pair in routes.iter().filter_map(pair) {
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    pairs
}

fn pair(route: &Route) -> Option<TopicPair<'_>> {
    Some((&route.topic, route.reply_topic.as_deref()?))
}

fn limits(route: &Route, pairs: &[TopicPair<'_>]) -> RouteLimits {
    RouteLimits {
        timeout: route.timeout,
        max_in_flight: route.max_in_flight,
        topic: pair(route).and_then(|pair| pairs.iter().position(|other| *other == pair)),
    }
}

/// The topics that are created where they are missing.
fn own_topics(settings: &Settings, routes: &Routes) -> Vec<String> {
    if !settings.create_topics.unwrap_or(settings.routes.is_none()) {
        return Vec::new();
    }
    let request_topics = routes.topics().into_iter().map(|route| route.topic.as_str());
    request_topics.chain(routes.reply_topics()).map(str::to_owned).collect()
}

fn request_topics(
    routes: &Routes,
    in_flight: &InFlight,
    readiness: &Readiness,
    registry: &mut Registry,
) -> RequestTopics {
    let metrics = ProducerMetrics::register(registry);
    let topics = routes.topics().into_iter().map(|first| {
        let health_check = readiness.health_check(format!("requests to {}", first.topic));
        let id = health_check.id();
        let has = |is_keyed: bool| {
            let mut of_topic = routes.list.iter().filter(|route| route.topic == first.topic);
            of_topic.any(|route| route.key.is_some() == is_keyed)
        };
        let topic = RequestTopic::new(
            &first.topic,
            first.partitions.clone(),
            (has(false), has(true)),
            in_flight.clone(),
            health_check,
            metrics.clone(),
        );
        (first.topic.clone(), (Arc::new(topic), id))
    });
    topics.collect()
}

/// The gateway is ready while one route can be served.
fn alternatives(routes: &Routes, topics: &RequestTopics, addresses: &ReplyAddresses) -> Vec<Vec<HealthCheckId>> {
    let mut alternatives: Vec<Vec<HealthCheckId>> = Vec::new();
    for route in &routes.list {
        let topic = topics.get(&route.topic).map(|(_, id)| *id);
        let reply_topic = route.reply_topic.as_ref().and_then(|topic| addresses.get(topic));
        let checks = topic.into_iter().chain(reply_topic.map(|(_, id)| *id)).collect();
        if !alternatives.contains(&checks) {
            alternatives.push(checks);
        }
    }
    alternatives
}

fn log(route: &Route) {
    info!(
        on = route.on,
        topic = route.topic,
        reply_topic = route.reply_topic.as_deref().unwrap_or("none"),
        timeout = ?route.timeout,
        max_in_flight = route.max_in_flight,
        "route"
    );
}

/// What reads a reply topic.
struct ReplyReader {
    reply_address: Arc<ReplyAddress>,
    in_flight: InFlight,
    /// As they are before the first heartbeat.
    topics: Vec<WatchedTopic>,
    health_check: HealthCheck,
    consumer_metrics: ConsumerMetrics,
    observers: Observers,
}

// === impl ReplyReader ===

impl ReplyReader {
    /// Chooses the reply partition, and reads it until another one has to be chosen.
    async fn run(self) -> Infallible {
        let mut health_check = self.health_check.part();
        loop {
            let partition = self.reply_address.choose_partition(&health_check).await;
            let number = partition.number();
            let read = TopicPartition::new(&partition.topic().into(), number);
            let consumer_metrics = self.consumer_metrics.for_partition(&partition);
            let consumer = PartitionConsumer::new(
                partition,
                Start::Latest,
                // No caller waits as long as it takes to fill the memory for open transactions.
                WhenHeldFull::DropOldest,
                health_check,
                consumer_metrics,
            );
            let replies = replies::run(
                read,
                consumer,
                self.in_flight.clone(),
                self.topics.clone(),
                self.observers.clone(),
            );
            tokio::select! {
                never = replies => match never {},
                () = self.reply_address.partition_removed(number) => {}
            }
            for topic in &self.topics {
                self.in_flight.not_ready(topic.index());
            }
            // The consumer has dropped its part, so the whole is not ready from now on.
            health_check = self.health_check.part();
            health_check.not_ready(&format_args!("the reply topic no longer has partition {number}"));
        }
    }
}

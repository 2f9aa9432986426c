//! The exchange with Kafka: what is read, the one record that is written, and the wait.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use kafka::{
    Cluster, Coordinator, DeliveryCallback, DeliveryResult, Partition, Producer, ProducerMetrics, ProducerSettings,
    Security, TopicPartition, partition_for_key,
};
use shared::{config::Partitions, error_chain::ErrorChain, readiness::Readiness, tasks::Tasks};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use uuid::Uuid;

use super::{
    Ask, Outcome,
    answer::answer,
    consumers::Consumers,
    findings::{self, Expected, Findings, Progress},
    print,
    request::Request,
};
use crate::{
    Settings,
    reply_address::{ReplyPartition, pick},
};

/// The client id without `KAFKA_CLIENT_ID`.
const CLIENT_ID: &str = "gateway-ask";

/// The most partitions that are read.
const MAX_PLACES: usize = 64;

/// How long to go on after a reply that a gateway would not take: a second one may be right.
const GRACE: Duration = Duration::from_millis(500);

/// How long to wait for heartbeats, at least. Workers send one each second.
const HEARTBEAT_WAIT: Duration = Duration::from_millis(2500);

/// Bound on looking up the committed offset of a group.
const GROUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of records that may wait: more than one record has.
const PRODUCER_BYTES: usize = 2 << 20;

/// Tells the result of the one record.
#[derive(Debug)]
struct Delivery(watch::Sender<Option<DeliveryResult>>);

impl DeliveryCallback for Delivery {
    type Token = ();

    fn on_delivery(&self, _: Vec<()>, result: DeliveryResult) {
        self.0.send_replace(Some(result));
    }
}

/// The producer of the one record.
struct Sender {
    tasks: Tasks,
    producer: Producer<Delivery>,
    result: watch::Receiver<Option<DeliveryResult>>,
    readiness: Readiness,
}

/// Sends the request, waits for its reply, and tells what came.
pub(super) async fn run(ask: &Ask, settings: &Settings, request: &Request, security: Security) -> Outcome {
    let kafka = &settings.common.kafka;
    let client_id = kafka.kafka_client_id.as_deref().unwrap_or(CLIENT_ID);
    // Without topics of its own, nothing is created.
    let cluster = Cluster::new(client_id, kafka.kafka_brokers.clone(), security, Vec::new());
    let cluster = Arc::new(cluster);
    match exchange(ask, settings, request, &cluster).await {
        Ok(outcome) => outcome,
        Err(cause) => Outcome::NotSent(cause),
    }
}

/// # Errors
/// Why the request was not sent.
async fn exchange(
    ask: &Ask,
    settings: &Settings,
    request: &Request,
    cluster: &Arc<Cluster>,
) -> Result<Outcome, String> {
    let id = Uuid::new_v4();
    let request_partition = request_partition(cluster, request).await?;
    let line = format!("{}, id {id}, to {request_partition}", request.line);
    let Some(reply_topic) = &request.route.reply_topic else {
        print(
            &mut io::stdout(),
            &format!("{line}; no reply is awaited: reply = false"),
        );
        return store(cluster, request, id, &request_partition).await;
    };
    let reply = reply_place(cluster, settings, reply_topic).await?;
    let (places, mut notes) = places(cluster, ask, settings, &request_partition, &reply).await?;
    let mut consumers = Consumers::start(cluster, places);
    consumers.wait_for_start().await?;

    print(&mut io::stdout(), &format!("{line}; waiting for the reply in {reply}"));
    let mut findings = Findings::new(Expected {
        id,
        request: request_partition.clone(),
        reply: reply.clone(),
        timeout: request.timeout,
        correlation_name: request.route.dialect.correlation_name(),
    });
    let mut sender = Sender::send(cluster, request, id, &request_partition, Some(&reply));
    notes.extend(wait(request.timeout, &mut findings, &mut consumers, &mut sender).await?);

    if let Some(found) = &findings.reply
        && found.after <= request.timeout
    {
        let came = format!(
            "the reply came to {reply} at offset {} after {:.1?}",
            found.record.offset(),
            found.after
        );
        return Ok(match answer(&found.record, &request.route, !request.has_route) {
            Ok(text) => Outcome::Answered(format!("{came}\n\n{text}")),
            Err(cause) => Outcome::NoReply(vec![came, cause]),
        });
    }
    let mut lines = findings.lines();
    lines.extend(lags(ask, &findings, &consumers, cluster, &request_partition).await);
    lines.extend(consumers.causes());
    lines.extend(notes);
    Ok(Outcome::NoReply(lines))
}

/// Writes a record that gets no reply.
async fn store(
    cluster: &Arc<Cluster>,
    request: &Request,
    id: Uuid,
    request_partition: &TopicPartition,
) -> Result<Outcome, String> {
    let mut sender = Sender::send(cluster, request, id, request_partition, None);
    // An error means that the time is over; the producer lives.
    let delivered = sender.result.wait_for(Option::is_some);
    drop(timeout(request.timeout, delivered).await);
    let result = *sender.result.borrow();
    match result {
        Some(DeliveryResult::Acknowledged) => Ok(Outcome::Answered(
            "stored: all in-sync replicas have the record; its caller gets 202".to_owned(),
        )),
        result => Err(sender.problem(result, request_partition)),
    }
}

/// Reads until the reply is there, or the time is over. Returns what is to be said of the record.
///
/// # Errors
/// Why the record is not in the log.
async fn wait(
    limit: Duration,
    findings: &mut Findings,
    consumers: &mut Consumers,
    sender: &mut Sender,
) -> Result<Option<String>, String> {
    let begun = Instant::now();
    let mut end = begun + limit;
    let request_partition = findings.request_partition().clone();
    loop {
        tokio::select! {
            Ok(()) = sender.result.changed() => {
                let result = *sender.result.borrow_and_update();
                if let Some(DeliveryResult::NotSent | DeliveryResult::Refused) = result {
                    return Err(sender.problem(result, &request_partition));
                }
            }
            (place, records) = consumers.next() => {
                for record in &records {
                    match findings.on_record(&place, record, begun.elapsed()) {
                        Progress::Nothing => {}
                        Progress::Unusable => end = end.min(Instant::now() + GRACE),
                        Progress::Reply => return Ok(None),
                    }
                }
            }
            () = sleep_until(end) => {
                let heard_enough = begun + HEARTBEAT_WAIT;
                if end >= heard_enough || !findings.has_no_worker() {
                    break;
                }
                end = heard_enough;
            }
        }
    }
    let result = *sender.result.borrow();
    Ok(match result {
        Some(DeliveryResult::Acknowledged) => None,
        result => Some(sender.problem(result, &request_partition)),
    })
}

/// The partition that the record goes to, as the gateway would choose it.
async fn request_partition(cluster: &Cluster, request: &Request) -> Result<TopicPartition, String> {
    let name = &request.route.topic;
    let topic = cluster.describe_topic(name).await;
    let topic = topic.map_err(|error| ErrorChain(&error).to_string())?;
    if !topic.can_write {
        return Err(format!("topic {name}: this user may not write to it"));
    }
    let all = 0..i32::try_from(topic.partitions).unwrap_or(i32::MAX);
    let partition = match (&request.key, &request.route.partitions) {
        (Some(key), _) => i32::try_from(partition_for_key(key, topic.partitions)).ok(),
        (None, Partitions::All) => one_of(&all.collect::<Vec<_>>()),
        (None, Partitions::Listed(listed)) => one_of(
            &listed
                .iter()
                .copied()
                .filter(|number| all.contains(number))
                .collect::<Vec<_>>(),
        ),
    };
    let partition = partition.ok_or_else(|| {
        let wanted = &request.route.partitions;
        format!("topic {name}: it has {} partitions, none of {wanted}", topic.partitions)
    })?;
    Ok(TopicPartition::new(&name.as_str().into(), partition))
}

/// The partition that the gateway would read.
async fn reply_place(cluster: &Cluster, settings: &Settings, name: &str) -> Result<TopicPartition, String> {
    let topic = cluster.describe_topic(name).await;
    let topic = topic.map_err(|error| format!("the reply topic: {}", ErrorChain(&error)))?;
    if !topic.can_read {
        return Err(format!("reply topic {name}: this user may not read it"));
    }
    let all: BTreeSet<i32> = (0..i32::try_from(topic.partitions).unwrap_or(i32::MAX)).collect();
    let partition = match settings.reply_partition {
        ReplyPartition::Fixed(number) => Some(number).filter(|number| all.contains(number)),
        ReplyPartition::Auto => pick(&all, settings.hostname.as_deref()),
    };
    let wanted = settings.reply_partition;
    let partition =
        partition.ok_or_else(|| format!("reply topic {name}: it has no partition {wanted} (REPLY_PARTITION)"))?;
    Ok(TopicPartition::new(&name.into(), partition))
}

/// What is read: the place of the reply, that of the request, and then those of misplaced replies. The second part says what is
/// not.
async fn places(
    cluster: &Cluster,
    ask: &Ask,
    settings: &Settings,
    request_partition: &TopicPartition,
    reply: &TopicPartition,
) -> Result<(Vec<TopicPartition>, Vec<String>), String> {
    let (mut places, mut notes) = (vec![reply.clone(), request_partition.clone()], Vec::new());
    let routes = settings.read_routes()?;
    let usual = [
        reply.topic.to_string(),
        request_partition.topic.to_string(),
        settings.common.pong_topic.clone(),
        // NestJS replies there by default.
        format!("{}.reply", request_partition.topic),
    ];
    let of_routes = routes.reply_topics().into_iter().map(str::to_owned);
    let mut topics: Vec<String> = Vec::new();
    for topic in ask.also_read.iter().cloned().chain(usual).chain(of_routes) {
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    for topic in topics {
        match cluster.describe_topic(&topic).await {
            Ok(described) if described.can_read => {
                let name: Arc<str> = topic.into();
                let all = 0..i32::try_from(described.partitions).unwrap_or(i32::MAX);
                for place in all.map(|partition| TopicPartition::new(&name, partition)) {
                    if !places.contains(&place) {
                        places.push(place);
                    }
                }
            }
            Ok(_) => notes.push(format!("topic {topic} was not read: this user may not")),
            Err(error) if ask.also_read.contains(&topic) => notes.push(ErrorChain(&error).to_string()),
            // It need not exist.
            Err(_) => {}
        }
    }
    if places.len() > MAX_PLACES {
        notes.push(format!(
            "{} partitions were not read: {MAX_PLACES} are the most",
            places.len() - MAX_PLACES
        ));
        places.truncate(MAX_PLACES);
    }
    Ok((places, notes))
}

/// A line for each group that may be the service's.
async fn lags(
    ask: &Ask,
    findings: &Findings,
    consumers: &Consumers,
    cluster: &Arc<Cluster>,
    request_partition: &TopicPartition,
) -> Vec<String> {
    let groups: BTreeSet<String> = ask.group.iter().cloned().chain(findings.groups()).collect();
    if groups.is_empty() {
        return vec!["the lag of the service is unknown: name its consumer group in --group".to_owned()];
    }
    let mut lines = Vec::new();
    for group in groups {
        let mut coordinator = Coordinator::new(cluster, group.clone());
        let partition = request_partition.partition;
        let partitions = [partition];
        let committed = coordinator.committed(None, &request_partition.topic, &partitions);
        lines.push(match timeout(GROUP_TIMEOUT, committed).await {
            Ok(Ok(committed)) => {
                let committed = committed.get(&partition).map(|committed| committed.offset);
                let (offset, end) = (findings.request_offset(), consumers.end(request_partition));
                findings::lag(&group, request_partition, committed, offset, end)
            }
            Ok(Err(error)) => format!("the lag of group {group:?} is unknown: {}", ErrorChain(&error)),
            Err(_) => format!("the lag of group {group:?} is unknown: no answer within {GROUP_TIMEOUT:?}"),
        });
    }
    lines
}

fn one_of(numbers: &[i32]) -> Option<i32> {
    match numbers.len() {
        0 => None,
        count => numbers.get(fastrand::usize(..count)).copied(),
    }
}

// === impl Sender ===

impl Sender {
    /// Hands the record of a request to a producer of its own.
    fn send(
        cluster: &Arc<Cluster>,
        request: &Request,
        id: Uuid,
        request_partition: &TopicPartition,
        reply: Option<&TopicPartition>,
    ) -> Self {
        let (delivered, result) = watch::channel(None);
        let (tasks, readiness) = (Tasks::default(), Readiness::default());
        let settings = ProducerSettings {
            connections: 1,
            max_bytes: PRODUCER_BYTES,
            // It is sent once, as the gateway does.
            delivery_timeout: Duration::ZERO,
            in_flight: None,
        };
        let health_check = readiness.health_check("the producer");
        let producer = Producer::new(settings, Delivery(delivered), health_check, ProducerMetrics::default());
        let partition = Partition::new(cluster, &request_partition.topic, request_partition.partition);
        producer.add_partition(&tasks, partition);
        let deadline = Instant::now() + request.timeout;
        // There is room for one record.
        let _ = producer.try_send(request.record(id, reply), (), Some(deadline));
        Self {
            tasks,
            producer,
            result,
            readiness,
        }
    }

    /// Why the record is not, or may not be, in the log.
    fn problem(&self, result: Option<DeliveryResult>, request_partition: &TopicPartition) -> String {
        let causes = self.readiness.not_ready().into_iter();
        let cause = causes.map(|(_, cause)| format!(": {cause}")).next().unwrap_or_default();
        match result {
            Some(DeliveryResult::Refused) => format!(
                "{request_partition} refuses the record for good{cause}; is it larger than max.message.bytes of the topic?"
            ),
            Some(DeliveryResult::NotSent) => format!("the record was not written to {request_partition}{cause}"),
            _ => format!("{request_partition} has not acknowledged the record: it may have been written{cause}"),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.producer.abandon();
        self.tasks.abort_all();
    }
}

//! Serves one partition: polls its requests, and answers each or hands it to the executor. An offset is acknowledged with the
//! reply's outcome.
//!
//! - It waits for buffer space, never for the acknowledgement of a reply.
//! - It does not poll while as many requests are unfinished as may be.
//! - It polls only after the start offset was offered to Kafka.
//! - Once stopped, it polls no further and waits up to the drain timeout for the replies in flight.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use kafka::{
    Cluster, ConsumedRecord, ConsumerMetrics, OffsetTracker, Partition, PartitionConsumer, Start, TopicPartition,
    WhenHeldFull,
};
use shared::{
    headers::{ReplyTo, TRACEPARENT},
    log_limiter::LogLimiter,
    readiness::Readiness,
};
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, Id, JoinSet, yield_now},
    time::sleep,
};
use tracing::{debug, warn};

use crate::{
    Request,
    attempts::panicked,
    executor::Executor,
    expiry::{Expiry, Remaining},
    failure::Kind,
    handler::{Handler, Service},
    job::{Job, Phase, wait_for},
    metrics::Metrics,
    reply_producers::ReplyProducers,
    reply_topics::ReplyTopics,
    send_reply::{UnsentReply, send_reply},
    skipped::Skipped,
    truncated::Truncated,
};

/// Requests answered before the producers get to send. A fetch can return thousands, and the broker's CPU cost is per
/// batch.
const YIELD_INTERVAL: usize = 1024;

/// The handle of a running partition worker.
#[derive(Debug)]
pub(crate) struct PartitionWorker {
    offsets: Arc<OffsetTracker>,
    phase: Arc<watch::Sender<Phase>>,
    task: AbortHandle,
}

/// What all partition workers share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) cluster: Arc<Cluster>,
    /// The handlers, by request topic.
    pub(crate) services: Arc<BTreeMap<Arc<str>, Service>>,
    pub(crate) executor: Executor,
    pub(crate) reply_topics: Arc<ReplyTopics>,
    pub(crate) replies: ReplyProducers,
    pub(crate) metrics: Metrics,
    pub(crate) consumer_metrics: ConsumerMetrics,
    pub(crate) readiness: Readiness,
    /// How long a stopped worker waits for the replies in flight.
    pub(crate) drain_timeout: Duration,
    /// Notified when a worker knows its start offset, so that it is committed.
    pub(crate) start_known: Arc<Notify>,
}

/// The state of the task.
#[derive(Debug)]
struct Task {
    context: Context,
    partition: TopicPartition,
    service: Service,
    phase: Arc<watch::Sender<Phase>>,
    consumer: PartitionConsumer,
    offsets: Arc<OffsetTracker>,
    expiry: Expiry,
    log_limiter: LogLimiter,
}

// === impl PartitionWorker ===

impl PartitionWorker {
    /// Spawns a worker of `partition` on `running`; the task returns the partition when it ends. `None` for a topic without a
    /// handler.
    pub(crate) fn spawn(
        running: &mut JoinSet<TopicPartition>,
        partition: TopicPartition,
        start: Start,
        context: Context,
    ) -> Option<Self> {
        let service = context.services.get(&partition.topic)?.clone();
        let read = Partition::new(&context.cluster, &partition.topic, partition.partition);
        let metrics = context.consumer_metrics.for_partition(&read);
        let consumer = PartitionConsumer::new(
            read,
            start,
            // Every request counts: it is not read past what it cannot hold.
            WhenHeldFull::Wait,
            context.readiness.health_check(format!("requests of {partition}")),
            metrics,
        );
        let offsets = Arc::new(OffsetTracker::default());
        let phase = Arc::new(watch::Sender::new(Phase::Serving));
        let task = Task {
            context,
            partition: partition.clone(),
            service,
            phase: Arc::clone(&phase),
            consumer,
            offsets: Arc::clone(&offsets),
            expiry: Expiry::new(partition.clone()),
            log_limiter: LogLimiter::default(),
        };
        let task = running.spawn(async move {
            task.run().await;
            partition
        });
        Some(Self { offsets, phase, task })
    }

    /// The id of its task in the [`JoinSet`].
    pub(crate) fn id(&self) -> Id {
        self.task.id()
    }

    /// The offsets in flight.
    pub(crate) fn offsets(&self) -> &OffsetTracker {
        &self.offsets
    }

    /// Stops polling; the requests that were fetched are still answered.
    pub(crate) fn stop(&self) {
        self.phase.send_modify(|phase| *phase = Phase::Stopping.max(*phase));
    }

    /// Cancels the task, and with it the requests in flight and their handlers.
    pub(crate) fn abort(&self) {
        self.phase.send_replace(Phase::Ended);
        self.task.abort();
    }
}

// === impl Task ===

impl Task {
    async fn run(mut self) {
        let stopped = self.phase.subscribe();
        let phase = Arc::clone(&self.phase);
        let drain_timeout = self.context.drain_timeout;
        let drain_timed_out = async {
            wait_for_stop(stopped.clone()).await;
            sleep(drain_timeout).await;
        };
        let serve = async {
            self.serve(wait_for_stop(stopped.clone())).await;
            self.offsets.wait_for_acks().await;
        };
        tokio::select! {
            () = serve => {}
            () = drain_timed_out => {}
        }
        phase.send_replace(Phase::Ended);
    }

    /// Polls and answers until `stop` resolves. A batch that was fetched is answered to its end.
    async fn serve(&mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        tokio::select! {
            biased;
            () = &mut stop => return,
            () = self.offer_start() => {}
        }
        loop {
            let batch = tokio::select! {
                // Biased: under load there is always another batch.
                biased;
                () = &mut stop => return,
                batch = async {
                    self.context.executor.wait_for_room().await;
                    self.offsets.wait_for_room().await;
                    self.consumer.poll().await
                } => batch,
            };
            let offsets = batch.records.iter().map(ConsumedRecord::offset);
            self.offsets.fetched(offsets, batch.position, batch.held_from);
            self.expiry.observe(&batch);
            for (index, record) in batch.records.into_iter().enumerate() {
                if index % YIELD_INTERVAL == YIELD_INTERVAL - 1 {
                    yield_now().await;
                }
                if let Some(unsent) = self.handle(record) {
                    self.send(unsent).await;
                }
            }
            // The producers send these replies before the next fetch.
            yield_now().await;
        }
    }

    /// Waits until the start offset was offered to Kafka. Otherwise another worker could begin a quiet partition at a
    /// later "latest" offset, and skip requests.
    async fn offer_start(&mut self) {
        self.consumer.wait_for_start().await;
        self.offsets.fetched([].into_iter(), self.consumer.position(), None);
        self.context.start_known.notify_one();
        self.offsets.wait_for_start_offered().await;
    }

    /// Answers a request, hands it to the executor, or skips it. Returns a reply that cannot be queued at once.
    fn handle(&mut self, record: ConsumedRecord) -> Option<UnsentReply> {
        let metrics = &self.context.metrics;
        metrics.requests.inc();
        let in_flight = self.offsets.in_flight(record.offset());
        let deadline = match self.expiry.remaining(&record) {
            Remaining::Expired => {
                in_flight.ack();
                metrics.expired.inc();
                return None;
            }
            Remaining::Until(deadline) => Some(deadline),
            Remaining::Unknown => None,
        };
        debug!(
            offset = record.offset(),
            traceparent = record.headers().get(TRACEPARENT).map(|bytes| display(bytes.escape_ascii())),
            value = %Truncated(record.value().unwrap_or_default()),
            "Received message"
        );
        let partition = self.partition.partition;
        let mut request = Request::new(record, self.service.path(), partition, deadline, true);
        let checked = self.reply_to(&request);
        let (reply_to, wants_reply) = match checked {
            Ok(checked) => checked,
            Err(skipped) => {
                in_flight.ack();
                self.skip(&skipped, &request);
                return None;
            }
        };
        match self.service.handler() {
            Handler::Inline(answer) if wants_reply => {
                let answered = catch_unwind(AssertUnwindSafe(|| answer(&request)));
                let outcome = answered.unwrap_or_else(|panic| {
                    self.context.metrics.panics.inc();
                    Err(panicked(&*panic))
                });
                if let Err(failure) = &outcome
                    && failure.kind() == Kind::Failed
                    && failure.status().is_server_error()
                    && let Some(suppressed) = self.log_limiter.allow()
                {
                    warn!(partition = %self.partition, offset = request.offset(), cause = %failure, suppressed, "a handler failed");
                }
                match outcome {
                    Err(failure) if failure.kind() == Kind::Skipped => {
                        in_flight.ack();
                        self.skip(&Skipped::Value(failure), &request);
                        None
                    }
                    outcome => {
                        self.context.metrics.handled(outcome.is_err());
                        send_reply(&self.context.replies, &request, reply_to, outcome, in_flight)
                    }
                }
            }
            Handler::Inline(_) | Handler::Spawned(_) => {
                request.set_wants_reply(wants_reply);
                self.context.executor.submit(Job {
                    request,
                    service: self.service.clone(),
                    in_flight,
                    phase: self.phase.subscribe(),
                    failed_attempts: 0,
                });
                None
            }
        }
    }

    /// Where a reply goes, which is allowed, and whether there is one.
    fn reply_to<'a>(&self, request: &'a Request) -> Result<(ReplyTo<'a>, bool), Skipped> {
        let reply_to = ReplyTo::from_headers(request.record_headers()).map_err(Skipped::Headers)?;
        match reply_to.address {
            None => Ok((reply_to, self.service.has_default_address)),
            Some((topic, _)) if self.context.reply_topics.allows(topic) => Ok((reply_to, true)),
            Some((topic, _)) => Err(Skipped::Refused {
                topic: topic.to_owned(),
            }),
        }
    }

    /// Waits until a reply is queued.
    async fn send(&mut self, unsent: UnsentReply) {
        if let Err((skipped, request)) = unsent.send(&self.context.replies).await {
            self.skip(&skipped, &request);
        }
    }

    fn skip(&mut self, skipped: &Skipped, request: &Request) {
        self.context.metrics.skipped(skipped.reason());
        skipped.log(&mut self.log_limiter, request.record());
    }
}

/// Resolves when the worker is told to stop.
async fn wait_for_stop(mut phase: watch::Receiver<Phase>) {
    wait_for(&mut phase, Phase::Stopping).await;
}

//! Serves one partition: polls its requests, answers each, and acknowledges its offset with the reply's outcome.
//!
//! - It waits for buffer space, never for the acknowledgement of a reply.
//! - It polls only after the start offset was offered to Kafka.
//! - Once stopped, it polls no further and waits up to the drain timeout for the replies in flight.

use std::{pin::pin, sync::Arc, time::Duration};

use kafka::{
    Cluster, ConsumedRecord, ConsumerMetrics, InFlightOffset, OffsetTracker, Partition, PartitionConsumer, Record,
    Start, WhenHeldFull,
};
use shared::{
    headers::{Headers, ReplyTo, TRACEPARENT},
    log_limiter::LogLimiter,
    readiness::Readiness,
};
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, Id, JoinSet, yield_now},
    time::sleep,
};
use tracing::debug;

use crate::{
    delivery::DeliveryToken, expiry::Expiry, metrics::Metrics, ping, reply_producers::ReplyProducers, skipped::Skipped,
    truncated::Truncated,
};

/// Requests answered before the producers get to send. A fetch can return thousands, and the broker's CPU cost is per
/// batch.
const YIELD_INTERVAL: usize = 1024;

/// The handle of a running partition worker.
#[derive(Debug)]
pub(crate) struct PartitionWorker {
    offsets: Arc<OffsetTracker>,
    stop: watch::Sender<bool>,
    task: AbortHandle,
}

/// What all partition workers share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) cluster: Arc<Cluster>,
    /// The request topic.
    pub(crate) topic: String,
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
    consumer: PartitionConsumer,
    offsets: Arc<OffsetTracker>,
    expiry: Expiry,
    log_limiter: LogLimiter,
}

// === impl PartitionWorker ===

impl PartitionWorker {
    /// Spawns a worker of `partition` on `running`; the task returns the partition when it ends.
    pub(crate) fn spawn(running: &mut JoinSet<i32>, partition: i32, start: Start, context: Context) -> Self {
        let consumer = PartitionConsumer::new(
            Partition::new(&context.cluster, &context.topic, partition),
            start,
            // Every request counts: it is not read past what it cannot hold.
            WhenHeldFull::Wait,
            context
                .readiness
                .health_check(format!("requests of partition {partition}")),
            context.consumer_metrics.for_partition(partition),
        );
        let offsets = Arc::new(OffsetTracker::default());
        let (stop, stopped) = watch::channel(false);
        let task = Task {
            context,
            consumer,
            offsets: Arc::clone(&offsets),
            expiry: Expiry::new(partition),
            log_limiter: LogLimiter::default(),
        };
        let task = running.spawn(async move {
            task.run(stopped).await;
            partition
        });
        Self { offsets, stop, task }
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
        self.stop.send_replace(true);
    }

    /// Cancels the task, and with it the requests in flight.
    pub(crate) fn abort(&self) {
        self.task.abort();
    }
}

// === impl Task ===

impl Task {
    async fn run(mut self, stopped: watch::Receiver<bool>) {
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
                batch = self.consumer.poll() => batch,
            };
            let offsets = batch.records.iter().map(ConsumedRecord::offset);
            self.offsets.fetched(offsets, batch.position, batch.held_from);
            self.expiry.observe(&batch);
            for (index, record) in batch.records.iter().enumerate() {
                if index % YIELD_INTERVAL == YIELD_INTERVAL - 1 {
                    yield_now().await;
                }
                self.handle(record).await;
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

    /// Answers a request or skips it.
    async fn handle(&mut self, record: &ConsumedRecord) {
        let metrics = &self.context.metrics;
        metrics.requests.inc();
        let in_flight = self.offsets.in_flight(record.offset());
        if self.expiry.is_expired(record) {
            in_flight.ack();
            metrics.expired.inc();
            return;
        }
        if let Err(skipped) = self.answer(record, in_flight).await {
            self.context.metrics.skipped(skipped.reason());
            skipped.log(&mut self.log_limiter, record);
        }
    }

    /// Answers a request. A skipped request is acknowledged.
    async fn answer(&self, record: &ConsumedRecord, in_flight: InFlightOffset) -> Result<(), Skipped> {
        let value = record.value().unwrap_or_default();
        debug!(
            offset = record.offset(),
            traceparent = record.headers().get(TRACEPARENT).map(|bytes| display(bytes.escape_ascii())),
            value = %Truncated(value),
            "Received message"
        );
        let (reply_to, reply) = match reply(record.headers(), value) {
            Ok(reply) => reply,
            Err(skipped) => {
                in_flight.ack();
                return Err(skipped);
            }
        };
        let is_wanted = || !self.expiry.is_expired(record);
        let token = DeliveryToken::Reply(in_flight);
        let sent = self
            .context
            .replies
            .send(reply_to.address, reply, token, is_wanted)
            .await;
        sent.map_err(|cause| {
            let (topic, partition) = reply_to.address.unwrap_or_default();
            Skipped::Rejected {
                partition: format!("{topic}/{partition}"),
                cause,
            }
        })
    }
}

/// The reply to a request, and its destination.
fn reply<'a>(headers: Headers<'a>, value: &[u8]) -> Result<(ReplyTo<'a>, Record), Skipped> {
    let reply_to = ReplyTo::from_headers(headers).map_err(Skipped::Headers)?;
    let mut reply = ping::reply(value).map_err(Skipped::Value)?;
    reply.headers = reply_to.headers(reply.key.as_deref().unwrap_or_default());
    Ok((reply_to, reply))
}

/// Resolves when the worker is told to stop.
async fn wait_for_stop(mut stopped: watch::Receiver<bool>) {
    // An error means that the handle is gone, which stops the worker too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

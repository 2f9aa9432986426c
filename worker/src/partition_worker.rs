//! A worker: reads the requests of one partition, answers them, and never waits for an answer to be sent.

use std::{pin::pin, sync::Arc, time::Duration};

use kafka::{ConsumedRecord, InFlightOffset, OffsetTracker, PartitionConsumer, Record};
use shared::{
    headers::{Headers, ReplyTo, TRACEPARENT},
    log_limiter::LogLimiter,
};
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet, yield_now},
    time::sleep,
};
use tracing::debug;

use crate::{
    delivery::DeliveryToken, expiry::Expiry, metrics::Metrics, ping::answer, reply_producers::ReplyProducers,
    skipped::Skipped, truncated::Truncated,
};

/// So many requests are answered before the connections get to send: a fetch can bring thousands, and Kafka costs by the frame.
const TURN: usize = 1024;

/// A worker that runs.
#[derive(Debug)]
pub(crate) struct PartitionWorker {
    offsets: Arc<OffsetTracker>,
    /// Told or dropped, it reads no further.
    stop: watch::Sender<bool>,
    task: AbortHandle,
}

/// What a worker works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) consumer: PartitionConsumer,
    pub(crate) replies: ReplyProducers,
    pub(crate) metrics: Metrics,
    pub(crate) expiry: Expiry,
    /// How long it may take to finish what it has read.
    pub(crate) drain: Duration,
    /// Told when the start is fixed.
    pub(crate) fixed: Arc<Notify>,
}

// === impl PartitionWorker ===

impl PartitionWorker {
    /// Starts a worker of `partition`. It ends when it was stopped and what it has read is done.
    pub(crate) fn spawn(running: &mut JoinSet<i32>, partition: i32, context: Context) -> Self {
        let offsets = Arc::new(OffsetTracker::default());
        let (stop, stopped) = watch::channel(false);
        let work = run(context, Arc::clone(&offsets), stopped);
        let task = running.spawn(async move {
            work.await;
            partition
        });
        Self { offsets, stop, task }
    }

    /// Its place among those that run.
    pub(crate) fn id(&self) -> tokio::task::Id {
        self.task.id()
    }

    /// How far it is.
    pub(crate) fn offsets(&self) -> &OffsetTracker {
        &self.offsets
    }

    /// It reads no further, and finishes what it has read.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// It does nothing more.
    pub(crate) fn abort(&self) {
        self.task.abort();
    }
}

async fn run(context: Context, offsets: Arc<OffsetTracker>, stopped: watch::Receiver<bool>) {
    let drain = context.drain;
    let told = async |mut stopped: watch::Receiver<bool>| {
        // An error means that the worker is gone, which stops it as well.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let late = async {
        told(stopped.clone()).await;
        sleep(drain).await;
    };
    let work = async {
        read(context, &offsets, told(stopped.clone())).await;
        offsets.wait_for_acks().await;
    };
    tokio::select! {
        () = work => {}
        () = late => {}
    }
}

/// Reads and answers until `stop` resolves; what it has read by then is still answered.
async fn read(mut context: Context, offsets: &Arc<OffsetTracker>, stop: impl Future<Output = ()>) {
    let mut log_limiter = LogLimiter::default();
    let mut stop = pin!(stop);
    let begin = async {
        context.consumer.wait_for_start().await;
        offsets.fetched([].into_iter(), context.consumer.position());
        context.fixed.notify_one();
        // A quiet partition must not be begun at its newest record again by somebody else.
        offsets.wait_for_start_offered().await;
    };
    tokio::select! {
        biased;
        () = &mut stop => return,
        () = begin => {}
    }
    loop {
        let batch = tokio::select! {
            // In this order: under load there is always something more to read.
            biased;
            () = &mut stop => return,
            batch = context.consumer.poll() => batch,
        };
        offsets.fetched(batch.records.iter().map(ConsumedRecord::offset), batch.position);
        context.expiry.observe(&batch);
        for (index, record) in batch.records.into_iter().enumerate() {
            if index % TURN == TURN - 1 {
                yield_now().await;
            }
            context.metrics.requests.inc();
            let open = offsets.in_flight(record.offset());
            if context.expiry.is_expired(&record) {
                open.ack();
                context.metrics.expired.inc();
                continue;
            }
            let is_wanted = || !context.expiry.is_expired(&record);
            if let Err(skipped) = serve(&context.replies, &record, open, is_wanted).await {
                context.metrics.skipped(skipped.reason());
                skipped.log(&mut log_limiter, &record);
            }
        }
        // The replies leave before more is asked for.
        yield_now().await;
    }
}

/// Answers a request. One that is skipped is done.
async fn serve(
    replies: &ReplyProducers,
    record: &ConsumedRecord,
    open: InFlightOffset,
    is_wanted: impl Fn() -> bool,
) -> Result<(), Skipped> {
    let value = record.value().unwrap_or_default();
    debug!(
        offset = record.offset(),
        traceparent = record.headers().get(TRACEPARENT).map(|it| display(it.escape_ascii())),
        value = %Truncated(value),
        "Received message"
    );
    let (reply_to, reply) = match respond(record.headers(), value) {
        Ok(response) => response,
        Err(skipped) => {
            open.ack();
            return Err(skipped);
        }
    };
    // Waits for room only, and that as long as it holds up nobody.
    let sent = replies
        .send(reply_to.address, reply, DeliveryToken::Reply(open), is_wanted)
        .await;
    sent.map_err(|cause| {
        let (topic, partition) = reply_to.address.unwrap_or_default();
        Skipped::Rejected {
            partition: format!("{topic}/{partition}"),
            cause,
        }
    })
}

/// The reply, and where it goes.
fn respond<'a>(headers: &'a Headers, value: &[u8]) -> Result<(ReplyTo<'a>, Record), Skipped> {
    let reply_to = ReplyTo::from_headers(headers).map_err(Skipped::Headers)?;
    let mut reply = answer(value).map_err(Skipped::Value)?;
    reply.headers = reply_to.headers(&reply.key);
    Ok((reply_to, reply))
}

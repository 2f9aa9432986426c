//! A reader: reads the requests of one partition, answers them, and never waits for an answer to be sent.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kafka::{Batch, Open, Progress, Received, Record, Tail};
use shared::{
    complaints::Complaints,
    wire::{Deadline, Headers, ReplyTo, TRACEPARENT},
};
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet, yield_now},
    time::{Instant, sleep},
};
use tracing::debug;

use crate::{
    answer::answer,
    clocks::{Clocks, Freshness},
    destinations::Destinations,
    excerpt::Excerpt,
    metrics::Metrics,
    receipts::Written,
    skipped::Skipped,
};

/// So many requests are answered before the lanes get to send: a fetch can bring thousands, and Kafka costs by the frame.
const TURN: usize = 1024;

/// A reader that runs.
#[derive(Debug)]
pub(crate) struct Reader {
    progress: Arc<Progress>,
    /// Told or dropped, it reads no further.
    stop: watch::Sender<bool>,
    task: AbortHandle,
}

/// What a reader works with.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) tail: Tail,
    pub(crate) replies: Destinations,
    pub(crate) metrics: Metrics,
    pub(crate) clocks: Clocks,
    /// How long it may take to finish what it has read.
    pub(crate) drain: Duration,
    /// Told when the start is fixed.
    pub(crate) fixed: Arc<Notify>,
}

// === impl Reader ===

impl Reader {
    /// Starts a reader of `partition`. It ends when it was stopped and what it has read is done.
    pub(crate) fn spawn(running: &mut JoinSet<i32>, partition: i32, desk: Desk) -> Self {
        let progress = Arc::new(Progress::default());
        let (stop, stopped) = watch::channel(false);
        let work = run(desk, Arc::clone(&progress), stopped);
        let task = running.spawn(async move {
            work.await;
            partition
        });
        Self { progress, stop, task }
    }

    /// Its place among those that run.
    pub(crate) fn id(&self) -> tokio::task::Id {
        self.task.id()
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
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

async fn run(desk: Desk, progress: Arc<Progress>, stopped: watch::Receiver<bool>) {
    let drain = desk.drain;
    let told = async |mut stopped: watch::Receiver<bool>| {
        // An error means that the reader is gone, which stops it as well.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let late = async {
        told(stopped.clone()).await;
        sleep(drain).await;
    };
    let work = async {
        read(desk, &progress, told(stopped.clone())).await;
        progress.until_all_done().await;
    };
    tokio::select! {
        () = work => {}
        () = late => {}
    }
}

/// Reads and answers until `stop` resolves; what it has read by then is still answered.
async fn read(mut desk: Desk, progress: &Arc<Progress>, stop: impl Future<Output = ()>) {
    let mut complaints = Complaints::default();
    let mut freshness = Freshness::default();
    let mut stop = pin!(stop);
    let begin = async {
        desk.tail.fixed().await;
        progress.read([].into_iter(), desk.tail.position());
        desk.fixed.notify_one();
        // A quiet partition must not be begun at its newest record again by somebody else.
        progress.until_start_offered().await;
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
            batch = desk.tail.next() => batch,
        };
        progress.read(batch.records.iter().map(Received::offset), batch.position);
        watch_clocks(&desk.clocks, &mut freshness, &batch);
        for (index, record) in batch.records.into_iter().enumerate() {
            if index % TURN == TURN - 1 {
                yield_now().await;
            }
            desk.metrics.requests.inc();
            let open = progress.open(record.offset());
            if is_expired(&desk.clocks, &freshness, &record) {
                open.done();
                desk.metrics.expired.inc();
                continue;
            }
            let is_wanted = || !is_expired(&desk.clocks, &freshness, &record);
            if let Err(skipped) = serve(&desk.replies, &record, open, is_wanted).await {
                desk.metrics.skipped(skipped.reason());
                skipped.complain(&mut complaints, &record);
            }
        }
        // The replies leave before more is asked for.
        yield_now().await;
    }
}

/// Learns how far apart the clocks are from requests that have just been written.
fn watch_clocks(clocks: &Clocks, freshness: &mut Freshness, batch: &Batch) {
    let (now, now_ms) = (Instant::now(), since_1970_ms());
    freshness.read(batch.at_end, batch.asked);
    if batch.at_end {
        for record in &batch.records {
            if let Some(deadline) = Deadline::of(record.headers()) {
                clocks.saw(deadline.gateway, behind_ms(record, now_ms), now);
            }
        }
    }
}

/// Whether nobody waits for the reply any more.
fn is_expired(clocks: &Clocks, freshness: &Freshness, record: &Received) -> bool {
    Deadline::of(record.headers()).is_some_and(|it| {
        let now = Instant::now();
        // In this order: what has just come is not looked at any further.
        freshness.limit(now) > it.left && clocks.age(it.gateway, behind_ms(record, since_1970_ms()), now) > it.left
    })
}

/// How far a record's timestamp is behind our clock, in milliseconds.
fn behind_ms(record: &Received, now_ms: i64) -> i64 {
    now_ms.saturating_sub(record.timestamp_ms())
}

/// What our clock says, as Kafka's timestamps do.
fn since_1970_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

/// Answers a request. One that is skipped is done.
async fn serve(
    replies: &Destinations,
    record: &Received,
    open: Open,
    is_wanted: impl Fn() -> bool,
) -> Result<(), Skipped> {
    let value = record.value().unwrap_or_default();
    debug!(
        offset = record.offset(),
        traceparent = record.headers().get(TRACEPARENT).map(|it| display(it.escape_ascii())),
        value = %Excerpt(value),
        "Received message"
    );
    let (reply_to, reply) = match respond(record.headers(), value) {
        Ok(response) => response,
        Err(skipped) => {
            open.done();
            return Err(skipped);
        }
    };
    // Waits for room only, and that as long as it holds up nobody.
    let sent = replies
        .send(reply_to.place, reply, Written::Reply(open), is_wanted)
        .await;
    sent.map_err(|cause| {
        let (topic, partition) = reply_to.place.unwrap_or_default();
        Skipped::Place {
            place: format!("{topic}/{partition}"),
            cause,
        }
    })
}

/// The reply, and where it goes.
fn respond<'a>(headers: &'a Headers, value: &[u8]) -> Result<(ReplyTo<'a>, Record), Skipped> {
    let reply_to = ReplyTo::of(headers).map_err(Skipped::Headers)?;
    let mut reply = answer(value).map_err(Skipped::Value)?;
    reply.headers = reply_to.headers(&reply.key);
    Ok((reply_to, reply))
}

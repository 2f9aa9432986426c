//! The request loop: reads, answers, hands the answers to the outbox, and never waits for one to be sent.

use std::pin::pin;

use shared::kafka::{Chain, Fate, Outbox, Receipts, Received, Tail};
use tokio::task::yield_now;
use tracing::{debug, warn};

use crate::{
    answer::answer,
    complaints::{Complaints, Excerpt},
    metrics::Metrics,
};

/// So many requests are answered before the lanes get to send: a fetch can bring thousands.
const TURN: usize = 64;

/// Counts what became of the replies.
#[derive(Debug)]
pub(crate) struct ReplyReceipts(pub(crate) Metrics);

/// Reads requests until `stop` resolves; those it has read by then are still answered. Cancelling it loses them, but
/// no answer that the outbox has.
pub(crate) async fn run(
    mut tail: Tail,
    outbox: Outbox<ReplyReceipts>,
    metrics: Metrics,
    stop: impl Future<Output = ()>,
) {
    let mut complaints = Complaints::default();
    let mut stop = pin!(stop);
    loop {
        let records = tokio::select! {
            // In this order: under load there is always something more to read.
            biased;
            () = &mut stop => return,
            records = tail.next() => records,
        };
        for (index, record) in records.into_iter().enumerate() {
            if index % TURN == TURN - 1 {
                yield_now().await;
            }
            metrics.requests.inc();
            let value = record.value().unwrap_or_default();
            debug!(offset = record.offset(), value = %Excerpt(value), "Received message");
            match answer(value) {
                // Waits for room only: when Kafka takes no replies there is no use in reading more requests.
                Ok(reply) => outbox.send(reply, ()).await,
                Err(error) => {
                    metrics.bad_value.inc();
                    complain(&mut complaints, &record, &error);
                }
            }
        }
    }
}

fn complain(complaints: &mut Complaints, record: &Received, error: &(dyn std::error::Error + 'static)) {
    if let Some(held_back) = complaints.next() {
        warn!(
            offset = record.offset(),
            value = %Excerpt(record.value().unwrap_or_default()),
            cause = %Chain(error),
            held_back,
            "skipping a request whose value is not a JSON object with the strings id, name and value",
        );
    }
}

// === impl ReplyReceipts ===

impl Receipts for ReplyReceipts {
    type Tag = ();

    fn settled(&self, replies: Vec<()>, fate: Fate) {
        let count = u64::try_from(replies.len()).unwrap_or(u64::MAX);
        match fate {
            Fate::Acknowledged => _ = self.0.acknowledged.inc_by(count),
            // Replies are sent again until Kafka takes them or says that it never will.
            Fate::Failed | Fate::Unknown => _ = self.0.refused.inc_by(count),
        }
    }
}

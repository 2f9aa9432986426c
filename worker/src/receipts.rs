//! What becomes of the replies.

use shared::kafka::{Fate, Receipts};

use crate::{metrics::Metrics, progress::Open};

/// Counts the replies, and says which requests are done with them.
#[derive(Debug, Clone)]
pub(crate) struct ReplyReceipts(pub(crate) Metrics);

// === impl ReplyReceipts ===

impl Receipts for ReplyReceipts {
    type Tag = Open;

    fn settled(&self, requests: Vec<Open>, fate: Fate) {
        let count = u64::try_from(requests.len()).unwrap_or(u64::MAX);
        match fate {
            Fate::Acknowledged => _ = self.0.acknowledged.inc_by(count),
            // Replies are sent again until Kafka takes them or says that it never will, or nobody can want them any more.
            Fate::Failed | Fate::Unknown => _ = self.0.refused.inc_by(count),
        }
        requests.into_iter().for_each(Open::done);
    }
}

//! Dead letters: requests that no caller waits for, and that failed at every attempt.

use std::sync::Arc;

use kafka::{Cluster, Record};
use shared::{
    error_chain::ErrorChain,
    headers::http::{ERROR, ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TOPIC},
};
use tokio::sync::oneshot;

use crate::{Request, delivery::DeliveryToken, reply_producers::ReplyProducers};

/// The topic of the dead letters. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetters {
    cluster: Arc<Cluster>,
    producers: ReplyProducers,
    topic: String,
}

// === impl DeadLetters ===

impl DeadLetters {
    pub(crate) fn new(cluster: &Arc<Cluster>, producers: ReplyProducers, topic: String) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            producers,
            topic,
        }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Writes a request with the cause of its failure, and waits until Kafka has acknowledged it.
    ///
    /// # Errors
    /// Why it is not written, or may not be.
    pub(crate) async fn write(&self, request: &Request, cause: &str) -> Result<(), String> {
        let partitions = self.cluster.partitions(&self.topic).await;
        let partitions = partitions.map_err(|error| ErrorChain(&error).to_string())?;
        // The requests of one partition stay in order.
        let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
        let partition = request.partition().checked_rem(count).unwrap_or_default();
        let (delivered, result) = oneshot::channel();
        let token = DeliveryToken::DeadLetter(delivered);
        let address = Some((self.topic.as_str(), partition));
        let sent = self
            .producers
            .send(address, record(request, cause), token, || true)
            .await;
        sent.map_err(|rejected| rejected.to_string())?;
        match result.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err("Kafka has not acknowledged it".to_owned()),
        }
    }
}

/// The record as it was, with the cause and its origin.
fn record(request: &Request, cause: &str) -> Record {
    let original = request.record();
    let mut record = Record::new(Vec::new(), Vec::new());
    record.key = original.key().map(<[u8]>::to_vec);
    record.value = original.value().map(<[u8]>::to_vec);
    record.headers = original.headers().to_buf();
    record.headers.push(ERROR, cause.as_bytes());
    record.headers.push(ORIGIN_TOPIC, request.topic().as_bytes());
    record
        .headers
        .push(ORIGIN_PARTITION, request.partition().to_string().as_bytes());
    record
        .headers
        .push(ORIGIN_OFFSET, request.offset().to_string().as_bytes());
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letter_is_the_record_with_cause_and_origin() {
        let request = Request::post("/events").key("k").topic("events").body("text");
        let record = record(&request, "no room");
        assert_eq!(
            (record.key.as_deref(), record.value.as_deref()),
            (Some(&b"k"[..]), Some(&b"text"[..]))
        );
        let headers = record.headers.as_headers();
        for (name, value) in [
            (":method", "POST"),
            (":path", "/events"),
            (":error", "no room"),
            (":origin.topic", "events"),
            (":origin.partition", "0"),
            (":origin.offset", "0"),
        ] {
            assert_eq!(headers.get(name), Some(value.as_bytes()), "{name}");
        }
    }
}

//! The reply_address: the partition in which this gateway's replies arrive, and how its requests name it.
//!
//! The partition is known before the start of the replies is fixed, and so before the first caller is taken.

use std::{
    collections::BTreeSet,
    fmt::{self, Display},
    sync::{Arc, OnceLock},
    time::Duration,
};

use kafka::{Backoff, Cluster, Partition};
use shared::{
    error_chain::ErrorChain,
    headers::{Deadline, Dialect, Headers, Template},
    readiness::HealthCheck,
};
use tracing::info;
use uuid::Uuid;

/// Which partition of the reply topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyPartition {
    /// This one.
    Fixed(i32),
    /// One for each host as far as they go: the number at the end of its name, or else any.
    Auto,
}

/// Where replies to this gateway go.
#[derive(Debug)]
pub(crate) struct ReplyAddress {
    cluster: Arc<Cluster>,
    topic: String,
    choice: ReplyPartition,
    hostname: Option<String>,
    dialect: Dialect,
    /// Tells this process from every other gateway.
    gateway_id: String,
    /// How long callers wait.
    reply_timeout: Duration,
    /// Its partition, and the headers that name it; empty until it is open.
    place: OnceLock<(i32, Template)>,
}

// === impl ReplyPartition ===

impl Display for ReplyPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(partition) => partition.fmt(f),
            Self::Auto => f.write_str("auto"),
        }
    }
}

// === impl ReplyAddress ===

impl ReplyAddress {
    /// A reply_address in `topic`, to be opened.
    pub(crate) fn new(
        cluster: &Arc<Cluster>,
        topic: &str,
        choice: ReplyPartition,
        hostname: Option<String>,
        dialect: Dialect,
        reply_timeout: Duration,
    ) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            topic: topic.to_owned(),
            choice,
            hostname,
            dialect,
            gateway_id: format!("{:016x}", fastrand::u64(..)),
            reply_timeout,
            place: OnceLock::new(),
        }
    }

    /// Settles on its partition. For [`ReplyPartition::Auto`] it asks Kafka how many there are until it answers, and
    /// `health_check` says meanwhile why it does not.
    pub(crate) async fn open(&self, health_check: &HealthCheck) -> Partition {
        let partition = match self.choice {
            ReplyPartition::Fixed(partition) => partition,
            ReplyPartition::Auto => self.choose(health_check).await,
        };
        let (partition, _) = *self.place.get_or_init(|| (partition, self.template(partition)));
        info!(topic = self.topic, partition, "mailbox");
        Partition::new(&self.cluster, &self.topic, partition)
    }

    /// The headers of a request, so that its reply comes here, and in time. Nobody asks before it is open.
    pub(crate) fn headers(&self, id: Uuid) -> Headers {
        self.place.get().map(|(_, it)| it.headers(id)).unwrap_or_default()
    }

    fn template(&self, partition: i32) -> Template {
        let deadline = Deadline {
            gateway: self.gateway_id.as_bytes(),
            left: self.reply_timeout,
        };
        self.dialect.template(&self.topic, partition).with_deadline(deadline)
    }

    async fn choose(&self, health_check: &HealthCheck) -> i32 {
        let mut backoff = Backoff::default();
        loop {
            let found = self.cluster.partitions(&self.topic).await;
            match found.map(|it| pick(&it, self.hostname.as_deref())) {
                Ok(Some(partition)) => return partition,
                Ok(None) => health_check.not_ready(&format_args!("topic {:?} has no partitions", self.topic)),
                Err(error) => health_check.not_ready(&ErrorChain(&error)),
            }
            backoff.pause().await;
        }
    }
}

/// The host's own of these partitions: by the number at the end of its name, modulo how many there are; any if it has
/// none.
fn pick(partitions: &BTreeSet<i32>, hostname: Option<&str>) -> Option<i32> {
    let count = partitions.len();
    if count == 0 {
        return None;
    }
    let name = hostname.unwrap_or_default();
    let stem = name.trim_end_matches(|it: char| it.is_ascii_digit());
    let digits = name.strip_prefix(stem).unwrap_or_default();
    let index = if digits.is_empty() {
        fastrand::usize(..count)
    } else {
        // Digit by digit: there may be more of them than a number holds.
        let digits = digits.bytes().map(|it| usize::from(it - b'0'));
        digits.fold(0, |rest, digit| (rest * 10 + digit) % count)
    };
    partitions.iter().copied().nth(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(count: i32, hostname: &str) -> i32 {
        pick(&(0..count).collect(), Some(hostname)).unwrap()
    }

    #[test]
    fn a_host_has_the_partition_of_its_number() {
        for (hostname, count, partition) in [
            ("gw-0", 3, 0),
            ("gw-1", 3, 1),
            ("gw-3", 3, 0),
            ("gateway-7.pods-14", 10, 4),
            ("gw-007", 8, 7),
            ("12", 5, 2),
            ("gw-1", 1, 0),
            ("gw-99999999999999999999999999999999999999", 10, 9),
        ] {
            assert_eq!(picked(count, hostname), partition, "{hostname} of {count}");
        }
    }

    #[test]
    fn a_host_without_a_number_has_any() {
        for hostname in [None, Some(""), Some("gw-1a"), Some("gw-١")] {
            let all: BTreeSet<i32> = (0..3).collect();
            let picked: BTreeSet<_> = (0..1_000).filter_map(|_| pick(&all, hostname)).collect();
            assert_eq!(picked, all, "{hostname:?}");
        }
    }

    #[test]
    fn there_may_be_none_to_pick() {
        assert_eq!(pick(&BTreeSet::new(), Some("gw-1")), None);
    }
}

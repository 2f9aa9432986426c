//! The reply address: the partition that this gateway's replies arrive in, and the request headers that name it.
//!
//! - The partition is chosen before the reply offset is fixed, and so before the first request is admitted.
//! - It is chosen again when the topic no longer has it. No request is admitted meanwhile.

use std::{
    collections::BTreeSet,
    fmt::{self, Display},
    sync::Arc,
    time::Duration,
};

use kafka::{Backoff, Cluster, Partition, PartitionDiscovery};
use parking_lot::RwLock;
use shared::{
    error_chain::ErrorChain,
    headers::{Deadline, Dialect, HeaderBuf, Template},
    readiness::HealthCheck,
};
use tracing::info;
use uuid::Uuid;

/// The setting `REPLY_PARTITION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyPartition {
    /// A partition number.
    Fixed(i32),
    /// The number at the end of `HOSTNAME`, or else a random one, modulo the number of partitions.
    Auto,
}

/// The address of this gateway in one reply topic.
#[derive(Debug)]
pub(crate) struct ReplyAddress {
    cluster: Arc<Cluster>,
    topic: String,
    setting: ReplyPartition,
    hostname: Option<String>,
    /// `None` until it is chosen.
    partition: RwLock<Option<i32>>,
}

/// The headers by which a service answers the requests of a route.
#[derive(Debug)]
pub(crate) struct AddressHeaders {
    /// `None` for a route without replies.
    address: Option<Arc<ReplyAddress>>,
    dialect: Dialect,
    /// Distinguishes this process from every other gateway.
    gateway_id: Arc<str>,
    timeout: Duration,
    /// With the partition that it names. `None` before the first request.
    template: RwLock<Option<(Option<i32>, Template)>>,
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
    /// An address in `topic` whose partition is chosen later.
    pub(crate) fn new(cluster: &Arc<Cluster>, topic: &str, setting: ReplyPartition, hostname: Option<String>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            topic: topic.to_owned(),
            setting,
            hostname,
            partition: RwLock::new(None),
        }
    }

    /// Chooses the partition. [`ReplyPartition::Auto`] retries until Kafka lists the partitions of the topic;
    /// `health_check` has the cause meanwhile.
    pub(crate) async fn choose_partition(&self, health_check: &HealthCheck) -> Partition {
        let partition = match self.setting {
            ReplyPartition::Fixed(partition) => partition,
            ReplyPartition::Auto => self.choose_by_hostname(health_check).await,
        };
        *self.partition.write() = Some(partition);
        info!(topic = self.topic, partition, "reply address");
        Partition::new(&self.cluster, &self.topic, partition)
    }

    /// Waits until another partition has to be chosen, because the topic no longer has this one. A partition number in the
    /// settings is kept.
    pub(crate) async fn partition_removed(&self, partition: i32) {
        match self.setting {
            ReplyPartition::Fixed(_) => std::future::pending().await,
            ReplyPartition::Auto => PartitionDiscovery::removal(&self.cluster, &self.topic, partition).await,
        }
    }

    async fn choose_by_hostname(&self, health_check: &HealthCheck) -> i32 {
        let mut backoff = Backoff::default();
        loop {
            let partitions = self.cluster.partitions(&self.topic).await;
            match partitions.map(|partitions| pick(&partitions, self.hostname.as_deref())) {
                Ok(Some(partition)) => return partition,
                Ok(None) => health_check.not_ready(&format_args!("topic {:?} has no partitions", self.topic)),
                Err(error) => health_check.not_ready(&ErrorChain(&error)),
            }
            backoff.pause().await;
        }
    }
}

// === impl AddressHeaders ===

impl AddressHeaders {
    /// For requests with this timeout, unless they have another.
    pub(crate) fn new(
        address: Option<Arc<ReplyAddress>>,
        dialect: Dialect,
        gateway_id: Arc<str>,
        timeout: Duration,
    ) -> Self {
        Self {
            address,
            dialect,
            gateway_id,
            timeout,
            template: RwLock::new(None),
        }
    }

    /// Appends the headers of a request: correlation, reply address and deadline; without a reply the correlation only.
    /// Appends nothing until the partition is chosen.
    pub(crate) fn add_to(&self, headers: &mut HeaderBuf, id: Uuid, timeout: Duration) {
        let partition = match &self.address {
            None => None,
            Some(address) => match *address.partition.read() {
                None => return,
                partition => partition,
            },
        };
        if timeout == self.timeout
            && let Some((of_partition, template)) = &*self.template.read()
            && *of_partition == partition
        {
            return template.add_to(headers, id);
        }
        let template = self.template(partition, timeout);
        template.add_to(headers, id);
        if timeout == self.timeout {
            *self.template.write() = Some((partition, template));
        }
    }

    fn template(&self, partition: Option<i32>, timeout: Duration) -> Template {
        let (Some(address), Some(partition)) = (&self.address, partition) else {
            return self.dialect.template_without_reply();
        };
        let deadline = Deadline {
            gateway: self.gateway_id.as_bytes(),
            left: timeout,
        };
        self.dialect.template(&address.topic, partition).with_deadline(deadline)
    }
}

/// A new id for a gateway: random, so that no two have the same.
pub(crate) fn new_gateway_id() -> Arc<str> {
    format!("{:016x}", fastrand::u64(..)).into()
}

/// The partition at the index that ends `hostname`, modulo their number; a random one without an index.
pub(crate) fn pick(partitions: &BTreeSet<i32>, hostname: Option<&str>) -> Option<i32> {
    let count = partitions.len();
    if count == 0 {
        return None;
    }
    let name = hostname.unwrap_or_default();
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let digits = name.strip_prefix(stem).unwrap_or_default();
    let index = if digits.is_empty() {
        fastrand::usize(..count)
    } else {
        // Digit by digit: the number may exceed every integer type.
        let digits = digits.bytes().map(|byte| usize::from(byte - b'0'));
        digits.fold(0, |rest, digit| (rest * 10 + digit) % count)
    };
    partitions.iter().copied().nth(index)
}

#[cfg(test)]
mod tests {
    use kafka::Security;
    use shared::readiness::Readiness;

    use super::*;

    fn picked(count: i32, hostname: &str) -> i32 {
        pick(&(0..count).collect(), Some(hostname)).unwrap()
    }

    #[test]
    fn hostname_index_selects_the_partition() {
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
    fn hostname_without_an_index_gets_a_random_partition() {
        for hostname in [None, Some(""), Some("gw-1a"), Some("gw-١")] {
            let all: BTreeSet<i32> = (0..3).collect();
            let picked: BTreeSet<_> = (0..1_000).filter_map(|_| pick(&all, hostname)).collect();
            assert_eq!(picked, all, "{hostname:?}");
        }
    }

    #[tokio::test]
    async fn headers_name_the_partition_that_was_chosen_last() {
        let cluster = Arc::new(Cluster::new("gateway", Vec::new(), Security::default(), Vec::new()));
        let address = Arc::new(ReplyAddress::new(&cluster, "replies", ReplyPartition::Fixed(3), None));
        let timeout = Duration::from_secs(10);
        let headers = AddressHeaders::new(Some(Arc::clone(&address)), Dialect::Common, new_gateway_id(), timeout);
        let partition = |timeout| {
            let mut added = HeaderBuf::new();
            headers.add_to(&mut added, Uuid::new_v4(), timeout);
            let mut found = added
                .as_headers()
                .iter()
                .filter(|(name, _)| *name == b"pingpong_replyPartition");
            found
                .next()
                .map(|(_, value)| value.unwrap_or_default().escape_ascii().to_string())
        };
        assert_eq!(partition(timeout), None);
        let check = Readiness::default().health_check("replies");
        address.choose_partition(&check).await;
        for _ in 0..2 {
            assert_eq!(partition(timeout).as_deref(), Some("3"));
        }
        *address.partition.write() = Some(1);
        for timeout in [timeout, Duration::from_secs(1), timeout] {
            assert_eq!(partition(timeout).as_deref(), Some("1"));
        }
    }

    #[test]
    fn no_partitions_to_pick_from() {
        assert_eq!(pick(&BTreeSet::new(), Some("gw-1")), None);
    }
}

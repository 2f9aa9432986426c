//! The bound of connections by file descriptors: each connection takes one.

use tracing::{debug, warn};

/// Descriptors kept for connections to Kafka, the admin listener, and connections refused beyond the bound.
const RESERVED: usize = 192;

/// Raises the soft limit of descriptors to the hard limit, and returns `max_connections` or as many as fit.
pub(crate) fn max_connections(max_connections: usize) -> usize {
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).or_else(|cause| {
        warn!(%cause, "cannot raise the soft limit of descriptors");
        rlimit::Resource::NOFILE.get_soft()
    });
    let descriptors = descriptors.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let limit = limit(descriptors);
    // A usual limit, such as 20,000, is a little short of the default.
    if limit < max_connections / 2 {
        warn!(
            descriptors,
            max_connections, limit, "too few descriptors for MAX_CONNECTIONS: fewer connections are served"
        );
    } else if limit < max_connections {
        debug!(
            descriptors,
            max_connections, limit, "MAX_CONNECTIONS is reduced to the limit of descriptors"
        );
    }
    max_connections.min(limit)
}

/// The most connections with this limit of descriptors.
fn limit(descriptors: usize) -> usize {
    // Below 256 descriptors a quarter of them serves callers.
    descriptors.saturating_sub(RESERVED).max(descriptors / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_kept_for_kafka_and_the_admin_listener() {
        for (descriptors, connections) in [(0, 1), (64, 16), (256, 64), (1024, 832), (20_000, 19_808)] {
            assert_eq!(limit(descriptors), connections, "{descriptors}");
        }
    }
}

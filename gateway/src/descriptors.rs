//! The bound of connections by file descriptors: each connection takes one.

use tracing::{info, warn};

/// Descriptors kept for connections to Kafka, the admin listener, and connections refused beyond the bound.
const RESERVED: usize = 192;

/// Raises the soft limit of descriptors to the hard limit, and returns `max_connections` or as many as fit.
pub(crate) fn max_connections(max_connections: usize) -> usize {
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).or_else(|cause| {
        warn!(%cause, "cannot raise the soft limit of descriptors");
        rlimit::Resource::NOFILE.get_soft()
    });
    let descriptors = descriptors.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    // Below 256 descriptors a quarter of them serves callers.
    let limit = descriptors.saturating_sub(RESERVED).max(descriptors / 4).max(1);
    if limit < max_connections {
        info!(
            descriptors,
            max_connections, limit, "too few descriptors for MAX_CONNECTIONS: fewer connections are served"
        );
    }
    max_connections.min(limit)
}

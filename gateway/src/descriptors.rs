//! File descriptors: each connection takes one, and some have to be left for Kafka and the admin listener.

use tracing::{info, warn};

/// What is not for callers: connections to Kafka, the admin listener's, and those beyond the bound that are told so.
const RESERVE: usize = 192;

/// Raises the soft limit to the hard one; gives how many of `max_connections` there is limit for.
pub(crate) fn room_for(max_connections: usize) -> usize {
    let limit = rlimit::increase_nofile_limit(u64::MAX).or_else(|cause| {
        warn!(%cause, "the descriptor limit stays as it is");
        rlimit::Resource::NOFILE.get_soft()
    });
    let limit = limit.map_or(usize::MAX, |it| usize::try_from(it).unwrap_or(usize::MAX));
    // A limit so low is better spent on a few callers than on none.
    let limit = limit.saturating_sub(RESERVE).max(limit / 4).max(1);
    if limit < max_connections {
        info!(
            limit,
            max_connections, limit, "too few descriptors for MAX_CONNECTIONS: fewer connections are served"
        );
    }
    max_connections.min(limit)
}

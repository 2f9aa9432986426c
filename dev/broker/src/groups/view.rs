//! What groups see of the world at one moment: the time, the topics, and what was chosen at the start.

use std::collections::BTreeMap;

use tokio::time::Instant;
use uuid::Uuid;

use crate::config::Config;

/// A topic as groups see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its id.
    pub(crate) id: Uuid,
    /// How many partitions it has.
    pub(crate) partitions: i32,
}

/// Topics by name.
pub(crate) type Catalog = BTreeMap<String, Listed>;

/// One moment.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// When it is.
    pub(crate) now: Instant,
    /// The topics there are.
    pub(crate) topics: Catalog,
    /// What was chosen at the start.
    pub(crate) config: &'a Config,
}

//! Whether the process can do its work, and if not, why not.
//!
//! Each part of the process owns one [`Condition`] and says when it is met and when no longer. The process is
//! ready while all are met. A change is logged once, with its cause.

use std::{
    fmt::{self, Display},
    sync::Arc,
};

use parking_lot::Mutex;
use tracing::{info, warn};

/// All conditions of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<Vec<State>>>,
}

#[derive(Debug)]
struct State {
    name: &'static str,
    /// Why it is not met; `None` if it is.
    cause: Option<String>,
}

/// One condition of readiness, owned by the part that fulfils it.
#[derive(Clone)]
pub struct Condition {
    conditions: Arc<Mutex<Vec<State>>>,
    index: usize,
}

// === impl Readiness ===

impl Readiness {
    /// Adds a condition, not met yet.
    #[must_use]
    pub fn condition(&self, name: &'static str) -> Condition {
        let mut conditions = self.conditions.lock();
        conditions.push(State {
            name,
            cause: Some("starting".to_owned()),
        });
        Condition {
            conditions: Arc::clone(&self.conditions),
            index: conditions.len() - 1,
        }
    }

    /// What is not met: name and cause of each. Empty means ready.
    #[must_use]
    pub fn unmet(&self) -> Vec<(&'static str, String)> {
        self.conditions
            .lock()
            .iter()
            .filter_map(|it| Some((it.name, it.cause.clone()?)))
            .collect()
    }
}

// === impl Condition ===

impl Condition {
    /// The condition is met.
    pub fn met(&self) {
        let mut conditions = self.conditions.lock();
        if let Some(state) = conditions.get_mut(self.index)
            && state.cause.take().is_some()
        {
            info!(condition = state.name, "met");
        }
    }

    /// The condition is not met. Only the first cause in a row is logged.
    pub fn unmet(&self, cause: &dyn Display) {
        let mut conditions = self.conditions.lock();
        if let Some(state) = conditions.get_mut(self.index) {
            let cause = cause.to_string();
            let initial = state.cause.as_deref() == Some("starting");
            if state.cause.is_none() || initial {
                warn!(condition = state.name, %cause, "not met");
            }
            state.cause = Some(cause);
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_all_conditions_are_met() {
        let readiness = Readiness::default();
        let (a, b) = (readiness.condition("a"), readiness.condition("b"));
        assert_eq!(readiness.unmet().len(), 2);
        a.met();
        b.unmet(&"no broker");
        assert_eq!(readiness.unmet(), [("b", "no broker".to_owned())]);
        b.met();
        assert!(readiness.unmet().is_empty());
        a.unmet(&"gone");
        assert_eq!(readiness.unmet(), [("a", "gone".to_owned())]);
    }
}

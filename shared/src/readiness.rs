//! Whether the process can do its work, and if not, why not.
//!
//! Each part of the process owns one [`Condition`] and says when it is met and when no longer. The process is
//! ready while all are met. A change is logged once, with its cause. A part that ends takes its condition with it.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    sync::Arc,
};

use parking_lot::Mutex;
use tracing::{info, warn};

/// All conditions of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<Conditions>>,
}

#[derive(Debug, Default)]
struct Conditions {
    next: u64,
    /// In the order in which they were added.
    states: BTreeMap<u64, State>,
}

#[derive(Debug)]
struct State {
    name: String,
    /// Why it is not met; `None` if it is.
    cause: Option<String>,
}

/// One condition of readiness, owned by the part that fulfils it.
pub struct Condition {
    conditions: Arc<Mutex<Conditions>>,
    number: u64,
}

// === impl Readiness ===

impl Readiness {
    /// Adds a condition, not met yet. It is gone when it is dropped.
    #[must_use]
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        let mut conditions = self.conditions.lock();
        let number = conditions.next;
        conditions.next += 1;
        let state = State {
            name: name.into(),
            cause: Some("starting".to_owned()),
        };
        conditions.states.insert(number, state);
        Condition {
            conditions: Arc::clone(&self.conditions),
            number,
        }
    }

    /// What is not met: name and cause of each. Empty means ready.
    #[must_use]
    pub fn unmet(&self) -> Vec<(String, String)> {
        self.conditions
            .lock()
            .states
            .values()
            .filter_map(|it| Some((it.name.clone(), it.cause.clone()?)))
            .collect()
    }
}

// === impl Condition ===

impl Condition {
    /// The condition is met.
    pub fn met(&self) {
        let mut conditions = self.conditions.lock();
        if let Some(state) = conditions.states.get_mut(&self.number)
            && state.cause.take().is_some()
        {
            info!(condition = state.name, "met");
        }
    }

    /// The condition is not met. Only the first cause in a row is logged.
    pub fn unmet(&self, cause: &dyn Display) {
        let mut conditions = self.conditions.lock();
        if let Some(state) = conditions.states.get_mut(&self.number) {
            let cause = cause.to_string();
            let initial = state.cause.as_deref() == Some("starting");
            if state.cause.is_none() || initial {
                warn!(condition = state.name, %cause, "not met");
            }
            state.cause = Some(cause);
        }
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        self.conditions.lock().states.remove(&self.number);
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition")
            .field("number", &self.number)
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
        assert_eq!(readiness.unmet(), [("b".to_owned(), "no broker".to_owned())]);
        b.met();
        assert!(readiness.unmet().is_empty());
        a.unmet(&"gone");
        assert_eq!(readiness.unmet(), [("a".to_owned(), "gone".to_owned())]);
    }
    #[test]
    fn a_condition_goes_with_its_owner() {
        let readiness = Readiness::default();
        let (a, b) = (readiness.condition("a"), readiness.condition("b"));
        drop(a);
        b.met();
        assert!(readiness.unmet().is_empty());
    }
}

//! Whether the process can do its work, and if not, why not.
//!
//! Each part of the process owns one [`HealthCheck`] and says when it is met and when no longer. The process is
//! ready while all are met. A change is logged once, with its cause. A part that ends takes its health check with it.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    sync::Arc,
};

use parking_lot::Mutex;
use tracing::{info, warn};

/// All health checks of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    health_checks: Arc<Mutex<HealthChecks>>,
}

#[derive(Debug, Default)]
struct HealthChecks {
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

/// One health check of readiness, owned by the part that fulfils it.
pub struct HealthCheck {
    health_checks: Arc<Mutex<HealthChecks>>,
    number: u64,
}

// === impl Readiness ===

impl Readiness {
    /// Adds a health check, not met yet. It is gone when it is dropped.
    #[must_use]
    pub fn health_check(&self, name: impl Into<String>) -> HealthCheck {
        let mut health_checks = self.health_checks.lock();
        let number = health_checks.next;
        health_checks.next += 1;
        let state = State {
            name: name.into(),
            cause: Some("starting".to_owned()),
        };
        health_checks.states.insert(number, state);
        HealthCheck {
            health_checks: Arc::clone(&self.health_checks),
            number,
        }
    }

    /// What is not met: name and cause of each. Empty means ready.
    #[must_use]
    pub fn not_ready(&self) -> Vec<(String, String)> {
        self.health_checks
            .lock()
            .states
            .values()
            .filter_map(|it| Some((it.name.clone(), it.cause.clone()?)))
            .collect()
    }
}

// === impl HealthCheck ===

impl HealthCheck {
    /// The health check is met.
    pub fn ready(&self) {
        let mut health_checks = self.health_checks.lock();
        if let Some(state) = health_checks.states.get_mut(&self.number)
            && state.cause.take().is_some()
        {
            info!(health_check = state.name, "ready");
        }
    }

    /// The health check is not met. Only the first cause in a row is logged.
    pub fn not_ready(&self, cause: &dyn Display) {
        let mut health_checks = self.health_checks.lock();
        if let Some(state) = health_checks.states.get_mut(&self.number) {
            let cause = cause.to_string();
            let initial = state.cause.as_deref() == Some("starting");
            if state.cause.is_none() || initial {
                warn!(health_check = state.name, %cause, "not ready");
            }
            state.cause = Some(cause);
        }
    }
}

impl Drop for HealthCheck {
    fn drop(&mut self) {
        self.health_checks.lock().states.remove(&self.number);
    }
}

impl fmt::Debug for HealthCheck {
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
        let (a, b) = (readiness.health_check("a"), readiness.health_check("b"));
        assert_eq!(readiness.not_ready().len(), 2);
        a.ready();
        b.not_ready(&"no broker");
        assert_eq!(readiness.not_ready(), [("b".to_owned(), "no broker".to_owned())]);
        b.ready();
        assert!(readiness.not_ready().is_empty());
        a.not_ready(&"gone");
        assert_eq!(readiness.not_ready(), [("a".to_owned(), "gone".to_owned())]);
    }
    #[test]
    fn a_condition_goes_with_its_owner() {
        let readiness = Readiness::default();
        let (a, b) = (readiness.health_check("a"), readiness.health_check("b"));
        drop(a);
        b.ready();
        assert!(readiness.not_ready().is_empty());
    }
}

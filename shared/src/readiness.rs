//! Readiness of the process: the health checks of its components, and the cause of each that fails.
//!
//! - A component owns a [`HealthCheck`] and reports when it is ready and when it is not. Dropping the check removes it.
//! - The process is ready while all checks are ready.
//! - An outage of a component is logged when it begins, once a minute while it lasts, and when it ends.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    sync::Arc,
};

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::outage_log::OutageLog;

/// The cause before the first report.
const STARTING: &str = "starting";

/// All health checks of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    health_checks: Arc<Mutex<HealthChecks>>,
}

#[derive(Debug, Default)]
struct HealthChecks {
    next_number: u64,
    /// In the order in which they were added.
    states: BTreeMap<u64, State>,
}

#[derive(Debug)]
struct State {
    name: String,
    /// Why it is not ready; `None` when it is.
    cause: Option<String>,
    log: OutageLog,
}

/// One health check, owned by the component that it describes.
pub struct HealthCheck {
    health_checks: Arc<Mutex<HealthChecks>>,
    number: u64,
}

// === impl Readiness ===

impl Readiness {
    /// Adds a health check that is not ready yet. Dropping it removes it.
    #[must_use]
    pub fn health_check(&self, name: impl Into<String>) -> HealthCheck {
        let mut health_checks = self.health_checks.lock();
        let number = health_checks.next_number;
        health_checks.next_number += 1;
        let state = State {
            name: name.into(),
            cause: Some(STARTING.to_owned()),
            log: OutageLog::default(),
        };
        health_checks.states.insert(number, state);
        HealthCheck {
            health_checks: Arc::clone(&self.health_checks),
            number,
        }
    }

    /// Name and cause of each health check that is not ready. Empty means that the process is ready.
    #[must_use]
    pub fn not_ready(&self) -> Vec<(String, String)> {
        self.health_checks
            .lock()
            .states
            .values()
            .filter_map(|state| Some((state.name.clone(), state.cause.clone()?)))
            .collect()
    }
}

// === impl HealthCheck ===

impl HealthCheck {
    /// Reports that the component is ready.
    pub fn ready(&self) {
        let mut health_checks = self.health_checks.lock();
        if let Some(state) = health_checks.states.get_mut(&self.number)
            && let Some(cause) = state.cause.take()
        {
            match state.log.on_success() {
                Some(age) => info!(health_check = state.name, ?age, "ready"),
                None if cause == STARTING => info!(health_check = state.name, "ready"),
                None => {}
            }
        }
    }

    /// Reports that the component is not ready.
    pub fn not_ready(&self, cause: &dyn Display) {
        let mut health_checks = self.health_checks.lock();
        if let Some(state) = health_checks.states.get_mut(&self.number) {
            let cause = cause.to_string();
            if let Some(age) = state.log.on_failure(&cause) {
                warn!(health_check = state.name, %cause, ?age, "not ready");
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
        f.debug_struct("HealthCheck")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_ready_while_all_health_checks_are() {
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
    fn dropping_a_health_check_removes_it() {
        let readiness = Readiness::default();
        let (a, b) = (readiness.health_check("a"), readiness.health_check("b"));
        drop(a);
        b.ready();
        assert!(readiness.not_ready().is_empty());
    }
}

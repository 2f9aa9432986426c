//! Readiness of the process: the health checks of its components, and the cause of each that fails.
//!
//! - A component owns a [`HealthCheck`] and reports when it is ready and when it is not. Dropping the check removes it.
//! - The process is ready while all checks are ready. Of checks that are alternatives, one set is enough.
//! - A check may have parts, and is ready while one of them is.
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
    /// Sets of checks of which one is enough.
    alternatives: Vec<Vec<HealthCheckId>>,
}

#[derive(Debug)]
struct State {
    name: String,
    /// Why it is not ready; `None` when it is.
    cause: Option<String>,
    log: OutageLog,
    /// The check that this one is a part of.
    part_of: Option<u64>,
}

/// Names a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthCheckId(u64);

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
        HealthCheck::new(&self.health_checks, name.into(), None)
    }

    /// Of these sets of checks, the process needs one whose checks are all ready, instead of all checks.
    pub fn set_alternatives(&self, alternatives: Vec<Vec<HealthCheckId>>) {
        self.health_checks.lock().alternatives = alternatives;
    }

    /// Whether every check is ready, also those that are alternatives.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let health_checks = self.health_checks.lock();
        let mut wholes = health_checks.states.values().filter(|state| state.part_of.is_none());
        wholes.all(|state| state.cause.is_none())
    }

    /// Name and cause of each health check that is not ready. Empty means that the process is ready.
    #[must_use]
    pub fn not_ready(&self) -> Vec<(String, String)> {
        let health_checks = self.health_checks.lock();
        let is_ready = |id: &HealthCheckId| {
            let state = health_checks.states.get(&id.0);
            state.is_none_or(|state| state.cause.is_none())
        };
        let mut alternatives = health_checks.alternatives.iter();
        let has_ready_alternative = alternatives.any(|alternative| alternative.iter().all(is_ready));
        let is_alternative = |number| {
            let mut all = health_checks.alternatives.iter().flatten();
            all.any(|id| id.0 == number)
        };
        health_checks
            .states
            .iter()
            .filter(|(number, state)| {
                let is_needed = !(has_ready_alternative && is_alternative(**number));
                state.part_of.is_none() && is_needed
            })
            .filter_map(|(_, state)| Some((state.name.clone(), state.cause.clone()?)))
            .collect()
    }
}

// === impl HealthCheck ===

impl HealthCheck {
    fn new(health_checks: &Arc<Mutex<HealthChecks>>, name: String, part_of: Option<u64>) -> Self {
        let mut locked = health_checks.lock();
        let number = locked.next_number;
        locked.next_number += 1;
        let state = State {
            name,
            cause: Some(STARTING.to_owned()),
            log: OutageLog::default(),
            part_of,
        };
        locked.states.insert(number, state);
        drop(locked);
        Self {
            health_checks: Arc::clone(health_checks),
            number,
        }
    }

    /// A part of this check, which is ready from now on while one of its parts is.
    #[must_use]
    pub fn part(&self) -> Self {
        Self::new(&self.health_checks, String::new(), Some(self.number))
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> HealthCheckId {
        HealthCheckId(self.number)
    }

    /// Reports that the component is ready.
    pub fn ready(&self) {
        self.health_checks.lock().ready(self.number);
    }

    /// Reports that the component is not ready.
    pub fn not_ready(&self, cause: &dyn Display) {
        self.health_checks.lock().not_ready(self.number, cause);
    }
}

// === impl HealthChecks ===

impl HealthChecks {
    fn ready(&mut self, number: u64) {
        let Some(state) = self.states.get_mut(&number) else {
            return;
        };
        let before = state.cause.take();
        if let Some(whole) = state.part_of {
            self.ready(whole);
        } else if let Some(cause) = before {
            match state.log.on_success() {
                Some(age) => info!(health_check = state.name, ?age, "ready"),
                None if cause == STARTING => info!(health_check = state.name, "ready"),
                None => {}
            }
        }
    }

    fn not_ready(&mut self, number: u64, cause: &dyn Display) {
        let Some(state) = self.states.get_mut(&number) else {
            return;
        };
        let cause = cause.to_string();
        if let Some(whole) = state.part_of {
            state.cause = Some(cause.clone());
            let mut parts = self.states.values().filter(|state| state.part_of == Some(whole));
            if parts.all(|part| part.cause.is_some()) {
                self.not_ready(whole, &cause);
            }
            return;
        }
        if let Some(age) = state.log.on_failure(&cause) {
            warn!(health_check = state.name, %cause, ?age, "not ready");
        }
        state.cause = Some(cause);
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
    fn one_ready_alternative_is_enough() {
        let readiness = Readiness::default();
        let [other, a, b, both] = ["other", "a", "b", "both"].map(|name| readiness.health_check(name));
        readiness.set_alternatives(vec![vec![a.id(), both.id()], vec![b.id(), both.id()]]);
        let not_ready = || {
            readiness
                .not_ready()
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        a.ready();
        assert_eq!(not_ready(), ["other", "b", "both"]);
        both.ready();
        assert_eq!(not_ready(), ["other"]);
        other.ready();
        assert!(not_ready().is_empty());
        assert!(!readiness.is_complete(), "b is not ready");
        a.not_ready(&"gone");
        assert_eq!(not_ready(), ["a", "b"]);
        b.ready();
        assert!(not_ready().is_empty());
        a.ready();
        assert!(readiness.is_complete());
    }

    #[test]
    fn check_is_ready_while_one_of_its_parts_is() {
        let readiness = Readiness::default();
        let whole = readiness.health_check("whole");
        let (a, b) = (whole.part(), whole.part());
        a.not_ready(&"no a");
        assert_eq!(readiness.not_ready().len(), 1);
        b.ready();
        assert!(readiness.not_ready().is_empty());
        b.not_ready(&"no b");
        assert_eq!(readiness.not_ready(), [("whole".to_owned(), "no b".to_owned())]);
        a.ready();
        assert!(readiness.not_ready().is_empty());
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

//! What is staged, and how connections find out.

use std::{collections::HashMap, future::pending, time::Duration};

use kafka_protocol::{error::ResponseError, messages::ApiKey};
use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep};

use crate::staged::{Ending, Staged};

/// Something that happens to the next so many calls.
#[derive(Debug)]
pub(super) struct Turns<T>(Option<(T, usize)>);

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Turns(None)
    }
}

impl<T: Copy> Turns<T> {
    pub(super) fn set(&mut self, what: T, calls: usize) {
        self.0 = (calls > 0).then_some((what, calls));
    }

    fn take(&mut self) -> Option<T> {
        let (what, left) = self.0?;
        let left = if left == super::Faults::ALWAYS { left } else { left - 1 };
        self.set(what, left);
        Some(what)
    }
}

/// What is staged for an API.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) refusal: Turns<ResponseError>,
    pub(super) delay: Turns<Duration>,
    pub(super) throttle: Turns<Duration>,
    pub(super) ending: Turns<Ending>,
    seen: usize,
}

/// What acts on connections rather than calls.
#[derive(Debug, Clone, Default)]
pub(super) struct Switches {
    pub(super) paused: bool,
    pub(super) idle_limit: Option<Duration>,
    /// Grows each time all connections are to be closed.
    pub(super) cuts: usize,
}

/// Everything that is staged.
#[derive(Debug)]
pub(crate) struct Stage {
    plans: Mutex<HashMap<ApiKey, Plan>>,
    switches: watch::Sender<Switches>,
    coordinators: Mutex<HashMap<String, i32>>,
}

impl Stage {
    /// Nothing is staged.
    pub(crate) fn new() -> Self {
        Stage {
            plans: Mutex::default(),
            switches: watch::Sender::default(),
            coordinators: Mutex::default(),
        }
    }

    /// What is staged for this call, which is then used up.
    pub(crate) fn next(&self, api: ApiKey) -> Staged {
        let mut plans = self.plans.lock();
        let plan = plans.entry(api).or_default();
        plan.seen += 1;
        Staged {
            ending: plan.ending.take().unwrap_or_default(),
            refusal: plan.refusal.take(),
            throttle: plan.throttle.take().unwrap_or_default(),
            delay: plan.delay.take().unwrap_or_default(),
        }
    }

    /// The node a group's coordinator was moved to.
    pub(crate) fn coordinator(&self, group: &str) -> Option<i32> {
        self.coordinators.lock().get(group).copied()
    }

    /// The switches that act on a connection.
    pub(crate) fn line(&self) -> Line {
        Line {
            switches: self.switches.subscribe(),
        }
    }

    pub(super) fn plan(&self, api: ApiKey, change: impl FnOnce(&mut Plan)) {
        change(self.plans.lock().entry(api).or_default());
    }

    pub(super) fn seen(&self, api: ApiKey) -> usize {
        self.plans.lock().get(&api).map_or(0, |plan| plan.seen)
    }

    pub(super) fn switch(&self, change: impl FnOnce(&mut Switches)) {
        self.switches.send_modify(change);
    }

    pub(super) fn move_coordinator(&self, group: &str, node: i32) {
        self.coordinators.lock().insert(group.to_owned(), node);
    }

    pub(super) fn heal(&self) {
        for plan in self.plans.lock().values_mut() {
            *plan = Plan {
                seen: plan.seen,
                ..Plan::default()
            };
        }
        self.switch(|switches| {
            *switches = Switches {
                cuts: switches.cuts,
                ..Switches::default()
            }
        });
    }
}

/// The switches as one connection sees them. That the stage is gone means that nothing changes any more.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    switches: watch::Receiver<Switches>,
}

impl Line {
    /// Waits until answers may go out.
    pub(crate) async fn open(&mut self) {
        let _ = self.switches.wait_for(|switches| !switches.paused).await;
    }

    /// Waits until a connection that says nothing meanwhile has been idle for too long.
    pub(crate) async fn idle(&mut self) {
        loop {
            let Switches { idle_limit, paused, .. } = *self.switches.borrow_and_update();
            tokio::select! {
                changed = self.switches.changed() => {
                    if changed.is_err() {
                        pending::<()>().await;
                    }
                }
                () = sleep(idle_limit.unwrap_or_default()), if idle_limit.is_some() && !paused => return,
            }
        }
    }

    /// Waits until all connections are to be closed.
    pub(crate) async fn cut(&mut self) {
        let cuts = self.switches.borrow().cuts;
        if self.switches.wait_for(|switches| switches.cuts > cuts).await.is_err() {
            pending::<()>().await;
        }
    }
}

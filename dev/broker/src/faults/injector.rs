//! The injected faults, as requests and connections see them.

use std::{collections::HashMap, future::pending, time::Duration};

use kafka_protocol::{error::ResponseError, messages::ApiKey};
use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep};

use super::Faults;

/// The faults of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestFaults {
    /// Close the connection, and do not handle the request.
    pub(crate) drop_connection: bool,
    /// Respond with this error, and do not handle the request.
    pub(crate) error: Option<ResponseError>,
}

/// A fault for a number of requests.
#[derive(Debug)]
pub(super) struct Remaining<T>(Option<(T, usize)>);

/// The faults of one API.
#[derive(Debug, Default)]
pub(super) struct ApiFaults {
    pub(super) error: Remaining<ResponseError>,
    pub(super) drop: Remaining<()>,
    seen: usize,
}

/// The faults of connections.
#[derive(Debug, Clone, Default)]
pub(super) struct ConnectionState {
    pub(super) paused: bool,
    pub(super) max_idle: Option<Duration>,
    /// Incremented to close all connections.
    pub(super) disconnects: usize,
}

/// All injected faults.
#[derive(Debug, Default)]
pub(crate) struct FaultInjector {
    by_api: Mutex<HashMap<ApiKey, ApiFaults>>,
    connections: watch::Sender<ConnectionState>,
    /// Moved coordinators by group id.
    coordinators: Mutex<HashMap<String, i32>>,
}

/// The faults that one connection waits for. Nothing changes any more when the injector is dropped.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionFaults {
    state: watch::Receiver<ConnectionState>,
}

// === impl Remaining ===

impl<T> Default for Remaining<T> {
    fn default() -> Self {
        Remaining(None)
    }
}

impl<T: Copy> Remaining<T> {
    pub(super) fn set(&mut self, fault: T, requests: usize) {
        self.0 = (requests > 0).then_some((fault, requests));
    }

    fn take(&mut self) -> Option<T> {
        let (fault, requests) = self.0?;
        if requests != Faults::ALWAYS {
            self.set(fault, requests - 1);
        }
        Some(fault)
    }
}

// === impl FaultInjector ===

impl FaultInjector {
    /// Counts a request, and takes its faults.
    pub(crate) fn next_request(&self, api: ApiKey) -> RequestFaults {
        let mut by_api = self.by_api.lock();
        let faults = by_api.entry(api).or_default();
        faults.seen += 1;
        RequestFaults {
            drop_connection: faults.drop.take().is_some(),
            error: faults.error.take(),
        }
    }

    /// The node to which the coordinator of a group was moved.
    pub(crate) fn coordinator(&self, group: &str) -> Option<i32> {
        self.coordinators.lock().get(group).copied()
    }

    /// The faults of a new connection.
    pub(crate) fn for_connection(&self) -> ConnectionFaults {
        ConnectionFaults {
            state: self.connections.subscribe(),
        }
    }

    pub(super) fn set(&self, api: ApiKey, change: impl FnOnce(&mut ApiFaults)) {
        change(self.by_api.lock().entry(api).or_default());
    }

    pub(super) fn seen(&self, api: ApiKey) -> usize {
        self.by_api.lock().get(&api).map_or(0, |faults| faults.seen)
    }

    pub(super) fn set_connections(&self, change: impl FnOnce(&mut ConnectionState)) {
        self.connections.send_modify(change);
    }

    pub(super) fn move_coordinator(&self, group: &str, node: i32) {
        self.coordinators.lock().insert(group.to_owned(), node);
    }

    pub(super) fn clear(&self) {
        for faults in self.by_api.lock().values_mut() {
            *faults = ApiFaults {
                seen: faults.seen,
                ..ApiFaults::default()
            };
        }
        self.set_connections(|state| {
            *state = ConnectionState {
                disconnects: state.disconnects,
                ..ConnectionState::default()
            }
        });
    }
}

// === impl ConnectionFaults ===

impl ConnectionFaults {
    /// Waits while the broker is paused.
    pub(crate) async fn wait_until_resumed(&mut self) {
        let _ = self.state.wait_for(|state| !state.paused).await;
    }

    /// Waits until the idle limit has passed since the call or since the last change of a fault.
    pub(crate) async fn wait_until_idle(&mut self) {
        loop {
            let ConnectionState { max_idle, paused, .. } = *self.state.borrow_and_update();
            tokio::select! {
                changed = self.state.changed() => {
                    if changed.is_err() {
                        pending::<()>().await;
                    }
                }
                () = sleep(max_idle.unwrap_or_default()), if max_idle.is_some() && !paused => return,
            }
        }
    }

    /// Waits until all connections are to be closed.
    pub(crate) async fn wait_for_disconnect(&mut self) {
        let before = self.state.borrow().disconnects;
        if self.state.wait_for(|state| state.disconnects > before).await.is_err() {
            pending::<()>().await;
        }
    }
}

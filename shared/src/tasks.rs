//! Tasks that a process cannot do without.

use std::{
    convert::Infallible,
    future::poll_fn,
    sync::Arc,
    task::{Poll, ready},
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
};

/// A task panicked, which is a defect of ours: the process ends and is started anew by whoever runs it.
#[derive(Debug, thiserror::Error)]
#[error("a task of the process panicked")]
pub struct Panicked(#[source] tokio::task::JoinError);

/// A set of tasks that run until they are done or aborted. Cheap to clone; tasks may start others.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    set: Mutex<JoinSet<()>>,
    /// A task was started: the set may have been empty, and then nobody else wakes the watch.
    started: Notify,
}

// === impl Tasks ===

impl Tasks {
    /// Starts a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let handle = self.shared.set.lock().spawn(task);
        self.shared.started.notify_one();
        handle
    }

    /// Starts a task that goes on for ever: its type says so, and none ends unnoticed.
    pub fn spawn_endless(&self, task: impl Future<Output = Infallible> + Send + 'static) -> AbortHandle {
        self.spawn(task.map(|never| match never {}))
    }

    /// Resolves when a task panics, and never when they all end well.
    pub async fn panicked(&self) -> Panicked {
        loop {
            let ended = poll_fn(|cx| {
                let mut set = self.shared.set.lock();
                loop {
                    match ready!(set.poll_join_next(cx)) {
                        Some(Err(error)) if error.is_panic() => return Poll::Ready(Some(error)),
                        Some(_) => {}
                        None => return Poll::Ready(None),
                    }
                }
            });
            match ended.await {
                Some(error) => return Panicked(error),
                None => self.shared.started.notified().await,
            }
        }
    }

    /// Ends them all where they are.
    pub fn abort_all(&self) {
        self.shared.set.lock().abort_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_whenever_the_task_was_started() {
        let tasks = Tasks::default();
        tasks.spawn(async {});
        let later = tasks.clone();
        let (panicked, ()) = tokio::join!(tasks.panicked(), async {
            // The watch has seen the set empty by then.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            later.spawn(async { panic!("on purpose") });
        });
        assert!(panicked.0.is_panic());
    }

    #[tokio::test]
    async fn an_aborted_task_is_no_panic() {
        let tasks = Tasks::default();
        let stuck = tasks.spawn(std::future::pending());
        tasks.spawn(std::future::pending());
        stuck.abort();
        tasks.abort_all();
        let watch = tokio::time::timeout(std::time::Duration::from_millis(50), tasks.panicked());
        assert!(watch.await.is_err());
    }
}

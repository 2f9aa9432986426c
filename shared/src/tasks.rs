//! The background tasks of a process, and the first panic among them.

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

/// A task panicked. The panic is a defect: the process ends, and its supervisor restarts it.
#[derive(Debug, thiserror::Error)]
#[error("a task of the process panicked")]
pub struct TaskPanicked(#[source] tokio::task::JoinError);

/// A set of tasks that run until they are done or aborted. Cheap to clone, so that a task can spawn others.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    set: Mutex<JoinSet<()>>,
    /// Wakes [`Tasks::panicked`] when a task is spawned: an empty set wakes no waiter.
    spawned: Notify,
}

// === impl Tasks ===

impl Tasks {
    /// Spawns a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let handle = self.inner.set.lock().spawn(task);
        self.inner.spawned.notify_one();
        handle
    }

    /// Spawns a task that never returns. Its type guarantees that it ends only by a panic or an abort.
    pub fn spawn_endless(&self, task: impl Future<Output = Infallible> + Send + 'static) -> AbortHandle {
        self.spawn(task.map(|never| match never {}))
    }

    /// Resolves when a task panics. It never resolves if none does.
    pub async fn panicked(&self) -> TaskPanicked {
        loop {
            let panic = poll_fn(|cx| {
                let mut set = self.inner.set.lock();
                loop {
                    match ready!(set.poll_join_next(cx)) {
                        Some(Err(error)) if error.is_panic() => return Poll::Ready(Some(error)),
                        Some(_) => {}
                        None => return Poll::Ready(None),
                    }
                }
            });
            match panic.await {
                Some(error) => return TaskPanicked(error),
                None => self.inner.spawned.notified().await,
            }
        }
    }

    /// Aborts all tasks.
    pub fn abort_all(&self) {
        self.inner.set.lock().abort_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panic_of_a_task_spawned_later_is_reported() {
        let tasks = Tasks::default();
        tasks.spawn(async {});
        let later = tasks.clone();
        let (panicked, ()) = tokio::join!(tasks.panicked(), async {
            // Until `panicked` has seen the empty set.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            later.spawn(async { panic!("on purpose") });
        });
        assert!(panicked.0.is_panic());
    }

    #[tokio::test(start_paused = true)]
    async fn abort_is_not_a_panic() {
        let tasks = Tasks::default();
        let stuck = tasks.spawn(std::future::pending());
        tasks.spawn(std::future::pending());
        stuck.abort();
        tasks.abort_all();
        // The paused clock advances only when every task is idle.
        let panicked = tokio::time::timeout(std::time::Duration::from_millis(50), tasks.panicked());
        assert!(panicked.await.is_err());
    }
}

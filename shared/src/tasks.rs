//! Tasks that a process cannot do without.

use std::future::Future;

use tokio::task::JoinSet;

/// A task panicked, which is a defect of ours: the process ends and is started anew by whoever runs it.
#[derive(Debug, thiserror::Error)]
#[error("a task of the process panicked")]
pub struct Panicked(#[source] tokio::task::JoinError);

/// A set of tasks that run until they are done or the set is dropped.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
}

// === impl Tasks ===

impl Tasks {
    /// Starts a task.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(task);
    }

    /// Resolves when a task panics, and never when they all end well.
    pub async fn panicked(&mut self) -> Panicked {
        while let Some(ended) = self.set.join_next().await {
            if let Err(error) = ended {
                return Panicked(error);
            }
        }
        std::future::pending().await
    }
}

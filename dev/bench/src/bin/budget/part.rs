//! One part of the system on a thread of its own, whose allocations are counted for a while.
//!
//! The thread drives its runtime in three stretches: until the counting begins, while it lasts, and to its end. Only
//! what runs on this thread counts, so the other parts and the load generator do not.

use std::{
    future::Future,
    sync::{Arc, Barrier},
    thread::{self, JoinHandle},
};

use allocation_counter::{AllocationInfo, measure};
use anyhow::{Result, anyhow};
use tokio::{runtime::Builder, sync::watch};

/// Where the counting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Before,
    During,
    After,
}

/// Begins and ends the counting of all parts at once.
#[derive(Debug, Clone)]
pub(crate) struct Counting {
    stage: watch::Sender<Stage>,
    /// Parts and conductor meet here, so that the first counted request comes after the counting began.
    begun: Arc<Barrier>,
}

/// A part that runs.
#[derive(Debug)]
pub(crate) struct Part {
    thread: JoinHandle<Result<AllocationInfo>>,
}

// === impl Counting ===

impl Counting {
    /// For so many parts.
    pub(crate) fn of(parts: usize) -> Self {
        Self {
            stage: watch::Sender::new(Stage::Before),
            begun: Arc::new(Barrier::new(parts + 1)),
        }
    }

    /// Returns when all parts count. Blocks the thread for as long as they take to notice.
    pub(crate) fn begin(&self) {
        self.stage.send_replace(Stage::During);
        self.begun.wait();
    }

    pub(crate) fn end(&self) {
        self.stage.send_replace(Stage::After);
    }
}

// === impl Part ===

impl Part {
    /// Runs what `start` gives until it ends by itself.
    pub(crate) fn spawn<F>(counting: &Counting, start: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<()>>,
    {
        let begun = Arc::clone(&counting.begun);
        let mut stage = counting.stage.subscribe();
        let thread = thread::spawn(move || {
            // One thread, as in the processes themselves.
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let mut part = Box::pin(start());
            let mut until = |wanted| {
                runtime.block_on(async {
                    tokio::select! {
                        ended = &mut part => Err(ended.err().unwrap_or_else(|| anyhow!("it ended early"))),
                        _ = stage.wait_for(|it| *it >= wanted) => Ok(()),
                    }
                })
            };
            let before = until(Stage::During);
            begun.wait();
            before?;
            let mut during = Ok(());
            let counted = measure(|| during = until(Stage::After));
            during?;
            runtime.block_on(part)?;
            Ok(counted)
        });
        Self { thread }
    }

    /// Waits for its end and gives what was counted.
    pub(crate) fn join(self) -> Result<AllocationInfo> {
        self.thread.join().map_err(|_| anyhow!("a part panicked"))?
    }
}

//! The gateway or the worker on a thread of its own, with its allocations counted for a while.
//!
//! The thread drives its runtime in three stretches: before, during and after the count. Only what runs on this thread
//! counts, so the load generator and the broker do not.

use std::{
    future::Future,
    sync::{Arc, Barrier},
    thread::{self, JoinHandle},
};

use allocation_counter::AllocationInfo;
use anyhow::{Result, anyhow};
use tokio::{runtime::Builder, sync::watch};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Before,
    Counting,
    After,
}

/// Starts and stops the count of all components.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    phase: watch::Sender<Phase>,
    /// All components count before the first counted request is sent.
    started: Arc<Barrier>,
}

/// A running component.
#[derive(Debug)]
pub(crate) struct Component {
    thread: JoinHandle<Result<AllocationInfo>>,
}

// === impl Counter ===

impl Counter {
    pub(crate) fn new(components: usize) -> Self {
        Self {
            phase: watch::Sender::new(Phase::Before),
            started: Arc::new(Barrier::new(components + 1)),
        }
    }

    /// Blocks until all components count.
    pub(crate) fn start(&self) {
        self.phase.send_replace(Phase::Counting);
        self.started.wait();
    }

    pub(crate) fn stop(&self) {
        self.phase.send_replace(Phase::After);
    }
}

// === impl Component ===

impl Component {
    /// Runs the future that `start` returns until it ends.
    pub(crate) fn spawn<F>(counter: &Counter, start: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<()>>,
    {
        let started = Arc::clone(&counter.started);
        let mut phase = counter.phase.subscribe();
        let thread = thread::spawn(move || {
            // One thread, as in the processes themselves.
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let mut component = Box::pin(start());
            let mut run_until = |next| {
                runtime.block_on(async {
                    tokio::select! {
                        ended = &mut component => Err(ended.err().unwrap_or_else(|| anyhow!("it ended early"))),
                        _ = phase.wait_for(|phase| *phase >= next) => Ok(()),
                    }
                })
            };
            let before = run_until(Phase::Counting);
            // Also after an error: `Counter::start` waits for all components.
            started.wait();
            before?;
            let mut counting = Ok(());
            let allocations = allocation_counter::measure(|| counting = run_until(Phase::After));
            counting?;
            runtime.block_on(component)?;
            Ok(allocations)
        });
        Self { thread }
    }

    /// Waits for its end.
    pub(crate) fn join(self) -> Result<AllocationInfo> {
        self.thread.join().map_err(|_| anyhow!("a component panicked"))?
    }
}

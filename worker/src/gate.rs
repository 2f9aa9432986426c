//! Whether requests can be handled at all. While it is closed, no partition is polled and no heartbeat is sent.

use tokio::sync::watch;

/// Open or closed. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    is_open: watch::Sender<bool>,
}

// === impl Gate ===

impl Gate {
    pub(crate) fn new(is_open: bool) -> Self {
        Self {
            is_open: watch::Sender::new(is_open),
        }
    }

    pub(crate) fn set_open(&self, is_open: bool) {
        self.is_open
            .send_if_modified(|current| std::mem::replace(current, is_open) != is_open);
    }

    /// Waits until it is open.
    pub(crate) async fn opened(&self) {
        self.wait_for(true).await;
    }

    /// Waits until it is closed.
    pub(crate) async fn closed(&self) {
        self.wait_for(false).await;
    }

    async fn wait_for(&self, wanted: bool) {
        let mut is_open = self.is_open.subscribe();
        // The sender lives as long as `self`.
        let _ = is_open.wait_for(|is_open| *is_open == wanted).await;
    }
}

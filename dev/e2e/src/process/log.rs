//! The stderr of a process, by lines.

use std::{
    io::{BufRead, BufReader, Read},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;

/// The lines so far.
#[derive(Debug, Default)]
pub(super) struct Log(Arc<Mutex<Vec<String>>>);

// === impl Log ===

impl Log {
    /// Reads to the end, on a thread that ends with the process.
    pub(super) fn of(stderr: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let copy = Self(Arc::clone(&log.0));
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                copy.0.lock().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        log
    }

    /// Whether stderr has ended.
    pub(super) fn is_complete(&self) -> bool {
        // The thread has dropped its reference.
        Arc::strong_count(&self.0) == 1
    }

    /// The first match in a line.
    pub(super) fn find<T>(&self, look: impl FnMut(&str) -> Option<T>) -> Option<T> {
        self.0.lock().iter().map(String::as_str).find_map(look)
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

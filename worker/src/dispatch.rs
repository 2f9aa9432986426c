//! Decides which requests are handled when: a bound on those at a time, and one at a time for each key, in order.
//!
//! A state machine without I/O. A request is waiting, ready, running or paused:
//!
//! - Waiting: another one of its key is ahead. It is ready when that one is finished.
//! - Ready: it runs as soon as fewer than `limit` are running.
//! - Paused: it holds its key and no place, until it is ready again.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::Hash,
};

/// Requests by key.
#[derive(Debug)]
pub(crate) struct Dispatch<K, T> {
    limit: usize,
    running: usize,
    ready: VecDeque<Held<K, T>>,
    /// The keys that are held by a ready, running or paused request, and the requests that wait for them.
    waiting: HashMap<K, VecDeque<T>>,
}

/// A request that holds its key. One without a key holds nothing.
#[derive(Debug)]
pub(crate) struct Held<K, T> {
    pub(crate) key: Option<K>,
    pub(crate) item: T,
}

// === impl Dispatch ===

impl<K: Clone + Eq + Hash, T> Dispatch<K, T> {
    /// `limit` is how many may run at a time.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            running: 0,
            ready: VecDeque::new(),
            waiting: HashMap::new(),
        }
    }

    /// How many are running.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Adds a request behind all others of its key.
    pub(crate) fn push(&mut self, key: Option<K>, item: T) {
        if let Some(key) = &key {
            match self.waiting.entry(key.clone()) {
                Entry::Occupied(mut behind) => {
                    behind.get_mut().push_back(item);
                    return;
                }
                Entry::Vacant(free) => _ = free.insert(VecDeque::new()),
            }
        }
        self.ready.push_back(Held { key, item });
    }

    /// The next request to run, which counts as running from now on.
    pub(crate) fn start(&mut self) -> Option<Held<K, T>> {
        if self.running >= self.limit {
            return None;
        }
        let next = self.ready.pop_front()?;
        self.running += 1;
        Some(next)
    }

    /// A running request has ended, and the next one of its key is ready.
    pub(crate) fn finish(&mut self, key: Option<K>) {
        self.running -= 1;
        self.release(key);
    }

    /// A paused request has ended, and the next one of its key is ready.
    pub(crate) fn release(&mut self, key: Option<K>) {
        let Some(key) = key else { return };
        if let Entry::Occupied(mut behind) = self.waiting.entry(key) {
            match behind.get_mut().pop_front() {
                Some(item) => {
                    let key = Some(behind.key().clone());
                    self.ready.push_back(Held { key, item });
                }
                None => _ = behind.remove(),
            }
        }
    }

    /// A running request gives its place to others, and keeps its key.
    pub(crate) fn pause(&mut self) {
        self.running -= 1;
    }

    /// A paused request is ready again.
    pub(crate) fn resume(&mut self, held: Held<K, T>) {
        self.ready.push_back(held);
    }

    /// A paused request is given up, and with it all that wait for its key: they must not overtake it.
    pub(crate) fn abandon(&mut self, key: Option<K>) -> VecDeque<T> {
        key.and_then(|key| self.waiting.remove(&key)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;

//! A scripted worker, with the rate, the delay and the replies that a scenario needs.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use e2e::{fixture::Fixture, topic::record};
use rskafka::record::Record;
use serde_json::Value;
use tokio::time::{Instant, interval};

/// The interval between two batches of replies.
const TICK: Duration = Duration::from_millis(10);

/// The replies to a request.
pub(crate) type Replies = Arc<dyn Fn(&Record) -> Vec<Record> + Send + Sync>;

/// A worker on a thread, from the latest offset on.
#[derive(Debug)]
pub(crate) struct ScriptedWorker {
    ended: Arc<AtomicBool>,
    delay_ms: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// The reply of the contract to a request.
pub(crate) fn reply(request: &Record) -> Record {
    let value: Value = serde_json::from_slice(request.value.as_deref().unwrap_or_default()).unwrap();
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let response = format!("{} {} ( {} ) ", text("name"), text("value"), text("id"));
    let mut reply = record(Some(text("id").as_bytes()), Some(response.as_bytes()));
    // The correlation header of the request.
    reply.headers.clone_from(&request.headers);
    reply
}

// === impl ScriptedWorker ===

impl ScriptedWorker {
    /// Starts the worker, with a bound on its replies per second.
    pub(crate) fn start(fixture: &Fixture, rate: Option<f64>, replies_to: Replies) -> Self {
        let (ended, delay_ms) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (thread_ended, thread_delay_ms) = (Arc::clone(&ended), Arc::clone(&delay_ms));
        let (started, starts) = std::sync::mpsc::channel();
        let fixture = fixture.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
                let mut position = ping.end().await;
                let waiting = parking_lot::Mutex::new(VecDeque::new());
                // The scenario may have failed.
                let _ = started.send(());
                let reading = async {
                    loop {
                        let records = ping.read_some(position).await;
                        position = records.last().map_or(position, |read| read.offset + 1);
                        let now = Instant::now();
                        waiting
                            .lock()
                            .extend(records.into_iter().map(|read| (now, read.record)));
                    }
                };
                let writing = async {
                    let mut ticks = interval(TICK);
                    let mut last = Instant::now();
                    let mut allowed = 0.0;
                    while !thread_ended.load(Ordering::Relaxed) {
                        ticks.tick().await;
                        // A missed share of the rate is made up within a tenth of a second.
                        if let Some(rate) = rate {
                            allowed = f64::min(allowed + last.elapsed().as_secs_f64() * rate, rate / 10.0);
                        }
                        last = Instant::now();
                        let delay = Duration::from_millis(thread_delay_ms.load(Ordering::Relaxed));
                        let mut replies = Vec::new();
                        while rate.is_none() || allowed >= 1.0 {
                            let mut waiting = waiting.lock();
                            if waiting.front().is_none_or(|(since, _)| since.elapsed() < delay) {
                                break;
                            }
                            replies.extend(waiting.pop_front().iter().flat_map(|(_, request)| replies_to(request)));
                            allowed -= 1.0;
                        }
                        if !replies.is_empty() {
                            pong.write_batch(replies).await;
                        }
                    }
                };
                tokio::select! {
                    () = reading => {}
                    () = writing => {}
                }
            });
        });
        starts.recv().expect("the topics exist");
        Self {
            ended,
            delay_ms,
            thread: Some(thread),
        }
    }

    /// Delays each reply after the read of its request.
    pub(crate) fn delayed(self, delay: Duration) -> Self {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.delay_ms.store(millis, Ordering::Relaxed);
        self
    }

    /// Stops the worker and waits for its end: it replies to no later request.
    pub(crate) fn stop(mut self) {
        let thread = self.thread.take();
        drop(self);
        if let Some(thread) = thread {
            thread.join().expect("it does not panic");
        }
    }
}

impl Drop for ScriptedWorker {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

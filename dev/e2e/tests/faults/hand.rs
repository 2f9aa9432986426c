//! A worker made by hand: as slow, as late and as talkative as a scenario wants it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use e2e::{scene::Scene, topic::record};
use rskafka::record::Record;
use serde_json::Value;
use tokio::time::{Instant, interval};

/// How often it writes.
const TICK: Duration = Duration::from_millis(10);

/// What it answers to a request.
pub(crate) type Answers = Arc<dyn Fn(&Record) -> Vec<Record> + Send + Sync>;

/// It reads from where the topic ends when it starts, on a thread of its own.
#[derive(Debug)]
pub(crate) struct HandWorker {
    ended: Arc<AtomicBool>,
    delay_ms: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// The reply of the contract.
pub(crate) fn reply(request: &Record) -> Record {
    let value: Value = serde_json::from_slice(request.value.as_deref().unwrap_or_default()).unwrap();
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let answer = format!("{} {} ( {} ) ", text("name"), text("value"), text("id"));
    let mut reply = record(Some(text("id").as_bytes()), Some(answer.as_bytes()));
    // Whatever the gateway has written there is for it to read.
    reply.headers.clone_from(&request.headers);
    reply
}

// === impl HandWorker ===

impl HandWorker {
    /// Answers at most so many requests per second.
    pub(crate) fn start(scene: &Scene, rate: Option<f64>, answers: Answers) -> Self {
        let (ended, delay_ms) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (its_ended, its_delay_ms) = (Arc::clone(&ended), Arc::clone(&delay_ms));
        let (begun, begins) = std::sync::mpsc::channel();
        let scene = scene.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (ping, pong) = tokio::join!(scene.ping(), scene.pong());
                let mut position = ping.end().await;
                let waiting = parking_lot::Mutex::new(VecDeque::new());
                // Nobody waits for it any more when the scenario has failed.
                let _ = begun.send(());
                let reading = async {
                    loop {
                        let records = ping.read_some(position).await;
                        position = records.last().map_or(position, |it| it.offset + 1);
                        let now = Instant::now();
                        waiting.lock().extend(records.into_iter().map(|it| (now, it.record)));
                    }
                };
                let writing = async {
                    let mut ticks = interval(TICK);
                    let mut last = Instant::now();
                    let mut allowed = 0.0;
                    while !its_ended.load(Ordering::Relaxed) {
                        ticks.tick().await;
                        // What it did not do in time it may do later, within a tenth of a second.
                        if let Some(rate) = rate {
                            allowed = f64::min(allowed + last.elapsed().as_secs_f64() * rate, rate / 10.0);
                        }
                        last = Instant::now();
                        let delay = Duration::from_millis(its_delay_ms.load(Ordering::Relaxed));
                        let mut replies = Vec::new();
                        while rate.is_none() || allowed >= 1.0 {
                            let mut waiting = waiting.lock();
                            if waiting.front().is_none_or(|(since, _)| since.elapsed() < delay) {
                                break;
                            }
                            replies.extend(waiting.pop_front().iter().flat_map(|(_, it)| answers(it)));
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
        begins.recv().expect("it finds its topics");
        Self {
            ended,
            delay_ms,
            thread: Some(thread),
        }
    }

    /// Answers only so long after it has read a request.
    pub(crate) fn delayed(self, delay: Duration) -> Self {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.delay_ms.store(millis, Ordering::Relaxed);
        self
    }

    /// Ends it, and waits for that: what is asked from now on it does not answer.
    pub(crate) fn stop(mut self) {
        let thread = self.thread.take();
        drop(self);
        if let Some(thread) = thread {
            thread.join().expect("it ends well");
        }
    }
}

impl Drop for HandWorker {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

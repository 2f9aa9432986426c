use std::{sync::atomic::AtomicU32, thread};

use kafka::{Cluster, ConsumedRecord, OffsetTracker, ProducerMetrics, Record, Security};
use prometheus_client::registry::Registry;
use shared::readiness::Readiness;
use tokio::{
    sync::watch,
    task::yield_now,
    time::{Instant, timeout},
};

use super::*;
use crate::{
    Reply, Request,
    delivery::ReplyDelivery,
    handler::{Handler, Service},
};

/// The bound on every wait.
const TEST_TIMEOUT: Duration = Duration::from_secs(600);

/// One partition whose requests have no callers, so that nothing is written to Kafka.
struct Fixture {
    executor: Executor,
    readiness: Readiness,
    tasks: Tasks,
    gate: Gate,
    offsets: Arc<OffsetTracker>,
    phase: watch::Sender<Phase>,
    next_offset: i64,
}

impl Fixture {
    fn new(concurrency: usize) -> Self {
        Self::with_handlers_on(Handle::current(), concurrency)
    }

    fn with_handlers_on(runtime: Handle, concurrency: usize) -> Self {
        let brokers = vec!["127.0.0.1:1".to_owned()];
        let cluster = Arc::new(Cluster::new("test", brokers, Security::default(), Vec::new()));
        let (tasks, readiness, gate) = (Tasks::default(), Readiness::default(), Gate::new(true));
        let metrics = Metrics::register(&mut Registry::default());
        let replies = ReplyProducers::new(
            &cluster,
            &Tasks::default(),
            Vec::new(),
            ReplyDelivery(metrics.clone()),
            Readiness::default().health_check("outbox"),
            ProducerMetrics::default(),
        );
        let executor = Executor::new(Parts {
            concurrency,
            default_timeout: Duration::from_secs(60),
            runtime,
            tasks: tasks.clone(),
            replies,
            dead_letters: None,
            gate: gate.clone(),
            metrics,
            retries: readiness.health_check("failing requests"),
        });
        let offsets = Arc::new(OffsetTracker::default());
        offsets.fetched(std::iter::empty(), 0, None);
        Self {
            executor,
            readiness,
            tasks,
            gate,
            offsets,
            phase: watch::Sender::new(Phase::Serving),
            next_offset: 0,
        }
    }

    /// Submits a request with this key for a handler.
    fn submit(&mut self, key: &str, handler: &Handler) {
        let offset = self.next_offset;
        self.next_offset += 1;
        self.offsets.fetched([offset].into_iter(), offset + 1, None);
        let record: ConsumedRecord = Record::new(key.into(), offset.to_string().into()).into();
        self.executor.submit(Job {
            request: Request::new(record, &"/events".into(), 0, None, false),
            service: Service::new("events", handler.clone()),
            in_flight: self.offsets.in_flight(offset),
            phase: self.phase.subscribe(),
            failed_attempts: 0,
        });
    }

    async fn until_done(&self) {
        timeout(TEST_TIMEOUT, self.offsets.wait_for_acks()).await.unwrap();
    }

    fn position(&self) -> i64 {
        self.offsets.committable().unwrap()
    }

    fn cause(&self) -> Option<String> {
        self.readiness.not_ready().pop().map(|(_, cause)| cause)
    }
}

/// A handler that fails the first `failures` calls.
fn failing(failures: u32, calls: &Arc<AtomicU32>) -> Handler {
    let calls = Arc::clone(calls);
    Handler::spawned(move |_| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            if call < failures {
                return Err(Failure::new(503, "not yet"));
            }
            Ok(Reply::no_content())
        }
    })
}

fn done() -> Handler {
    Handler::spawned(async |_| Ok(Reply::no_content()))
}

#[tokio::test(start_paused = true)]
async fn handlers_run_concurrently_within_the_limit_and_in_order_per_key() {
    let mut fixture = Fixture::new(4);
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let seen = Arc::new(Mutex::new(BTreeMap::<Vec<u8>, Vec<i64>>::new()));
    let (now, peak, calls) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&seen));
    let handler = Handler::spawned(move |request: Request| {
        let (now, peak, calls) = (Arc::clone(&now), Arc::clone(&peak), Arc::clone(&calls));
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            sleep(Duration::from_millis(10)).await;
            let offset = std::str::from_utf8(request.body())?.parse()?;
            calls
                .lock()
                .entry(request.key().unwrap().to_vec())
                .or_default()
                .push(offset);
            now.fetch_sub(1, Ordering::Relaxed);
            Ok(Reply::no_content())
        }
    });
    for n in 0..100 {
        fixture.submit(&format!("key {}", n % 7), &handler);
    }
    fixture.until_done().await;
    assert_eq!(most.load(Ordering::Relaxed), 4);
    let seen = seen.lock();
    assert_eq!(seen.len(), 7);
    assert!(seen.values().all(|offsets| offsets.is_sorted()), "{seen:?}");
    assert_eq!(fixture.position(), 100);
}

#[tokio::test(start_paused = true)]
async fn failed_request_is_tried_again_and_holds_up_its_key_only() {
    let mut fixture = Fixture::new(1);
    let calls = Arc::default();
    fixture.submit("a", &failing(2, &calls));
    fixture.submit("a", &done());
    fixture.submit("b", &done());
    let begun = Instant::now();
    let only_a = async {
        while fixture.executor.shared.parts.metrics.attempts() != (2, 1) {
            yield_now().await;
        }
    };
    timeout(Duration::from_millis(900), only_a).await.unwrap();
    assert_eq!(fixture.position(), 0, "the first one is not done");
    fixture.until_done().await;
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    assert_eq!(begun.elapsed().as_secs(), 11, "pauses of 1 s and 10 s");
    assert_eq!(fixture.position(), 3);
}

#[tokio::test(start_paused = true)]
async fn without_dead_letters_a_request_is_tried_on_and_named() {
    let mut fixture = Fixture::new(1);
    let calls = Arc::default();
    fixture.submit("a", &failing(6, &calls));
    let named = async {
        loop {
            if let Some(cause) = fixture.cause() {
                return cause;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let cause = timeout(TEST_TIMEOUT, named).await.unwrap();
    assert!(cause.contains("events/0/0: not yet; DEAD_LETTER_TOPIC"), "{cause}");
    fixture.until_done().await;
    assert_eq!(calls.load(Ordering::Relaxed), 7);
    assert_eq!(fixture.cause(), None);
}

#[tokio::test(start_paused = true)]
async fn stop_gives_up_requests_between_attempts_and_those_behind_them() {
    let mut fixture = Fixture::new(2);
    fixture.submit("b", &done());
    fixture.submit("a", &failing(u32::MAX, &Arc::default()));
    fixture.submit("a", &done());
    fixture.submit("c", &done());
    while fixture.executor.shared.parts.metrics.attempts() != (3, 1) {
        sleep(Duration::from_millis(1)).await;
    }
    fixture.phase.send_replace(Phase::Stopping);
    fixture.until_done().await;
    assert_eq!(fixture.position(), 1, "of those behind it nothing is committed");
    assert_eq!(fixture.executor.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn panic_is_a_failed_attempt_of_one_request() {
    let mut fixture = Fixture::new(1);
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let handler = Handler::spawned(move |_| {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            assert!(call > 0, "on purpose");
            Ok(Reply::no_content())
        }
    });
    fixture.submit("a", &handler);
    fixture.submit("b", &handler);
    fixture.until_done().await;
    assert_eq!((calls.load(Ordering::Relaxed), fixture.position()), (3, 2));
    assert_eq!(fixture.executor.shared.parts.metrics.panics.get(), 1);
    // The tasks of the executor did not panic.
    assert!(
        timeout(Duration::from_millis(1), fixture.tasks.panicked())
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn handler_is_dropped_after_the_default_timeout() {
    let mut fixture = Fixture::new(1);
    let dropped = Arc::new(());
    let held = Arc::clone(&dropped);
    let handler = Handler::spawned(move |_| {
        let held = Arc::clone(&held);
        async move {
            let _held = held;
            std::future::pending().await
        }
    });
    fixture.submit("a", &handler);
    while Arc::strong_count(&dropped) < 3 {
        yield_now().await;
    }
    assert!(fixture.executor.oldest().is_some());
    sleep(Duration::from_millis(60_100)).await;
    assert_eq!(Arc::strong_count(&dropped), 2);
    assert_eq!(fixture.executor.oldest(), None);
    assert_eq!(fixture.executor.shared.parts.metrics.too_late.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn request_that_was_not_executed_waits_for_the_gate() {
    let mut fixture = Fixture::new(1);
    fixture.gate.set_open(false);
    let is_there = fixture.gate.clone();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let handler = Handler::spawned(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        let is_there = is_there.clone();
        async move {
            match timeout(Duration::ZERO, is_there.opened()).await {
                Ok(()) => Ok(Reply::no_content()),
                Err(refused) => Err(Failure::not_executed(refused)),
            }
        }
    });
    fixture.submit("a", &handler);
    let room = timeout(Duration::from_secs(3600), fixture.executor.wait_for_room());
    assert!(room.await.is_err(), "nothing is polled");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    fixture.gate.set_open(true);
    fixture.until_done().await;
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    timeout(TEST_TIMEOUT, fixture.executor.wait_for_room()).await.unwrap();
}

/// The thread of the handlers is blocked; the clock is real.
#[tokio::test]
async fn blocking_handler_does_not_block_the_executor() {
    let handlers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let mut fixture = Fixture::with_handlers_on(handlers.handle().clone(), 2);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let handler = Handler::spawned(move |_| {
        let released = Arc::clone(&released);
        async move {
            // Until the test ends it.
            let _ = released.lock().recv();
            Ok(Reply::no_content())
        }
    });
    fixture.submit("a", &handler);
    let seen = async {
        while fixture
            .executor
            .oldest()
            .is_none_or(|oldest| oldest < Duration::from_millis(50))
        {
            yield_now().await;
            thread::yield_now();
        }
    };
    timeout(TEST_TIMEOUT, seen).await.unwrap();
    assert_eq!(fixture.position(), 0);
    drop(release);
    fixture.until_done().await;
    handlers.shutdown_background();
}

//! The pacer under a paused clock; a connection is a task that sleeps for the time of a response.

use super::*;
use crate::load::Connections;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::{task::JoinSet, time::sleep};

const MS: Duration = Duration::from_millis(1);

fn open(rate: f64, warmup: Duration, until: Until) -> Arc<Pacer> {
    let mode = Mode::Open {
        rate,
        connections: Connections::Fixed(1),
    };
    Arc::new(Pacer::new(mode, warmup, until, PreciseTimer::default()))
}

/// Each request with the time it was taken at, since the beginning, in the order of their numbers.
async fn play(
    pacer: &Arc<Pacer>,
    connections: usize,
    busy: impl Fn(&Arrival) -> Duration + Send + Sync + 'static,
) -> Vec<(Arrival, Duration)> {
    let busy = Arc::new(busy);
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (pacer, busy, log) = (Arc::clone(pacer), Arc::clone(&busy), Arc::clone(&log));
        tasks.spawn(async move {
            while let Some(arrival) = pacer.next().await {
                log.lock().push((arrival, pacer.begin.elapsed()));
                sleep(busy(&arrival)).await;
            }
        });
    }
    tasks.join_all().await;
    let mut log = std::mem::take(&mut *log.lock());
    log.sort_by_key(|(arrival, _)| arrival.number);
    log
}

#[tokio::test(start_paused = true)]
async fn open_loop_requests_are_due_at_the_rate() {
    let pacer = open(100.0, Duration::ZERO, Until::Elapsed(Duration::from_secs(1)));
    let arrivals = play(&pacer, 3, |_| 5 * MS).await;
    assert_eq!(arrivals.len(), 100);
    for (i, (arrival, taken)) in (0_u32..).zip(&arrivals) {
        assert_eq!(arrival.number, u64::from(i));
        assert_eq!(arrival.due - pacer.begin, 10 * MS * i);
        assert_eq!(*taken, arrival.due - pacer.begin);
    }
}

#[tokio::test(start_paused = true)]
async fn stalled_connection_does_not_move_due_instants() {
    // One connection, and the 10th request takes 200 ms: the 20 that follow are late, and their latency says so.
    let pacer = open(100.0, Duration::ZERO, Until::Elapsed(Duration::from_secs(1)));
    let arrivals = play(&pacer, 1, |arrival| if arrival.number == 9 { 200 * MS } else { MS }).await;
    assert_eq!(arrivals.len(), 100);
    let waits: Vec<_> = arrivals
        .iter()
        .map(|(arrival, taken)| *taken - (arrival.due - pacer.begin))
        .collect();
    for (i, (arrival, _)) in (0_u32..).zip(&arrivals) {
        assert_eq!(arrival.due - pacer.begin, 10 * MS * i);
    }
    assert_eq!(waits[9], Duration::ZERO);
    assert_eq!(waits[10], 190 * MS);
    assert_eq!(waits[11], 181 * MS);
    assert!(waits[40].is_zero(), "the backlog is gone: {:?}", waits[40]);
}

#[tokio::test(start_paused = true)]
async fn warmup_requests_are_not_measured() {
    let pacer = open(100.0, 50 * MS, Until::Requests(7));
    let arrivals = play(&pacer, 2, |_| MS).await;
    let measured: Vec<_> = arrivals.iter().map(|(arrival, _)| arrival.is_measured).collect();
    assert_eq!(measured, [[false; 5].as_slice(), &[true; 7]].concat());
}

#[tokio::test(start_paused = true)]
async fn busy_connections_signal_no_idle_connection() {
    let pacer = open(100.0, Duration::ZERO, Until::Elapsed(Duration::from_secs(1)));
    let signalled = tokio::spawn({
        let pacer = Arc::clone(&pacer);
        async move {
            pacer.no_idle_connection().await;
            pacer.begin.elapsed()
        }
    });
    assert!(pacer.next().await.is_some());
    assert_eq!(signalled.await.unwrap(), Duration::ZERO);
    // A second connection in the queue means no signal.
    let waiting = tokio::spawn({
        let pacer = Arc::clone(&pacer);
        async move { pacer.next().await.map(|arrival| arrival.number) }
    });
    let first = tokio::spawn({
        let pacer = Arc::clone(&pacer);
        async move { pacer.next().await.map(|arrival| arrival.number) }
    });
    assert_eq!(waiting.await.unwrap(), Some(1));
    assert!(tokio::time::timeout(MS, pacer.no_idle_connection()).await.is_err());
    assert_eq!(first.await.unwrap(), Some(2));
    assert!(tokio::time::timeout(MS, pacer.no_idle_connection()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn closed_loop_waits_for_the_response_only() {
    let mode = Mode::Closed { connections: 2 };
    let pacer = Arc::new(Pacer::new(
        mode,
        20 * MS,
        Until::Elapsed(100 * MS),
        PreciseTimer::default(),
    ));
    let arrivals = play(&pacer, 2, |_| 10 * MS).await;
    // Two connections, 120 ms, 10 ms each.
    assert_eq!(arrivals.len(), 24);
    assert_eq!(arrivals.iter().filter(|(arrival, _)| arrival.is_measured).count(), 20);
    assert!(
        arrivals
            .iter()
            .all(|(arrival, taken)| arrival.due - pacer.begin == *taken)
    );
}

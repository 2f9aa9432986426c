//! The schedule under the paused clock, with connections that are nothing but a time to be busy for.

use super::*;
use crate::load::Connections;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::{task::JoinSet, time::sleep};

const MS: Duration = Duration::from_millis(1);

fn open(rate: f64, warmup: Duration, until: Until) -> Arc<Schedule> {
    let mode = Mode::Open {
        rate,
        connections: Connections::Fixed(1),
    };
    Arc::new(Schedule::new(mode, warmup, until, Some(Alarm::coarse())))
}

/// Each turn with when it was taken, both in time since the beginning, in the order of their numbers.
async fn play(
    schedule: &Arc<Schedule>,
    connections: usize,
    busy: impl Fn(&Turn) -> Duration + Send + Sync + 'static,
) -> Vec<(Turn, Duration)> {
    let busy = Arc::new(busy);
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (schedule, busy, log) = (Arc::clone(schedule), Arc::clone(&busy), Arc::clone(&log));
        tasks.spawn(async move {
            while let Some(turn) = schedule.next().await {
                log.lock().push((turn, schedule.begin.elapsed()));
                sleep(busy(&turn)).await;
            }
        });
    }
    tasks.join_all().await;
    let mut log = std::mem::take(&mut *log.lock());
    log.sort_by_key(|(turn, _)| turn.number);
    log
}

#[tokio::test(start_paused = true)]
async fn requests_are_due_at_the_rate() {
    let schedule = open(100.0, Duration::ZERO, Until::Elapsed(Duration::from_secs(1)));
    let turns = play(&schedule, 3, |_| 5 * MS).await;
    assert_eq!(turns.len(), 100);
    for (i, (turn, taken)) in (0_u32..).zip(&turns) {
        assert_eq!(turn.number, u64::from(i));
        assert_eq!(turn.due - schedule.begin, 10 * MS * i);
        assert_eq!(*taken, turn.due - schedule.begin);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_delays_the_sending_but_not_the_due_instants() {
    // One connection, and the 10th request takes 200 ms: the 20 that follow are late, and their latency says so.
    let schedule = open(100.0, Duration::ZERO, Until::Elapsed(Duration::from_secs(1)));
    let turns = play(&schedule, 1, |turn| if turn.number == 9 { 200 * MS } else { MS }).await;
    assert_eq!(turns.len(), 100);
    let waits: Vec<_> = turns
        .iter()
        .map(|(turn, taken)| *taken - (turn.due - schedule.begin))
        .collect();
    for (i, (turn, _)) in (0_u32..).zip(&turns) {
        assert_eq!(turn.due - schedule.begin, 10 * MS * i);
    }
    assert_eq!(waits[9], Duration::ZERO);
    assert_eq!(waits[10], 190 * MS);
    assert_eq!(waits[11], 181 * MS);
    assert!(waits[40].is_zero(), "the backlog is gone: {:?}", waits[40]);
}

#[tokio::test(start_paused = true)]
async fn the_warm_up_is_marked_and_not_counted() {
    let schedule = open(100.0, 50 * MS, Until::Requests(7));
    let turns = play(&schedule, 2, |_| MS).await;
    let measured: Vec<_> = turns.iter().map(|(turn, _)| turn.is_measured).collect();
    assert_eq!(measured, [[false; 5].as_slice(), &[true; 7]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_deserted_gate_asks_for_another_connection() {
    let schedule = open(100.0, Duration::ZERO, Until::Elapsed(Duration::from_secs(1)));
    let told = tokio::spawn({
        let schedule = Arc::clone(&schedule);
        async move {
            schedule.deserted().await;
            schedule.begin.elapsed()
        }
    });
    assert!(schedule.next().await.is_some());
    assert_eq!(told.await.unwrap(), Duration::ZERO);
    // With a second connection at the gate nobody is told.
    let waiting = tokio::spawn({
        let schedule = Arc::clone(&schedule);
        async move { schedule.next().await.map(|turn| turn.number) }
    });
    let first = tokio::spawn({
        let schedule = Arc::clone(&schedule);
        async move { schedule.next().await.map(|turn| turn.number) }
    });
    assert_eq!(waiting.await.unwrap(), Some(1));
    assert!(tokio::time::timeout(MS, schedule.deserted()).await.is_err());
    assert_eq!(first.await.unwrap(), Some(2));
    assert!(tokio::time::timeout(MS, schedule.deserted()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_closed_loop_waits_for_nothing_but_the_answer() {
    let mode = Mode::Closed { connections: 2 };
    let schedule = Arc::new(Schedule::new(mode, 20 * MS, Until::Elapsed(100 * MS), None));
    let turns = play(&schedule, 2, |_| 10 * MS).await;
    // Two connections, 120 ms, 10 ms each.
    assert_eq!(turns.len(), 24);
    assert_eq!(turns.iter().filter(|(turn, _)| turn.is_measured).count(), 20);
    assert!(turns.iter().all(|(turn, taken)| turn.due - schedule.begin == *taken));
}

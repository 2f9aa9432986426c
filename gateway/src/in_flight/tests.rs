use std::{pin::pin, time::Duration};

use tokio::time::{advance, timeout};

use super::*;

mod model;

const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

fn pending(max: usize) -> InFlight {
    let pending = InFlight::new(max, REPLY_TIMEOUT, Gauge::default(), Counter::default());
    pending.admit();
    pending
}

fn resolve(pending: &InFlight, id: Uuid, value: &str) -> ReplyMatch {
    let mut found = None;
    pending.reply([(id, Ok(value.as_bytes().to_vec()))], |it| found = Some(it));
    found.unwrap()
}

impl InFlight {
    /// Entries, deadlines kept, and the gauge.
    fn counts(&self) -> (usize, usize, i64) {
        let state = self.shared.state.lock();
        (state.waiting.len(), state.deadlines.len(), self.shared.in_flight.get())
    }
}

#[tokio::test]
async fn each_ticket_gets_its_own_reply() {
    let pending = pending(100);
    let tickets: Vec<_> = (0..100).map(|_| pending.register().unwrap()).collect();
    let replies = tickets
        .iter()
        .rev()
        .map(|it| (it.id(), Ok(it.id().to_string().into_bytes())));
    let replies: Vec<_> = replies.collect();
    pending.reply(replies, |found| assert_eq!(found, ReplyMatch::Delivered));
    for pending_reply in tickets {
        let id = pending_reply.id();
        assert_eq!(pending_reply.await.unwrap(), id.to_string().into_bytes());
    }
    assert_eq!(pending.counts().0, 0);
}

#[tokio::test]
async fn a_reply_before_the_first_poll_is_not_missed() {
    let pending = pending(1);
    let pending_reply = pending.register().unwrap();
    resolve(&pending, pending_reply.id(), "early");
    assert_eq!(pending_reply.await.unwrap(), b"early");
}

#[tokio::test]
async fn a_waiting_task_is_woken_by_its_reply() {
    let pending = pending(1);
    let pending_reply = pending.register().unwrap();
    let id = pending_reply.id();
    let waiting = tokio::spawn(pending_reply);
    tokio::task::yield_now().await;
    assert_eq!(resolve(&pending, id, "late"), ReplyMatch::Delivered);
    assert_eq!(waiting.await.unwrap().unwrap(), b"late");
}

#[tokio::test]
async fn the_last_task_to_poll_is_the_one_that_is_woken() {
    let pending = pending(1);
    let mut pending_reply = pin!(pending.register().unwrap());
    let mut elsewhere = Context::from_waker(Waker::noop());
    assert!(pending_reply.as_mut().poll(&mut elsewhere).is_pending());
    let id = pending_reply.id();
    let reply = async { resolve(&pending, id, "moved") };
    let (outcome, _) = timeout(REPLY_TIMEOUT, async { tokio::join!(pending_reply, reply) })
        .await
        .unwrap();
    assert_eq!(outcome.unwrap(), b"moved");
}

#[tokio::test]
async fn only_the_first_reply_counts() {
    let pending = pending(1);
    let pending_reply = pending.register().unwrap();
    let id = pending_reply.id();
    assert_eq!(resolve(&pending, id, "first"), ReplyMatch::Delivered);
    assert_eq!(resolve(&pending, id, "second"), ReplyMatch::Duplicate);
    assert_eq!(pending_reply.await.unwrap(), b"first");
    assert_eq!(resolve(&pending, id, "third"), ReplyMatch::Duplicate);
    assert_eq!(resolve(&pending, Uuid::new_v4(), "foreign"), ReplyMatch::Foreign);
}

#[tokio::test(start_paused = true)]
async fn a_reply_after_the_end_is_late() {
    let pending = pending(3);
    let (told, left, failed) = (
        pending.register().unwrap(),
        pending.register().unwrap(),
        pending.register().unwrap(),
    );
    let ids = [told.id(), left.id(), failed.id()];
    drop(left);
    pending.refuse([failed.id()], GatewayError::SendFailed);
    tokio::spawn(pending.clone().expire());
    assert_eq!(told.await.unwrap_err(), GatewayError::TimedOut);
    assert_eq!(
        resolve(&pending, ids[2], "while its caller is being told"),
        ReplyMatch::Late
    );
    assert_eq!(failed.await.unwrap_err(), GatewayError::SendFailed);
    for (id, found) in ids
        .into_iter()
        .zip([ReplyMatch::Late, ReplyMatch::Cancelled, ReplyMatch::Late])
    {
        assert_eq!(resolve(&pending, id, "late"), found);
    }
}

#[test]
fn while_nobody_is_there_to_answer_callers_are_told_at_once() {
    let pending = pending(1);
    pending.set_no_worker(true);
    assert_eq!(pending.register().unwrap_err(), GatewayError::NoWorker);
    pending.set_no_worker(false);
    drop(pending.register().unwrap());
}

#[tokio::test(start_paused = true)]
async fn callers_who_could_not_be_served_in_time_are_told_at_once() {
    let pending = pending(10_000);
    let open = || pending.register().unwrap();
    let mut waiting: std::collections::VecDeque<_> = (0..1_000).map(|_| open()).collect();
    // 100 replies a second, to callers who have waited for longer and longer.
    while waiting.len() > 500 {
        advance(Duration::from_millis(10)).await;
        let pending_reply = waiting.pop_front().unwrap();
        resolve(&pending, pending_reply.id(), "slow");
    }
    // 100/s in ten seconds, less a fifth.
    waiting.extend((0..290).map(|_| open()));
    let refused = (0..20).find_map(|_| pending.register().map(|it| waiting.push_back(it)).err());
    assert_eq!(refused, Some(GatewayError::Overloaded));
}

#[test]
fn nobody_is_taken_before_the_reply_offset_is_fixed_or_after_the_end() {
    let pending = InFlight::new(1, REPLY_TIMEOUT, Gauge::default(), Counter::default());
    assert_eq!(pending.register().unwrap_err(), GatewayError::NotReady);
    pending.admit();
    drop(pending.register().unwrap());
    pending.shut_down();
    pending.admit();
    assert_eq!(pending.register().unwrap_err(), GatewayError::ShuttingDown);
}

#[test]
fn the_places_are_bounded_and_free_again_after_every_way_out() {
    let pending = pending(2);
    let (a, b) = (pending.register().unwrap(), pending.register().unwrap());
    assert_eq!(pending.register().unwrap_err(), GatewayError::Full);
    drop(a);
    let c = pending.register().unwrap();
    resolve(&pending, c.id(), "answered");
    assert_eq!(
        pending.register().unwrap_err(),
        GatewayError::Full,
        "resolved, but still there"
    );
    drop(c);
    drop(b);
    assert_eq!((pending.counts().0, pending.counts().2), (0, 0));
    assert_eq!(pending.shared.abandoned.get(), 2, "c had its outcome");
}

#[tokio::test(start_paused = true)]
async fn a_caller_waits_for_its_patience_and_not_much_longer() {
    let pending = pending(10);
    tokio::spawn(pending.clone().expire());
    let early = pending.register().unwrap();
    advance(Duration::from_secs(4)).await;
    let late = pending.register().unwrap();
    let start = Instant::now();
    assert_eq!(early.await.unwrap_err(), GatewayError::TimedOut);
    let waited = start.elapsed();
    assert!((6000..=6020).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(late.await.unwrap_err(), GatewayError::TimedOut);
    let waited = start.elapsed();
    assert!((10_000..=10_020).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(pending.counts(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answered_caller_does_not_time_out() {
    let pending = pending(10);
    tokio::spawn(pending.clone().expire());
    let pending_reply = pending.register().unwrap();
    advance(REPLY_TIMEOUT - Duration::from_millis(1)).await;
    resolve(&pending, pending_reply.id(), "in time");
    advance(Duration::from_secs(1)).await;
    assert_eq!(pending_reply.await.unwrap(), b"in time");
}

#[tokio::test]
async fn shutting_down_tells_everybody_but_those_who_have_their_reply() {
    let pending = pending(3);
    let (a, b) = (pending.register().unwrap(), pending.register().unwrap());
    resolve(&pending, a.id(), "done");
    pending.shut_down();
    assert_eq!(a.await.unwrap(), b"done");
    assert_eq!(b.await.unwrap_err(), GatewayError::ShuttingDown);
}

#[tokio::test]
async fn deadlines_of_answered_callers_are_forgotten() {
    let pending = pending(10);
    let stuck = pending.register().unwrap();
    for _ in 0..10_000 {
        drop(pending.register().unwrap());
    }
    let (_, deadlines, _) = pending.counts();
    assert!(deadlines <= STALE_FACTOR * 2 + 65, "{deadlines}");
    drop(stuck);
}

#[test]
fn a_ticket_that_is_withdrawn_is_no_caller_who_left() {
    let pending = pending(1);
    let error = pending.register().unwrap().cancel(GatewayError::Full);
    assert_eq!(error, GatewayError::Full);
    assert_eq!(pending.counts().0, 0);
    assert_eq!(pending.shared.abandoned.get(), 0);
}

//! Every order in which threads can meet in the table: nobody sleeps on, nobody hears twice, nothing is left behind.
//!
//! The gateway runs on one thread today; the table does not depend on it.

use ::loom::{future::block_on, model::Builder, thread};

use super::*;

/// Thread switches that are forced in one run. Without a bound three threads take hours; the defects that such models are known to
/// find need two (<https://docs.rs/loom/latest/loom/model/struct.Builder.html>).
const PREEMPTIONS: usize = 3;

/// The same with four threads, which take half a minute with three.
const PREEMPTIONS_OF_FOUR: usize = 2;

/// Runs a model in every order, and checks that nothing is left behind.
fn in_every_order(model: impl Fn(&Pending) + Sync + Send + 'static) {
    before_the_start(PREEMPTIONS, move |pending| {
        pending.admit();
        model(pending);
    });
}

/// As [`in_every_order`], but nobody is admitted yet. Deadlines are over at once.
fn before_the_start(preemptions: usize, model: impl Fn(&Pending) + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let pending = Pending::new(2, Duration::ZERO, Gauge::default(), Counter::default());
        model(&pending);
        assert_eq!(pending.shared.state.lock().waiting.len(), 0);
        assert_eq!(pending.shared.in_flight.get(), 0);
    });
}

/// Whether a ticket had its outcome and there is no second one, once nobody is left who could give it.
fn is_taken(pending: &Pending, ticket: &Ticket) -> bool {
    let state = pending.shared.state.lock();
    matches!(state.waiting[&ticket.id].stage, Stage::Taken(_))
}

fn look(ticket: &mut Ticket) -> Poll<Outcome> {
    Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop()))
}

fn reply(pending: &Pending, id: Uuid, value: &str) -> Found {
    let mut found = None;
    pending.reply([(id, Ok(value.into()))], |it| found = Some(it));
    found.expect("each reply is heard of")
}

fn elsewhere<T: 'static>(pending: &Pending, act: impl FnOnce(&Pending) -> T + 'static) -> thread::JoinHandle<T> {
    let pending = pending.clone();
    thread::spawn(move || act(&pending))
}

#[test]
fn a_reply_wakes_whoever_waits() {
    in_every_order(|pending| {
        let ticket = pending.open().unwrap();
        let id = ticket.id();
        let replied = elsewhere(pending, move |pending| reply(pending, id, "reply"));
        assert_eq!(block_on(ticket).unwrap(), b"reply");
        assert_eq!(replied.join().unwrap(), Found::Waiting);
    });
}

#[test]
fn of_two_replies_one_counts() {
    in_every_order(|pending| {
        let ticket = pending.open().unwrap();
        let id = ticket.id();
        let first = elsewhere(pending, move |pending| reply(pending, id, "first"));
        let second = elsewhere(pending, move |pending| reply(pending, id, "second"));
        let outcome = block_on(ticket).unwrap();
        let found = [first.join().unwrap(), second.join().unwrap()];
        let told: &[u8] = match found {
            [Found::Waiting, Found::Answered] => b"first",
            [Found::Answered, Found::Waiting] => b"second",
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome, told);
    });
}

#[test]
fn a_reply_or_a_deadline_is_first() {
    in_every_order(|pending| {
        let ticket = pending.open().unwrap();
        let id = ticket.id();
        let replied = elsewhere(pending, move |pending| reply(pending, id, "reply"));
        let expired = elsewhere(pending, |pending| pending.refuse_late(Instant::now()));
        let expected = match (block_on(ticket), replied.join().unwrap()) {
            (Ok(value), Found::Waiting) => value == b"reply",
            (Err(Refusal::TimedOut), Found::GivenUp) => true,
            _ => false,
        };
        assert!(expected);
        assert_eq!(expired.join().unwrap(), None);
        assert_eq!(pending.shared.abandoned.get(), 0);
    });
}

#[test]
fn a_reply_or_the_end_is_first() {
    in_every_order(|pending| {
        let ticket = pending.open().unwrap();
        let id = ticket.id();
        let replied = elsewhere(pending, move |pending| reply(pending, id, "reply"));
        let ended = elsewhere(pending, Pending::shut_down);
        let outcome = block_on(ticket);
        match replied.join().unwrap() {
            Found::Waiting => assert_eq!(outcome.unwrap(), b"reply"),
            found => assert_eq!((found, outcome.unwrap_err()), (Found::GivenUp, Refusal::ShuttingDown)),
        }
        ended.join().unwrap();
    });
}

#[test]
fn a_reply_or_a_failed_send_is_first() {
    in_every_order(|pending| {
        let mut ticket = pending.open().unwrap();
        let id = ticket.id();
        let replied = elsewhere(pending, move |pending| reply(pending, id, "reply"));
        let failed = elsewhere(pending, move |pending| pending.refuse([id], Refusal::SendFailed));
        let outcome = block_on(&mut ticket);
        match replied.join().unwrap() {
            Found::Waiting => assert_eq!(outcome.unwrap(), b"reply"),
            found => assert_eq!((found, outcome.unwrap_err()), (Found::GivenUp, Refusal::SendFailed)),
        }
        failed.join().unwrap();
        assert!(is_taken(pending, &ticket));
    });
}

#[test]
fn a_deadline_or_the_end_is_first() {
    in_every_order(|pending| {
        let mut ticket = pending.open().unwrap();
        let id = ticket.id();
        let expired = elsewhere(pending, |pending| pending.refuse_late(Instant::now()));
        let ended = elsewhere(pending, Pending::shut_down);
        let refusal = block_on(&mut ticket).unwrap_err();
        assert!(
            matches!(refusal, Refusal::TimedOut | Refusal::ShuttingDown),
            "{refusal:?}"
        );
        assert_eq!(expired.join().unwrap(), None);
        ended.join().unwrap();
        assert!(is_taken(pending, &ticket));
        drop(ticket);
        assert_eq!(reply(pending, id, "late"), Found::GivenUp);
        assert_eq!(pending.shared.abandoned.get(), 0);
    });
}

#[test]
fn a_caller_who_comes_at_a_deadline_is_not_forgotten() {
    in_every_order(|pending| {
        let mut held = pending.open().unwrap();
        let late = held.opened() + Duration::from_secs(60);
        let came = elsewhere(pending, |pending| pending.open().unwrap());
        assert_eq!(pending.refuse_late(late), None);
        assert_eq!(block_on(&mut held).unwrap_err(), Refusal::TimedOut);
        let mut came = came.join().unwrap();
        assert_eq!(pending.refuse_late(late), None);
        assert_eq!(block_on(&mut came).unwrap_err(), Refusal::TimedOut);
        assert!(is_taken(pending, &held) && is_taken(pending, &came));
        drop((held, came));
        assert!(pending.shared.state.lock().deadlines.is_empty());
        assert_eq!(pending.shared.abandoned.get(), 0);
    });
}

#[test]
fn a_caller_who_comes_at_the_start_is_refused_or_served() {
    before_the_start(PREEMPTIONS, |pending| {
        let admitted = elsewhere(pending, Pending::admit);
        let serve = |mut ticket: Ticket| {
            let id = ticket.id();
            let replied = elsewhere(pending, move |pending| reply(pending, id, "reply"));
            assert_eq!(block_on(&mut ticket).unwrap(), b"reply");
            assert_eq!(replied.join().unwrap(), Found::Waiting);
            assert!(is_taken(pending, &ticket));
        };
        match pending.open() {
            Ok(ticket) => serve(ticket),
            Err(refusal) => assert_eq!(refusal, Refusal::NotReady),
        }
        admitted.join().unwrap();
        serve(pending.open().unwrap());
    });
}

#[test]
fn nobody_is_let_in_by_a_start_after_the_end() {
    before_the_start(PREEMPTIONS, |pending| {
        let admitted = elsewhere(pending, Pending::admit);
        let ended = elsewhere(pending, Pending::shut_down);
        match pending.open() {
            Ok(mut ticket) => {
                assert_eq!(block_on(&mut ticket).unwrap_err(), Refusal::ShuttingDown);
                assert!(is_taken(pending, &ticket));
            }
            Err(refusal) => assert!(
                matches!(refusal, Refusal::NotReady | Refusal::ShuttingDown),
                "{refusal:?}"
            ),
        }
        admitted.join().unwrap();
        ended.join().unwrap();
        assert_eq!(pending.open().unwrap_err(), Refusal::ShuttingDown);
    });
}

#[test]
fn a_caller_who_comes_at_the_end_is_refused_or_told() {
    in_every_order(|pending| {
        let came = elsewhere(pending, |pending| pending.open().map(block_on));
        pending.shut_down();
        let told = came.join().unwrap().and_then(|outcome| outcome);
        assert_eq!(told.unwrap_err(), Refusal::ShuttingDown);
    });
}

#[test]
fn a_caller_who_leaves_frees_the_place_whatever_happens() {
    in_every_order(|pending| {
        let ticket = pending.open().unwrap();
        let id = ticket.id();
        let replied = elsewhere(pending, move |pending| reply(pending, id, "reply"));
        let expired = elsewhere(pending, |pending| pending.refuse_late(Instant::now()));
        drop(ticket);
        let abandoned = pending.shared.abandoned.get();
        let found = replied.join().unwrap();
        expired.join().unwrap();
        match found {
            // In time, or before the caller left.
            Found::Waiting => assert_eq!(abandoned, 0),
            Found::GivenUp => assert_eq!(abandoned, 0),
            Found::Left => assert_eq!(abandoned, 1),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_caller_who_leaves_after_a_look_frees_the_place() {
    in_every_order(|pending| {
        let mut ticket = pending.open().unwrap();
        let id = ticket.id();
        let replied = elsewhere(pending, move |pending| reply(pending, id, "reply"));
        let seen = look(&mut ticket);
        drop(ticket);
        match (replied.join().unwrap(), seen.is_ready()) {
            (Found::Waiting, true) => assert_eq!(pending.shared.abandoned.get(), 0),
            (Found::Waiting, false) => assert_eq!(pending.shared.abandoned.get(), 0),
            (Found::Left, false) => assert_eq!(pending.shared.abandoned.get(), 1),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_caller_who_leaves_at_the_end_keeps_nobody_from_being_told() {
    in_every_order(|pending| {
        let (mut leaves, mut stays) = (pending.open().unwrap(), pending.open().unwrap());
        let id = leaves.id();
        let ended = elsewhere(pending, Pending::shut_down);
        let waiting = elsewhere(pending, move |_| (block_on(&mut stays), stays));
        let told = match look(&mut leaves) {
            Poll::Ready(outcome) => {
                assert_eq!(outcome.unwrap_err(), Refusal::ShuttingDown);
                true
            }
            Poll::Pending => false,
        };
        drop(leaves);
        let abandoned = pending.shared.abandoned.get();
        assert!(abandoned <= u64::from(!told), "{abandoned}");
        ended.join().unwrap();
        let (outcome, stays) = waiting.join().unwrap();
        assert_eq!(outcome.unwrap_err(), Refusal::ShuttingDown);
        assert!(is_taken(pending, &stays));
        let found = if abandoned == 1 { Found::Left } else { Found::GivenUp };
        assert_eq!(reply(pending, id, "late"), found);
        assert_eq!(pending.shared.abandoned.get(), abandoned);
    });
}

#[test]
fn a_batch_wakes_all_its_callers() {
    in_every_order(|pending| {
        let tickets = [pending.open().unwrap(), pending.open().unwrap()];
        let ids = [tickets[0].id(), tickets[1].id()];
        let [first, second] = tickets;
        let waiting = elsewhere(pending, |_| block_on(first));
        let replies = elsewhere(pending, move |pending| {
            pending.reply(ids.map(|id| (id, Ok(id.to_string().into()))), |found| {
                assert_eq!(found, Found::Waiting)
            });
        });
        assert_eq!(block_on(second).unwrap(), ids[1].to_string().as_bytes());
        assert_eq!(waiting.join().unwrap().unwrap(), ids[0].to_string().as_bytes());
        replies.join().unwrap();
    });
}

#[test]
fn the_last_place_is_given_once() {
    in_every_order(|pending| {
        let held = pending.open().unwrap();
        let other = elsewhere(pending, Pending::open);
        let mine = pending.open();
        let theirs = other.join().unwrap();
        let refused = [&mine, &theirs].map(|it| it.as_ref().err().copied());
        assert!(
            matches!(refused, [None, Some(Refusal::Full)] | [Some(Refusal::Full), None]),
            "{refused:?}"
        );
        drop((held, mine, theirs));
    });
}

#[test]
fn whatever_happens_at_once_each_caller_has_one_outcome() {
    before_the_start(PREEMPTIONS_OF_FOUR, |pending| {
        pending.admit();
        let mut stays = pending.open().unwrap();
        let id = stays.id();
        let late = stays.opened() + Duration::from_secs(60);
        let replied = elsewhere(pending, move |pending| reply(pending, id, "reply"));
        let expired = elsewhere(pending, move |pending| pending.refuse_late(late));
        let ended = elsewhere(pending, Pending::shut_down);
        let is_refused = |it: Refusal| matches!(it, Refusal::TimedOut | Refusal::ShuttingDown);

        let left = match pending.open() {
            Ok(mut leaves) => {
                if let Poll::Ready(outcome) = look(&mut leaves) {
                    assert!(is_refused(outcome.unwrap_err()));
                    assert_eq!(pending.shared.abandoned.get(), 0);
                }
                Some(leaves.id())
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::ShuttingDown);
                None
            }
        };
        let outcome = block_on(&mut stays);
        let found = replied.join().unwrap();
        assert_eq!(expired.join().unwrap(), None);
        ended.join().unwrap();
        assert!(is_taken(pending, &stays));
        drop(stays);
        let again = match found {
            Found::Waiting => {
                assert_eq!(outcome.unwrap(), b"reply");
                Found::Answered
            }
            found => {
                assert_eq!(found, Found::GivenUp);
                assert!(is_refused(outcome.unwrap_err()));
                Found::GivenUp
            }
        };
        assert_eq!(reply(pending, id, "again"), again);
        let late = left.map(|id| reply(pending, id, "late"));
        assert!(matches!(late, None | Some(Found::GivenUp | Found::Left)), "{late:?}");
        assert_eq!(pending.shared.abandoned.get(), u64::from(late == Some(Found::Left)));
    });
}

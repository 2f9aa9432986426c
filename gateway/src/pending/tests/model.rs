//! Any sequence of what can happen to the callers, against a reference that is too simple to be wrong.

use std::{
    sync::{
        Arc as StdArc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

use proptest::{collection::vec, prelude::*};

use super::*;

const MAX: usize = 4;

/// What can happen. Callers are named by the order in which they came, those that are over too.
#[derive(Debug, Clone)]
enum Act {
    Open,
    Poll(usize),
    Drop(usize),
    Withdraw(usize),
    Reply(Vec<usize>),
    ReplyToNobody,
    Refuse(usize),
    Advance(u64),
    Expire,
    Desert(bool),
    ShutDown,
}

/// What the reference knows of a caller.
#[derive(Debug)]
struct Caller {
    id: Uuid,
    opened: Instant,
    ticket: Option<Ticket>,
    /// What it is told, once that is settled; and whether it has been told.
    settled: Option<Result<usize, Refusal>>,
    /// It went before it was.
    left: bool,
    told: bool,
    wakes: StdArc<Wakes>,
    polled: bool,
}

#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Reference {
    pending: Pending,
    callers: Vec<Caller>,
    deserted: bool,
    ended: bool,
    abandoned: u64,
    replies: usize,
}

fn act() -> impl Strategy<Value = Act> {
    let caller = || 0..12_usize;
    prop_oneof![
        6 => Just(Act::Open),
        4 => caller().prop_map(Act::Poll),
        3 => caller().prop_map(Act::Drop),
        1 => caller().prop_map(Act::Withdraw),
        4 => vec(caller(), 1..4).prop_map(Act::Reply),
        1 => Just(Act::ReplyToNobody),
        2 => caller().prop_map(Act::Refuse),
        3 => (1..8_000_u64).prop_map(Act::Advance),
        3 => Just(Act::Expire),
        1 => any::<bool>().prop_map(Act::Desert),
        1 => Just(Act::ShutDown),
    ]
}

// === impl Reference ===

impl Reference {
    fn new() -> Self {
        Self {
            pending: pending(MAX),
            callers: Vec::new(),
            deserted: false,
            ended: false,
            abandoned: 0,
            replies: 0,
        }
    }

    async fn play(&mut self, act: Act) {
        match act {
            Act::Open => self.open(),
            Act::Poll(number) => self.poll(number),
            Act::Drop(number) => {
                if let Some(caller) = self.callers.get_mut(number)
                    && caller.ticket.take().is_some()
                {
                    caller.left = caller.settled.is_none();
                    self.abandoned += u64::from(caller.left);
                    caller.settled.get_or_insert(Err(Refusal::TimedOut));
                }
            }
            Act::Withdraw(number) => {
                if let Some(caller) = self.callers.get_mut(number)
                    && let Some(ticket) = caller.ticket.take()
                {
                    assert_eq!(ticket.withdraw(Refusal::Full), Refusal::Full);
                    caller.settled = Some(Err(Refusal::Full));
                }
            }
            Act::Reply(numbers) => self.reply(&numbers),
            Act::ReplyToNobody => assert_eq!(resolve(&self.pending, Uuid::new_v4(), ""), Found::Nobody),
            Act::Refuse(number) => {
                if let Some(caller) = self.callers.get_mut(number) {
                    self.pending.refuse([caller.id], Refusal::SendFailed);
                    caller.settled.get_or_insert(Err(Refusal::SendFailed));
                }
            }
            Act::Advance(millis) => advance(Duration::from_millis(millis)).await,
            Act::Expire => self.expire(),
            Act::Desert(deserted) => {
                self.pending.set_deserted(deserted);
                self.deserted = deserted;
            }
            Act::ShutDown => {
                self.pending.shut_down();
                self.ended = true;
                for caller in &mut self.callers {
                    caller.settled.get_or_insert(Err(Refusal::ShuttingDown));
                }
            }
        }
        self.check();
    }

    fn open(&mut self) {
        let expected = match () {
            () if self.ended => Some(Refusal::ShuttingDown),
            () if self.deserted => Some(Refusal::NoWorker),
            () if self.present().count() == MAX => Some(Refusal::Full),
            () => None,
        };
        let opened = self.pending.open();
        assert_eq!(opened.as_ref().err().copied(), expected);
        if let Ok(ticket) = opened {
            self.callers.push(Caller {
                id: ticket.id(),
                opened: Instant::now(),
                ticket: Some(ticket),
                settled: None,
                left: false,
                told: false,
                wakes: StdArc::default(),
                polled: false,
            });
        }
    }

    fn poll(&mut self, number: usize) {
        let Some(caller) = self.callers.get_mut(number) else {
            return;
        };
        let Some(ticket) = &mut caller.ticket else {
            return;
        };
        let waker = Waker::from(StdArc::clone(&caller.wakes));
        let polled = Pin::new(ticket).poll(&mut Context::from_waker(&waker));
        match &caller.settled {
            None => {
                assert!(polled.is_pending());
                caller.polled = true;
            }
            // What it was told once it is not told again.
            Some(_) if caller.told => assert_eq!(polled, Poll::Ready(Err(Refusal::TimedOut))),
            Some(settled) => {
                let outcome = settled.map(|number| number.to_string().into_bytes());
                assert_eq!(polled, Poll::Ready(outcome));
                caller.told = true;
            }
        }
    }

    fn reply(&mut self, numbers: &[usize]) {
        let mut replies = Vec::new();
        let mut expected = Vec::new();
        for &number in numbers {
            let Some(caller) = self.callers.get_mut(number) else {
                continue;
            };
            self.replies += 1;
            replies.push((caller.id, Ok(self.replies.to_string().into_bytes())));
            expected.push(match caller.settled {
                None => {
                    caller.settled = Some(Ok(self.replies));
                    Found::Waiting
                }
                Some(Ok(_)) => Found::Answered,
                Some(Err(_)) if caller.left => Found::Left,
                Some(Err(_)) => Found::GivenUp,
            });
        }
        let mut found = Vec::new();
        self.pending.reply(replies, |it| found.push(it));
        assert_eq!(found, expected);
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let next = self.pending.refuse_late(now);
        let deadlines = self.present().map(|it| it.opened + PATIENCE);
        assert_eq!(next, deadlines.filter(|it| *it > now).min());
        for caller in &mut self.callers {
            if caller.opened + PATIENCE <= now {
                caller.settled.get_or_insert(Err(Refusal::TimedOut));
            }
        }
    }

    /// Those who have their place.
    fn present(&self) -> impl Iterator<Item = &Caller> {
        self.callers.iter().filter(|it| it.ticket.is_some())
    }

    fn check(&self) {
        let (waiting, deadlines, gauge) = self.pending.counts();
        let present = self.present().count();
        assert_eq!((waiting, gauge), (present, i64::try_from(present).unwrap()));
        assert!(deadlines <= STALE_FACTOR * MAX + 65);
        assert_eq!(self.pending.shared.abandoned.get(), self.abandoned);
        for caller in self.present() {
            let wakes = caller.wakes.0.load(Ordering::Relaxed);
            let expected = caller.polled && caller.settled.is_some();
            assert_eq!(wakes, usize::from(expected), "{caller:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_each_caller_is_told_once(acts in vec(act(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut reference = Reference::new();
            for act in acts {
                reference.play(act).await;
            }
            reference.callers.clear();
            assert_eq!((reference.pending.counts().0, reference.pending.counts().2), (0, 0));
        });
    }
}

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
    Register,
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
    pending_reply: Option<PendingReply>,
    /// What it is told, once that is on_delivery; and whether it has been told.
    on_delivery: Option<Result<usize, GatewayError>>,
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
    pending: InFlight,
    callers: Vec<Caller>,
    no_worker: bool,
    ended: bool,
    abandoned: u64,
    replies: usize,
}

fn act() -> impl Strategy<Value = Act> {
    let caller = || 0..12_usize;
    prop_oneof![
        6 => Just(Act::Register),
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
            no_worker: false,
            ended: false,
            abandoned: 0,
            replies: 0,
        }
    }

    async fn play(&mut self, act: Act) {
        match act {
            Act::Register => self.register(),
            Act::Poll(number) => self.poll(number),
            Act::Drop(number) => {
                if let Some(caller) = self.callers.get_mut(number)
                    && caller.pending_reply.take().is_some()
                {
                    caller.left = caller.on_delivery.is_none();
                    self.abandoned += u64::from(caller.left);
                    caller.on_delivery.get_or_insert(Err(GatewayError::TimedOut));
                }
            }
            Act::Withdraw(number) => {
                if let Some(caller) = self.callers.get_mut(number)
                    && let Some(pending_reply) = caller.pending_reply.take()
                {
                    assert_eq!(pending_reply.cancel(GatewayError::Full), GatewayError::Full);
                    caller.on_delivery = Some(Err(GatewayError::Full));
                }
            }
            Act::Reply(numbers) => self.reply(&numbers),
            Act::ReplyToNobody => assert_eq!(resolve(&self.pending, Uuid::new_v4(), ""), ReplyMatch::Foreign),
            Act::Refuse(number) => {
                if let Some(caller) = self.callers.get_mut(number) {
                    self.pending.refuse([caller.id], GatewayError::SendFailed);
                    caller.on_delivery.get_or_insert(Err(GatewayError::SendFailed));
                }
            }
            Act::Advance(millis) => advance(Duration::from_millis(millis)).await,
            Act::Expire => self.expire(),
            Act::Desert(no_worker) => {
                self.pending.set_no_worker(no_worker);
                self.no_worker = no_worker;
            }
            Act::ShutDown => {
                self.pending.shut_down();
                self.ended = true;
                for caller in &mut self.callers {
                    caller.on_delivery.get_or_insert(Err(GatewayError::ShuttingDown));
                }
            }
        }
        self.check();
    }

    fn register(&mut self) {
        let expected = match () {
            () if self.ended => Some(GatewayError::ShuttingDown),
            () if self.no_worker => Some(GatewayError::NoWorker),
            () if self.present().count() == MAX => Some(GatewayError::Full),
            () => None,
        };
        let opened = self.pending.register();
        assert_eq!(opened.as_ref().err().copied(), expected);
        if let Ok(pending_reply) = opened {
            self.callers.push(Caller {
                id: pending_reply.id(),
                opened: Instant::now(),
                pending_reply: Some(pending_reply),
                on_delivery: None,
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
        let Some(pending_reply) = &mut caller.pending_reply else {
            return;
        };
        let waker = Waker::from(StdArc::clone(&caller.wakes));
        let polled = Pin::new(pending_reply).poll(&mut Context::from_waker(&waker));
        match &caller.on_delivery {
            None => {
                assert!(polled.is_pending());
                caller.polled = true;
            }
            // What it was told once it is not told again.
            Some(_) if caller.told => assert_eq!(polled, Poll::Ready(Err(GatewayError::TimedOut))),
            Some(on_delivery) => {
                let outcome = on_delivery.map(|number| number.to_string().into_bytes());
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
            expected.push(match caller.on_delivery {
                None => {
                    caller.on_delivery = Some(Ok(self.replies));
                    ReplyMatch::Delivered
                }
                Some(Ok(_)) => ReplyMatch::Duplicate,
                Some(Err(_)) if caller.left => ReplyMatch::Cancelled,
                Some(Err(_)) => ReplyMatch::Late,
            });
        }
        let mut found = Vec::new();
        self.pending.reply(replies, |it| found.push(it));
        assert_eq!(found, expected);
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let next = self.pending.refuse_late(now);
        let deadlines = self.present().map(|it| it.opened + REPLY_TIMEOUT);
        assert_eq!(next, deadlines.filter(|it| *it > now).min());
        for caller in &mut self.callers {
            if caller.opened + REPLY_TIMEOUT <= now {
                caller.on_delivery.get_or_insert(Err(GatewayError::TimedOut));
            }
        }
    }

    /// Those who have their place.
    fn present(&self) -> impl Iterator<Item = &Caller> {
        self.callers.iter().filter(|it| it.pending_reply.is_some())
    }

    fn check(&self) {
        let (waiting, deadlines, gauge) = self.pending.counts();
        let present = self.present().count();
        assert_eq!((waiting, gauge), (present, i64::try_from(present).unwrap()));
        assert!(deadlines <= STALE_FACTOR * MAX + 65);
        assert_eq!(self.pending.shared.abandoned.get(), self.abandoned);
        for caller in self.present() {
            let wakes = caller.wakes.0.load(Ordering::Relaxed);
            let expected = caller.polled && caller.on_delivery.is_some();
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

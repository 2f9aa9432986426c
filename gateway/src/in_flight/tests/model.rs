//! Random sequences of events, compared with a model that holds one list of callers.

use std::{
    pin::Pin,
    sync::{
        Arc as StdArc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use proptest::{collection::vec, prelude::*};
use tokio::task::unconstrained;

use super::*;

const MAX_IN_FLIGHT: usize = 4;

/// Callers are numbered in the order of their registration, including those that have left.
#[derive(Debug, Clone)]
enum Event {
    Register,
    Poll(usize),
    Drop(usize),
    Cancel(usize),
    /// A batch of replies.
    Reply(Vec<usize>),
    ForeignReply,
    Fail(usize),
    Advance(u64),
    SetNoWorker(bool),
    ShutDown,
}

type OutcomeFuture = Pin<Box<dyn Future<Output = Outcome>>>;

enum Guard {
    /// Not polled yet.
    Pending(PendingReply),
    Waiting(OutcomeFuture),
    Gone,
}

struct Caller {
    id: Uuid,
    deadline: Instant,
    guard: Guard,
    /// The first outcome, which is the one that counts. A reply has the number of its send.
    outcome: Option<Result<usize, GatewayError>>,
    /// Dropped before it had an outcome.
    left: bool,
    wakes: StdArc<Wakes>,
}

#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Model {
    in_flight: InFlight,
    callers: Vec<Caller>,
    no_worker: bool,
    is_shut_down: bool,
    abandoned: u64,
    replies: usize,
}

fn event() -> impl Strategy<Value = Event> {
    let caller = || 0..12_usize;
    prop_oneof![
        6 => Just(Event::Register),
        4 => caller().prop_map(Event::Poll),
        3 => caller().prop_map(Event::Drop),
        1 => caller().prop_map(Event::Cancel),
        4 => vec(caller(), 1..4).prop_map(Event::Reply),
        1 => Just(Event::ForeignReply),
        2 => caller().prop_map(Event::Fail),
        3 => (1..8_000_u64).prop_map(Event::Advance),
        1 => any::<bool>().prop_map(Event::SetNoWorker),
        1 => Just(Event::ShutDown),
    ]
}

// === impl Caller ===

impl Caller {
    fn is_present(&self) -> bool {
        !matches!(self.guard, Guard::Gone)
    }
}

// === impl Model ===

impl Model {
    fn new() -> Self {
        Self {
            in_flight: table(MAX_IN_FLIGHT),
            callers: Vec::new(),
            no_worker: false,
            is_shut_down: false,
            abandoned: 0,
            replies: 0,
        }
    }

    async fn apply(&mut self, event: Event) {
        match event {
            Event::Register => self.register(),
            Event::Poll(number) => self.poll(number),
            Event::Drop(number) => {
                if let Some(caller) = self.callers.get_mut(number).filter(|caller| caller.is_present()) {
                    caller.guard = Guard::Gone;
                    caller.left = caller.outcome.is_none();
                    self.abandoned += u64::from(caller.left);
                }
            }
            Event::Cancel(number) => {
                if let Some(caller) = self.callers.get_mut(number)
                    && matches!(caller.guard, Guard::Pending(_))
                    && let Guard::Pending(pending_reply) = std::mem::replace(&mut caller.guard, Guard::Gone)
                {
                    assert_eq!(pending_reply.cancel(GatewayError::Full), GatewayError::Full);
                    caller.outcome.get_or_insert(Err(GatewayError::Full));
                }
            }
            Event::Reply(numbers) => self.reply(&numbers),
            Event::ForeignReply => {
                assert_eq!(reply(&self.in_flight, Uuid::new_v4(), ""), ReplyMatch::Foreign);
            }
            Event::Fail(number) => {
                if let Some(caller) = self.callers.get_mut(number).filter(|caller| !caller.left) {
                    self.in_flight.fail(&[caller.id], GatewayError::SendFailed);
                    caller.outcome.get_or_insert(Err(GatewayError::SendFailed));
                }
            }
            Event::Advance(millis) => advance(Duration::from_millis(millis)).await,
            Event::SetNoWorker(no_worker) => {
                self.in_flight.set_no_worker(0, no_worker);
                self.no_worker = no_worker;
            }
            Event::ShutDown => {
                self.in_flight.shut_down();
                self.is_shut_down = true;
                for caller in self.callers.iter_mut().filter(|caller| caller.is_present()) {
                    caller.outcome.get_or_insert(Err(GatewayError::DrainEnded));
                }
            }
        }
        self.check();
    }

    fn register(&mut self) {
        let refused = match () {
            () if self.is_shut_down => Some(GatewayError::ShuttingDown),
            () if self.no_worker => Some(GatewayError::NoWorker),
            () if self.present() == MAX_IN_FLIGHT => Some(GatewayError::Full),
            () => None,
        };
        assert_eq!(self.in_flight.check_admission(0, REPLY_TIMEOUT).err(), refused);
        let registered = self.in_flight.register(0, REPLY_TIMEOUT);
        assert_eq!(registered.as_ref().err().copied(), refused);
        if refused == Some(GatewayError::NoWorker) {
            // Starts the count of refused requests anew, so that no probe is due. The tests of admission cover probes.
            self.in_flight.set_no_worker(0, true);
        }
        if let Ok(pending_reply) = registered {
            self.callers.push(Caller {
                id: pending_reply.id(),
                deadline: Instant::now() + REPLY_TIMEOUT,
                guard: Guard::Pending(pending_reply),
                outcome: None,
                left: false,
                wakes: StdArc::default(),
            });
        }
    }

    fn poll(&mut self, number: usize) {
        let Some(caller) = self.callers.get_mut(number) else {
            return;
        };
        let mut future: OutcomeFuture = match std::mem::replace(&mut caller.guard, Guard::Gone) {
            Guard::Pending(pending_reply) => Box::pin(pending_reply.outcome()),
            Guard::Waiting(future) => future,
            Guard::Gone => return,
        };
        if Instant::now() >= caller.deadline {
            caller.outcome.get_or_insert(Err(GatewayError::TimedOut));
        }
        let waker = Waker::from(StdArc::clone(&caller.wakes));
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        match &caller.outcome {
            None => {
                assert_eq!(polled, Poll::Pending);
                caller.guard = Guard::Waiting(future);
            }
            Some(outcome) => assert_eq!(polled, Poll::Ready(outcome.and_then(|number| ok(number.to_string())))),
        }
    }

    fn reply(&mut self, numbers: &[usize]) {
        let mut batch = Vec::new();
        let mut expected = Vec::new();
        for &number in numbers {
            let Some(caller) = self.callers.get_mut(number) else {
                continue;
            };
            self.replies += 1;
            batch.push((caller.id, ok(self.replies.to_string())));
            expected.push(match caller.outcome {
                _ if caller.left => ReplyMatch::Cancelled,
                None => {
                    caller.outcome = Some(Ok(self.replies));
                    ReplyMatch::Delivered
                }
                Some(Ok(_)) => ReplyMatch::Duplicate,
                Some(Err(_)) => ReplyMatch::Late,
            });
        }
        assert_eq!(reply_all(&self.in_flight, batch), expected);
    }

    fn present(&self) -> usize {
        self.callers.iter().filter(|caller| caller.is_present()).count()
    }

    fn check(&self) {
        let present = self.present();
        assert_eq!(self.in_flight.counts(), (present, i64::try_from(present).unwrap()));
        assert_eq!(self.in_flight.shared.gauges[0].abandoned.get(), self.abandoned);
        for caller in &self.callers {
            // An outcome or the deadline wakes a waiting task.
            if let Guard::Waiting(_) = caller.guard {
                let is_due = caller.outcome.is_some() || Instant::now() >= caller.deadline;
                assert_eq!(caller.wakes.0.load(Ordering::Relaxed) > 0, is_due);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn each_request_has_one_outcome_in_any_sequence_of_events(events in vec(event(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        // Without the cooperative budget, which makes a ready future pending.
        runtime.block_on(unconstrained(async {
            let mut model = Model::new();
            for event in events {
                model.apply(event).await;
            }
            model.callers.clear();
            assert_eq!(model.in_flight.counts(), (0, 0));
        }));
    }
}

use std::{collections::VecDeque, sync::atomic::AtomicUsize, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use super::{
    super::{
        link::{End, PRODUCE_LIMIT, SMALL_FRAME_BYTES, Width},
        record::Received,
    },
    *,
};
use shared::readiness::Readiness;

const ONCE: Duration = Duration::ZERO;

const ALWAYS: Duration = Duration::MAX;

/// What a scripted broker does with the next call. When the script is over, all is well.
#[derive(Debug)]
enum Act {
    Refuse,
    Fail,
    Hang,
    /// Succeeds when the test says so.
    Wait(Arc<Notify>),
}

#[derive(Debug, Clone, Default)]
struct Broker(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    connects: VecDeque<Act>,
    produces: VecDeque<Act>,
    connections: usize,
    /// The values of each frame it took.
    frames: Vec<Vec<Vec<u8>>>,
}

impl Act {
    async fn play(act: Option<Self>, limit: Duration) -> Result<(), Error> {
        match act {
            None => Ok(()),
            Some(Self::Refuse) => Err(Error::Refused("too large".into())),
            Some(Self::Fail) => Err(Error::Failed("connection refused".into())),
            Some(Self::Hang) => {
                tokio::time::sleep(limit).await;
                Err(Error::TimedOut(limit))
            }
            Some(Self::Wait(go)) => {
                go.notified().await;
                Ok(())
            }
        }
    }
}

impl Connect for Broker {
    type Link = Self;

    async fn connect(&self) -> Result<Self, Error> {
        let act = self.0.lock().connects.pop_front();
        Act::play(act, Duration::from_secs(1)).await?;
        self.0.lock().connections += 1;
        Ok(self.clone())
    }
}

impl Link for Broker {
    async fn produce(&self, records: Vec<Record>) -> Result<(), Error> {
        let act = self.0.lock().produces.pop_front();
        Act::play(act, PRODUCE_LIMIT).await?;
        self.0
            .lock()
            .frames
            .push(records.into_iter().map(|it| it.value).collect());
        Ok(())
    }

    async fn fetch(&self, _: i64, _: Width) -> Result<(Vec<Received>, i64), Error> {
        unreachable!("an outbox does not fetch")
    }

    async fn offset(&self, _: End) -> Result<i64, Error> {
        unreachable!("an outbox looks nothing up")
    }
}

/// Passes the fates on.
#[derive(Debug)]
struct Fates {
    sender: mpsc::Sender<(usize, Fate)>,
    enough: Arc<AtomicUsize>,
}

impl Receipts for Fates {
    type Tag = usize;

    fn settled(&self, tags: Vec<usize>, fate: Fate) {
        for tag in tags {
            self.sender.try_send((tag, fate)).unwrap();
        }
    }

    fn enough(&self) -> usize {
        self.enough.load(Ordering::Relaxed)
    }
}

struct Setup {
    broker: Broker,
    outbox: Outbox<Fates>,
    fates: mpsc::Receiver<(usize, Fate)>,
    enough: Arc<AtomicUsize>,
    readiness: Readiness,
    tasks: Tasks,
}

impl Setup {
    fn new(patience: Duration, lanes: usize, connects: Vec<Act>, produces: Vec<Act>) -> Self {
        let broker = Broker::default();
        broker.0.lock().connects = connects.into();
        broker.0.lock().produces = produces.into();
        let (sender, fates) = mpsc::channel(10_000);
        let enough = Arc::new(AtomicUsize::new(0));
        let readiness = Readiness::default();
        let tasks = Tasks::default();
        let settings = OutboxSettings {
            lanes,
            max_bytes: 100 * SMALL_FRAME_BYTES,
            patience,
        };
        let outbox = Outbox::new(
            settings,
            Fates {
                sender,
                enough: Arc::clone(&enough),
            },
            readiness.condition("outbox"),
            OutboxMetrics::default(),
        );
        outbox.add_over(&tasks, broker.clone());
        Self {
            broker,
            outbox,
            fates,
            enough,
            readiness,
            tasks,
        }
    }

    fn send(&self, tag: usize) {
        let record = Record::new(Vec::new(), tag.to_string().into_bytes());
        self.outbox.try_send(record, tag).unwrap();
    }

    async fn fate(&mut self) -> (usize, Fate) {
        self.fates.recv().await.unwrap()
    }

    fn taken(&self) -> Vec<Vec<String>> {
        let text = |value: &Vec<u8>| String::from_utf8(value.clone()).unwrap();
        let script = self.broker.0.lock();
        script.frames.iter().map(|it| it.iter().map(text).collect()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_arrives_while_a_frame_is_under_way_goes_with_the_next() {
    let go = Arc::new(Notify::new());
    let mut setup = Setup::new(ONCE, 2, vec![], vec![Act::Wait(Arc::clone(&go))]);
    setup.send(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    setup.send(2);
    setup.send(3);
    go.notify_one();
    for tag in 1..4 {
        assert_eq!(setup.fate().await, (tag, Fate::Acknowledged));
    }
    assert_eq!(setup.taken(), [vec!["1"], vec!["2", "3"]]);
    assert_eq!(setup.broker.0.lock().connections, 1, "one lane was enough");
}

#[tokio::test(start_paused = true)]
async fn what_is_worth_a_moment_goes_in_one_frame_without_its_end() {
    let mut setup = Setup::new(ONCE, 2, vec![], vec![]);
    setup.enough.store(3, Ordering::Relaxed);
    let start = Instant::now();
    for tag in 1..4 {
        setup.send(tag);
        tokio::task::yield_now().await;
    }
    assert_eq!(setup.fate().await, (1, Fate::Acknowledged));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(setup.taken(), [["1", "2", "3"]]);
}

#[tokio::test(start_paused = true)]
async fn a_moment_has_an_end() {
    let mut setup = Setup::new(ONCE, 2, vec![], vec![]);
    setup.enough.store(3, Ordering::Relaxed);
    let start = Instant::now();
    setup.send(1);
    assert_eq!(setup.fate().await, (1, Fate::Acknowledged));
    assert!(start.elapsed() <= 2 * MOMENT, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_flush_does_not_wait_for_the_end_of_a_moment() {
    let setup = Setup::new(ONCE, 2, vec![], vec![]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    setup.enough.store(3, Ordering::Relaxed);
    let start = Instant::now();
    setup.send(1);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(setup.taken().is_empty(), "the lane gathers");
    assert!(setup.outbox.flush(Duration::from_secs(5)).await);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(setup.taken(), [["1"]]);
}

#[tokio::test(start_paused = true)]
async fn whole_frames_open_further_lanes_up_to_the_bound() {
    let go = Arc::new(Notify::new());
    let waits = (0..10).map(|_| Act::Wait(Arc::clone(&go))).collect();
    let setup = Setup::new(ONCE, 3, vec![], waits);
    for tag in 0..10_000 {
        setup.send(tag);
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(setup.broker.0.lock().connections, 3);
}

#[tokio::test(start_paused = true)]
async fn a_failed_frame_is_told_at_once_and_the_next_goes_over_a_new_connection() {
    let mut setup = Setup::new(ONCE, 1, vec![], vec![Act::Fail]);
    setup.send(1);
    assert_eq!(setup.fate().await, (1, Fate::Failed));
    setup.send(2);
    assert_eq!(setup.fate().await, (2, Fate::Acknowledged));
    assert_eq!(setup.broker.0.lock().connections, 2);
}

#[tokio::test(start_paused = true)]
async fn a_frame_without_answer_is_unknown_and_is_not_sent_again() {
    let mut setup = Setup::new(ONCE, 1, vec![], vec![Act::Hang]);
    setup.send(1);
    assert_eq!(setup.fate().await, (1, Fate::Unknown));
    setup.send(2);
    assert_eq!(setup.fate().await, (2, Fate::Acknowledged));
    assert_eq!(setup.taken(), [["2"]]);
}

#[tokio::test(start_paused = true)]
async fn without_connection_senders_are_told_and_it_is_not_ready() {
    let mut setup = Setup::new(ONCE, 1, vec![Act::Hang, Act::Fail, Act::Fail], vec![]);
    setup.send(1);
    let start = Instant::now();
    assert_eq!(setup.fate().await, (1, Fate::Failed));
    assert!(start.elapsed() <= Duration::from_secs(1), "one attempt");
    assert_eq!(setup.readiness.unmet().len(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(setup.readiness.unmet().is_empty());
    setup.send(2);
    assert_eq!(setup.fate().await, (2, Fate::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn with_resend_everything_arrives_in_order_through_any_failure() {
    let connects = vec![Act::Fail, Act::Hang];
    let mut setup = Setup::new(ALWAYS, 1, connects, vec![Act::Fail, Act::Hang, Act::Fail]);
    for tag in 0..5 {
        setup.send(tag);
    }
    for tag in 0..5 {
        assert_eq!(setup.fate().await, (tag, Fate::Acknowledged));
    }
    assert_eq!(setup.taken().concat(), ["0", "1", "2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_will_never_take_is_dropped_even_with_resend() {
    let mut setup = Setup::new(ALWAYS, 1, vec![], vec![Act::Refuse]);
    setup.send(1);
    assert_eq!(setup.fate().await, (1, Fate::Failed));
    setup.send(2);
    assert_eq!(setup.fate().await, (2, Fate::Acknowledged));
    assert_eq!(setup.broker.0.lock().connections, 1, "the connection is good");
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_refuses_or_waits_for_room() {
    let go = Arc::new(Notify::new());
    let mut setup = Setup::new(ONCE, 1, vec![], vec![Act::Wait(Arc::clone(&go))]);
    setup.send(0);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let record = || Record::new(Vec::new(), vec![b'x'; SMALL_FRAME_BYTES]);
    let mut fitting = 0;
    while setup.outbox.try_send(record(), 1).is_ok() {
        fitting += 1;
    }
    assert!((90..=100).contains(&fitting), "{fitting}");
    let late = setup.outbox.send(record(), 2, || false);
    let (sent, ()) = tokio::join!(late, async { go.notify_one() });
    sent.unwrap();
    let mut fates = Vec::new();
    while fates.len() < fitting + 2 {
        fates.push(setup.fate().await);
    }
    assert!(fates.iter().all(|(_, fate)| *fate == Fate::Acknowledged));
    assert_eq!(fates.last(), Some(&(2, Fate::Acknowledged)));
}

#[tokio::test(start_paused = true)]
async fn a_flush_sends_what_waits_and_takes_nothing_more() {
    let setup = Setup::new(ONCE, 2, vec![], vec![Act::Hang]);
    setup.send(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    setup.send(2);
    assert!(setup.outbox.flush(Duration::from_secs(5)).await);
    assert_eq!(setup.taken(), [["2"]]);
    assert!(setup.outbox.try_send(Record::new(Vec::new(), Vec::new()), 3).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_flush_sends_what_a_lane_too_many_has_lost() {
    let go = Arc::new(Notify::new());
    let mut setup = Setup::new(ALWAYS, 2, vec![], vec![Act::Wait(Arc::clone(&go)), Act::Hang]);
    let whole = |tag| {
        setup
            .outbox
            .try_send(Record::new(Vec::new(), vec![b'x'; SMALL_FRAME_BYTES]), tag)
    };
    whole(0).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    whole(1).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(setup.broker.0.lock().connections, 2);
    setup.outbox.set_max_lanes(1);

    let flush = tokio::spawn({
        let outbox = setup.outbox.clone();
        async move { outbox.flush(Duration::from_secs(60)).await }
    });
    go.notify_one();
    assert!(flush.await.unwrap());
    assert_eq!(setup.fate().await, (0, Fate::Acknowledged));
    assert_eq!(setup.fate().await, (1, Fate::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn a_flush_is_bounded() {
    let setup = Setup::new(ALWAYS, 1, vec![], (0..100).map(|_| Act::Hang).collect());
    setup.send(1);
    let start = Instant::now();
    assert!(!setup.outbox.flush(Duration::from_secs(3)).await);
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_room_is_told_that_the_outbox_is_closed() {
    let setup = Setup::new(ALWAYS, 1, vec![], (0..100).map(|_| Act::Hang).collect());
    let record = || Record::new(Vec::new(), vec![b'x'; 100 * SMALL_FRAME_BYTES]);
    setup.outbox.try_send(record(), 1).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    setup.outbox.try_send(record(), 2).unwrap();
    let (sent, _) = tokio::join!(
        setup.outbox.send(record(), 3, || false),
        setup.outbox.flush(Duration::from_secs(1))
    );
    assert!(matches!(sent, Err(Unsent::Closed(_, 3))));
}

/// As there are connections that fail, that hang, and that are taken although every frame is lost.
#[tokio::test(start_paused = true)]
async fn whoever_waits_for_room_is_told_that_nobody_can_be_reached_unless_it_insists() {
    let many = |act: fn() -> Act| (0..60).map(|_| act()).collect::<Vec<_>>();
    let up = || {
        let up = Arc::new(Notify::new());
        up.notify_one();
        Act::Wait(up)
    };
    let connected = |acts: Vec<Act>| [up()].into_iter().chain(acts).collect::<Vec<_>>();
    for (connects, produces) in [
        (connected(many(|| Act::Fail)), vec![Act::Hang]),
        (connected(many(|| Act::Hang)), vec![Act::Hang]),
        (vec![], many(|| Act::Fail)),
        (vec![], many(|| Act::Hang)),
    ] {
        let script = format!("{connects:?} {produces:?}");
        let mut setup = Setup::new(ALWAYS, 1, connects, produces);
        let record = || Record::new(Vec::new(), vec![b'x'; 100 * SMALL_FRAME_BYTES]);
        let start = Instant::now();
        setup.outbox.try_send(record(), 1).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        while setup.outbox.try_send(record(), 2).is_ok() {}

        let (told, insisted) = tokio::join!(
            async { (setup.outbox.send(record(), 3, || false).await, start.elapsed()) },
            setup.outbox.send(record(), 4, || true),
        );
        assert!(matches!(told.0, Err(Unsent::Unreachable(3))), "{script}");
        let most = PRODUCE_LIMIT + 2 * OUT_OF_REACH;
        assert!((OUT_OF_REACH..most).contains(&told.1), "{:?} {script}", told.1);
        insisted.unwrap();
        while setup.fate().await != (4, Fate::Acknowledged) {}
        assert!(setup.outbox.is_in_reach());
    }
}

#[tokio::test(start_paused = true)]
async fn patience_has_an_end() {
    let mut setup = Setup::new(
        Duration::from_secs(30),
        1,
        vec![],
        (0..100).map(|_| Act::Hang).collect(),
    );
    setup.send(1);
    let start = Instant::now();
    assert_eq!(setup.fate().await, (1, Fate::Unknown));
    assert!(start.elapsed() >= Duration::from_secs(30), "{:?}", start.elapsed());
    assert!(start.elapsed() <= Duration::from_secs(36), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_abandoned_has_failed_and_its_lanes_end() {
    let mut setup = Setup::new(ALWAYS, 1, vec![], (0..100).map(|_| Act::Hang).collect());
    setup.send(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    setup.send(2);
    assert!(!setup.outbox.flush(Duration::ZERO).await);
    setup.outbox.abandon();
    assert_eq!(setup.fate().await, (2, Fate::Failed));
    assert_eq!(setup.fate().await, (1, Fate::Unknown));
    assert!(setup.outbox.flush(Duration::from_secs(10)).await);
}

#[tokio::test(start_paused = true)]
async fn partitions_take_turns() {
    let mut setup = Setup::new(ONCE, 4, vec![], vec![]);
    let other = Broker::default();
    setup.outbox.add_over(&setup.tasks, other.clone());
    tokio::time::sleep(Duration::from_millis(1)).await;
    for tag in 0..10 {
        setup.send(tag);
        assert_eq!(setup.fate().await, (tag, Fate::Acknowledged));
    }
    assert_eq!((setup.taken().len(), other.0.lock().frames.len()), (5, 5));
}

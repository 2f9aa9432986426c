//! Faults of services under load: a worker that is killed, a handler that panics, an HTTP server that ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use e2e::{
    engine::Engine,
    fixture::Fixture,
    process::{Process, Setup},
    routes::RoutesFile,
    topic::{Topic, create, record},
    wait::{WAIT_LIMIT, until, until_eq},
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use rskafka::record::Record;
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::runner::say;

/// The partitions of the request topic where several workers share it.
const PARTITIONS: usize = 12;

/// CONCURRENCY of the workers, its default.
const CONCURRENCY: usize = 64;

/// A request with this key, path and body, whose caller waits for a minute.
fn call(fixture: &Fixture, key: &str, path: &str, body: &str) -> Record {
    let mut call = record(Some(key.as_bytes()), Some(body.as_bytes()));
    let headers = [
        (":method", "POST"),
        (":path", path),
        ("kafka_replyTopic", fixture.pong_name()),
        ("kafka_correlationId", body),
        ("pingpong_deadline", "60000@test"),
    ];
    call.headers = headers
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .into();
    call
}

fn service(fixture: &Fixture, topic: &str) -> Setup {
    let setup = Setup::service(Path::new(env!("CARGO_BIN_EXE_service")))
        .arg("multi")
        .arg(topic);
    fixture
        .configure(setup)
        .set("WORKER_GROUP", format!("{}-{topic}", fixture.group_name()))
}

/// The correlation ids of replies, in the order of the log.
fn ids(replies: impl IntoIterator<Item = Record>) -> Vec<String> {
    let id = |reply: Record| String::from_utf8(reply.headers["kafka_correlationId"].clone()).unwrap();
    replies.into_iter().map(id).collect()
}

/// Reads the reply topic on, until `count` different requests are answered.
async fn follow(replies: &Topic, answered: &mut BTreeSet<String>, offset: &mut i64, count: usize) {
    let begun = Instant::now();
    while answered.len() < count {
        assert!(
            begun.elapsed() < 2 * WAIT_LIMIT,
            "{} of {count} requests are answered",
            answered.len()
        );
        let read = replies.read_some(*offset).await;
        if let Some(last) = read.last() {
            *offset = last.offset + 1;
        }
        let replies = read
            .into_iter()
            .map(|read| read.record)
            .filter(|reply| reply.headers.contains_key("kafka_correlationId"));
        answered.extend(ids(replies));
    }
}

/// A file that is removed at the drop.
struct Executions(PathBuf);

impl Executions {
    fn of(fixture: &Fixture) -> Self {
        Self(env::temp_dir().join(format!("executions-{}", fixture.ping_name())))
    }

    /// Key and number of each call of a handler, in order.
    fn read(&self) -> Vec<(String, usize)> {
        let text = fs::read_to_string(&self.0).unwrap();
        let entry = |line: &str| {
            let (key, number) = line.split_once(' ').unwrap();
            (key.to_owned(), number.parse().unwrap())
        };
        text.lines().map(entry).collect()
    }
}

impl Drop for Executions {
    fn drop(&mut self) {
        // An error means that nothing was executed.
        let _ = fs::remove_file(&self.0);
    }
}

pub(crate) async fn hundred_keys_stay_in_order_through_a_killed_worker(engine: &Engine) {
    keys_stay_in_order(engine, 100, 100).await;
}

pub(crate) async fn thousand_keys_stay_in_order_through_a_killed_worker(engine: &Engine) {
    keys_stay_in_order(engine, 1_000, 10).await;
}

/// Three workers share the partitions. One is killed, so its partitions move: every request is answered, and the first
/// executions of a key are in the order of the log.
async fn keys_stay_in_order(engine: &Engine, keys: usize, each: usize) {
    let fixture = Fixture::shared(engine).await;
    create(
        fixture.brokers(),
        fixture.ping_name(),
        i32::try_from(PARTITIONS).unwrap(),
    )
    .await;
    let replies = fixture.pong().await;
    let executions = Executions::of(&fixture);
    let member = || service(&fixture, fixture.ping_name()).set("EXECUTIONS", &executions.0);
    let members = join_all((0..3).map(|_| member().ready())).await;
    until_partitions(&members, i64::try_from(PARTITIONS).unwrap()).await;

    let write = async |partition: usize| {
        let number = i32::try_from(partition).unwrap();
        let requests = Topic::partition(fixture.brokers(), fixture.ping_name(), number).await;
        for n in 0..each {
            let of_partition = (0..keys).filter(|key| key % PARTITIONS == partition);
            let calls = of_partition.map(|key| call(&fixture, &format!("k{key}"), "/sleep?20", &format!("k{key} {n}")));
            requests.write_batch(calls.collect()).await;
        }
    };
    let total = keys * each;
    let (mut answered, mut offset) = (BTreeSet::new(), 0);
    tokio::join!(join_all((0..PARTITIONS).map(write)), async {
        follow(&replies, &mut answered, &mut offset, total / 4).await;
        members[0].signal(Signal::KILL);
        follow(&replies, &mut answered, &mut offset, total).await;
    });

    let mut next = BTreeMap::<String, usize>::new();
    let (mut repeats, all) = (0, executions.read());
    for (key, number) in &all {
        let next = next.entry(key.clone()).or_default();
        assert!(number <= next, "{key}: {number} is executed before {next}");
        if number == next {
            *next += 1;
        } else {
            repeats += 1;
        }
    }
    assert_eq!(next.values().sum::<usize>(), total);
    assert_eq!(all.len(), total + repeats);
    let name = engine.name();
    say(&format!(
        "{name}: {keys} keys, {total} requests, {repeats} repeated after the kill"
    ));
}

async fn until_partitions(members: &[Process], expected: i64) {
    until_eq("assigned partitions", WAIT_LIMIT, expected, async || {
        let counts = join_all(members.iter().map(|member| member.metric("worker_partitions"))).await;
        counts.into_iter().sum()
    })
    .await;
    join_all(members.iter().map(Process::until_ready)).await;
}

/// A handler that panics on every third request: each caller is told, and the offset moves on.
pub(crate) async fn panicking_handler_answers_every_request(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let (requests, replies) = tokio::join!(fixture.ping(), fixture.pong());
    let mut first = service(&fixture, fixture.ping_name()).ready().await;
    let path = |n: usize| if n.is_multiple_of(3) { "/panic" } else { "/echo" };
    let calls = (0..300).map(|n| call(&fixture, &format!("k{n}"), path(n), &n.to_string()));
    requests.write_batch(calls.collect()).await;
    for read in replies.read(0, 300).await {
        let n: usize = ids([read.record.clone()])[0].parse().unwrap();
        let expected: &[u8] = if n.is_multiple_of(3) { b"500" } else { b"201" };
        assert_eq!(read.record.headers[":status"], expected, "{n}");
    }
    assert_eq!(first.metric("worker_handler_panics_total").await, 100);
    first.signal(Signal::TERM);
    assert_eq!(first.exit(WAIT_LIMIT).await, 0);

    // The next service of the group begins behind all of them.
    let next = service(&fixture, fixture.ping_name()).ready().await;
    requests
        .write_batch(vec![call(&fixture, "last", "/echo", "last")])
        .await;
    replies.read(0, 301).await;
    assert_eq!(next.metric("worker_requests_total").await, 1);
}

/// Two services share a reply topic. One is killed: its route gets 503 within 4 s, that of the other stays as it is.
pub(crate) async fn killed_service_refuses_its_route_only(engine: &Engine) {
    let fixture = Fixture::shared(engine).await;
    let routes = RoutesFile::new(
        fixture.brokers(),
        "reply_topic = \"@replies\"\n\
         [[route]]\non = \"POST /one\"\ntopic = \"@one\"\n\
         [[route]]\non = \"POST /two\"\ntopic = \"@two\"\n",
    );
    for topic in ["replies", "one", "two"] {
        routes.create(topic, 1).await;
    }
    let topics = [routes.name("one"), routes.name("two")];
    let with_replies = |topic: &str| service(&fixture, topic).set("PONG_TOPIC", routes.name("replies"));
    let (one, _two, gateway) = tokio::join!(
        with_replies(&topics[0]).ready(),
        with_replies(&topics[1]).ready(),
        routes.ready(routes.gateway()),
    );
    for path in ["/one", "/two"] {
        until(&format!("201 of {path}"), WAIT_LIMIT, async || {
            (gateway.post(path, "{}").await.status == 201).then_some(())
        })
        .await;
    }
    one.signal(Signal::KILL);
    let killed = Instant::now();
    let refused = until("503 of the killed service", Duration::from_secs(4), async || {
        assert_eq!(gateway.post("/two", "{}").await.status, 201);
        // Those that are written before the gateway knows of it wait for their timeout.
        let asked = tokio::time::timeout(Duration::from_millis(100), gateway.post("/one", "{}"));
        asked.await.ok().filter(|response| response.status == 503)
    })
    .await;
    assert!(killed.elapsed() < Duration::from_secs(4));
    assert_eq!(refused.error().1, "no worker available");
    assert!(refused.header("retry-after").is_some());
    for _ in 0..20 {
        assert_eq!(gateway.post("/two", "{}").await.status, 201);
    }
}

/// An HTTP server that counts what it executes, by body.
#[derive(Default)]
struct Server {
    executed: Mutex<BTreeMap<String, usize>>,
}

impl Server {
    /// Serves until the future is dropped. That closes every connection at once, as the end of a process does.
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(Arc::clone(&self).connection(stream));
        }
    }

    async fn connection(self: Arc<Self>, mut stream: TcpStream) {
        let mut received = Vec::new();
        loop {
            let mut bytes = [0; 4096];
            // The end of the client.
            let Ok(count @ 1..) = stream.read(&mut bytes).await else {
                return;
            };
            received.extend_from_slice(&bytes[..count]);
            let text = String::from_utf8(received.clone()).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() < length.unwrap().parse().unwrap() {
                continue;
            }
            received.clear();
            *self.executed.lock().entry(body.to_owned()).or_default() += 1;
            sleep(Duration::from_millis(20)).await;
            let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(response.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// The HTTP server behind the worker is killed and restarted under load: every request is answered, none is executed twice.
pub(crate) async fn killed_http_server_is_waited_for(engine: &Engine) {
    const REQUESTS: usize = 6_000;
    const KILLS: usize = 3;
    let fixture = Fixture::shared(engine).await;
    let (requests, replies) = tokio::join!(fixture.ping(), fixture.pong());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = Arc::new(Server::default());
    let mut serving = tokio::spawn(Arc::clone(&server).serve(listener));
    let worker = Setup::worker()
        .arg(&format!("--topics={}", fixture.ping_name()))
        .arg(&format!("--forward-to=http://{addr}"))
        .set("CONCURRENCY", CONCURRENCY.to_string());
    let worker = fixture
        .configure(worker)
        .set("PING_TOPIC", "unused")
        .set("PARTITIONS", "0")
        .ready()
        .await;
    let calls: Vec<_> = (0..REQUESTS)
        .map(|n| call(&fixture, &format!("k{n}"), "/orders", &n.to_string()))
        .collect();
    for batch in calls.chunks(500) {
        requests.write_batch(batch.to_vec()).await;
    }
    let (mut answered, mut offset) = (BTreeSet::new(), 0);
    for kill in 1..=KILLS {
        follow(&replies, &mut answered, &mut offset, kill * REQUESTS / (KILLS + 1)).await;
        serving.abort();
        let _ = (&mut serving).await;
        worker.until_unready().await;
        serving = tokio::spawn(Arc::clone(&server).serve(TcpListener::bind(addr).await.unwrap()));
    }
    follow(&replies, &mut answered, &mut offset, REQUESTS).await;
    serving.abort();

    let mut statuses = BTreeMap::<String, usize>::new();
    for read in replies.read_all().await {
        // Without the header it is 200.
        let status = read.record.headers.get(":status").map_or(&b"200"[..], Vec::as_slice);
        *statuses
            .entry(String::from_utf8(status.to_owned()).unwrap())
            .or_default() += 1;
    }
    let failed = statuses.remove("502").unwrap_or_default();
    assert_eq!(statuses, BTreeMap::from([("200".to_owned(), REQUESTS - failed)]));
    assert!(failed <= KILLS * CONCURRENCY, "{failed} of {REQUESTS} are 502");
    let executed = server.executed.lock();
    assert!(
        executed.values().all(|count| *count == 1),
        "a request is executed twice"
    );
    let name = engine.name();
    say(&format!(
        "{name}: {failed} of {REQUESTS} requests are 502 after {KILLS} kills"
    ));
}

//! Transactions of Kafka's Java producer, on either topic: committed, aborted, overlapping, and abandoned by a crash.

use std::{collections::BTreeSet, time::Duration};

use e2e::{
    cluster::{Cluster, NodeSettings},
    fixture::Fixture,
    http::{Connection, Response, get},
    kcat,
    process::Process,
    secure_cluster::JavaProducer,
    topic::Topic,
};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    fault::{Common, Fault, Pair},
    invariants::twice,
    traffic::Traffic,
    verdict::{Verdict, ms},
};

const SECOND: Duration = Duration::from_secs(1);

/// Requests per second.
const RATE: f64 = 50.0;

/// Of the producers that crash. The broker looks for expired transactions every 10 s.
const SHORT_TIMEOUT: &str = "transaction.timeout.ms=3000";

pub(crate) async fn of_others(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let cluster = fault.engine.reserve(1, NodeSettings::default()).await;
    requests(&cluster, &mut verdict).await;
    replies(&cluster, &mut verdict).await;
    verdict
}

/// A producer of transactions, and the topic that it writes to.
struct Writer<'a> {
    producer: JavaProducer,
    topic: &'a str,
}

impl<'a> Writer<'a> {
    fn start(cluster: &Cluster, topic: &'a str, settings: &[&str]) -> Self {
        Self {
            producer: cluster.java_producer(settings),
            topic,
        }
    }

    async fn begin(&mut self, transaction: &str) {
        self.producer.command(&["begin", transaction]).await;
    }

    async fn send(&mut self, transaction: &str, key: &str, value: &str) {
        self.producer
            .command(&["send", transaction, self.topic, "0", key, value])
            .await;
    }

    /// Sends a request with a new id, which it returns.
    async fn request(&mut self, transaction: &str) -> String {
        let id = Uuid::new_v4().to_string();
        let value = json!({ "id": id, "name": "Ping", "value": transaction }).to_string();
        self.send(transaction, &id, &value).await;
        id
    }

    async fn end(&mut self, how: &str, transaction: &str) {
        self.producer.command(&[how, transaction]).await;
    }
}

/// Others write requests, while callers of the gateway write theirs.
async fn requests(cluster: &Cluster, verdict: &mut Verdict) {
    let fixture = Fixture::on(cluster);
    let mut writer = Writer::start(cluster, fixture.ping_name(), &[]);
    let pair = Pair::ready(&fixture).await;
    let ping = fixture.ping().await;
    twice(&pair.processes(), verdict, async |verdict| {
        let mut crashing = Writer::start(cluster, fixture.ping_name(), &[SHORT_TIMEOUT]);
        // The start of the producers takes CPU from the rest. A transaction is open from its first record on.
        for transaction in ["first", "second", "third"] {
            writer.begin(transaction).await;
        }
        crashing.begin("abandoned").await;
        let traffic = Traffic::start(pair.gateway.http(), RATE);
        traffic.run_for(SECOND).await;
        let mut committed = BTreeSet::new();
        let mut aborted = BTreeSet::new();

        // Two transactions one after the other by one producer.
        for (how, ids) in [("abort", &mut aborted), ("commit", &mut committed)] {
            writer.begin("alone").await;
            ids.insert(writer.request("alone").await);
            ids.insert(writer.request("alone").await);
            traffic.run_for(SECOND).await;
            writer.end(how, "alone").await;
        }
        // Overlapping ones.
        for _ in 0..3 {
            committed.insert(writer.request("first").await);
            aborted.insert(writer.request("second").await);
            committed.insert(writer.request("third").await);
        }
        writer.end("abort", "second").await;
        writer.end("commit", "third").await;
        traffic.run_for(SECOND).await;
        writer.end("commit", "first").await;
        // One that its producer abandons.
        let abandoned = crashing.request("abandoned").await;
        let open_from = Instant::now();
        drop(crashing);
        until_decided(fixture.brokers(), &ping, fixture.ping_name()).await;
        verdict.note(format!(
            "an abandoned transaction is open for {}",
            ms(open_from.elapsed())
        ));
        aborted.insert(abandoned);
        traffic.run_for(SECOND).await;

        let record = traffic.finish().await;
        record.judge_answers(verdict);
        record.all().judge_share(verdict, "requests beside transactions", 1.0);
        judge_longest(verdict, "beside transactions on ping", record.all().longest());
        let replied = replied(&fixture).await;
        let missing = committed.difference(&replied).count();
        let unwanted = aborted.intersection(&replied).count();
        verdict.judge(
            missing == 0 && unwanted == 0,
            format!(
                "requests: {missing} of {} committed unanswered, {unwanted} of {} aborted answered",
                committed.len(),
                aborted.len()
            ),
        );
    })
    .await;
}

/// Others write replies: what a caller gets is never of an aborted transaction.
async fn replies(cluster: &Cluster, verdict: &mut Verdict) {
    let fixture = Fixture::on(cluster);
    let mut writer = Writer::start(cluster, fixture.pong_name(), &[]);
    // The broker needs up to 13 s for an abandoned transaction.
    let gateway = fixture.gateway().common().set("REPLY_TIMEOUT", "30s").ready().await;
    let (ping, pong) = tokio::join!(fixture.ping(), fixture.pong());
    twice(&[&gateway], verdict, async |verdict| {
        let mut crashing = Writer::start(cluster, fixture.pong_name(), &[SHORT_TIMEOUT]);
        for transaction in ["aborted", "committed"] {
            writer.begin(transaction).await;
        }
        crashing.begin("abandoned").await;
        let mut callers = Vec::new();
        for _ in 0..4 {
            callers.push(Caller::start(&gateway, &ping).await);
        }
        // Each caller has an undecided reply; of the first, the aborted one comes first.
        writer.send("aborted", &callers[0].id, "aborted").await;
        writer.send("committed", &callers[0].id, "committed").await;
        writer.send("committed", &callers[1].id, "committed").await;
        crashing.send("abandoned", &callers[2].id, "abandoned").await;
        // Nothing waits for them.
        let from = Instant::now();
        writer
            .producer
            .command(&["send", "-", fixture.pong_name(), "0", &callers[3].id, "plain"])
            .await;
        let [mut first, mut second, mut third, mut fourth] = <[Caller; 4]>::try_from(callers).ok().unwrap();
        let plain = fourth.response().await;
        judge_longest(verdict, "beside transactions on pong", from.elapsed());
        writer.end("abort", "aborted").await;
        writer.end("commit", "committed").await;
        let decided = [first.response().await, second.response().await];
        drop(crashing);
        until_decided(fixture.brokers(), &pong, fixture.pong_name()).await;
        // Its own reply comes only after the broker has aborted the other one.
        fixture
            .pong()
            .await
            .write(Some(third.id.as_bytes()), Some(b"plain"))
            .await;
        let last = third.response().await;

        let texts: Vec<_> = [&plain, &decided[0], &decided[1], &last]
            .map(Response::message)
            .to_vec();
        verdict.judge(
            texts == ["plain", "committed", "committed", "plain"],
            format!("replies delivered: {texts:?}"),
        );
    })
    .await;
}

/// A request that waits for its reply.
struct Caller {
    connection: Connection,
    id: String,
}

impl Caller {
    async fn start(gateway: &Process, ping: &Topic) -> Self {
        let offset = ping.end().await;
        let mut connection = gateway.connect().await;
        connection.send(get("/ping")).await.unwrap();
        let request = ping.read_one(offset).await;
        let value: Value = serde_json::from_slice(&request.value.unwrap()).unwrap();
        let id = value["id"].as_str().unwrap().to_owned();
        Self { connection, id }
    }

    async fn response(&mut self) -> Response {
        self.connection.response().await
    }
}

fn judge_longest(verdict: &mut Verdict, what: &str, longest: Duration) {
    verdict.judge(longest <= SECOND, format!("{what}: longest wait {}", ms(longest)));
}

/// Waits until no transaction is open in a topic: kcat, which reads committed records only, sees one written now.
async fn until_decided(brokers: &str, topic: &Topic, name: &str) {
    let offset = topic.write(None, Some(b"after the transaction")).await.to_string();
    let args = ["-C", "-q", "-c", "1", "-o", &offset, "-t", name, "-p", "0"];
    let read = kcat::run(brokers, &args, "").await;
    assert_eq!(read, "after the transaction\n");
}

/// The keys of all replies.
async fn replied(fixture: &Fixture) -> BTreeSet<String> {
    let keys = kcat::read(fixture.brokers(), fixture.pong_name(), "%k\n").await;
    keys.lines().map(str::to_owned).collect()
}

//! Codecs: set for a topic, set for the broker, and used by other clients.

use std::{collections::BTreeSet, time::Duration};

use e2e::{
    cluster::{Cluster, NodeSettings},
    fixture::Fixture,
    http::post,
    kcat,
    process::Process,
    topic,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    fault::{Fault, Pair},
    invariants::Watch,
    traffic::Traffic,
    verdict::Verdict,
};

const SECOND: Duration = Duration::from_secs(1);

/// By their numbers in a batch's attributes, from 1 on.
const CODECS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];

/// Requests per second.
const RATE: f64 = 100.0;

/// Requests or replies of another client.
const EACH: usize = 20;

pub(crate) async fn every_codec(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    for (number, codec) in (1..).zip(CODECS) {
        let settings = NodeSettings {
            compression: Some(codec),
            ..NodeSettings::default()
        };
        let cluster = fault.engine.own(1, settings).await;
        serve_load(
            &cluster,
            &Fixture::on(&cluster),
            &format!("{codec} of the broker"),
            number,
            &mut verdict,
        )
        .await;
    }
    // This cluster stores batches as they come, but for topics with a codec of their own.
    let cluster = fault.engine.reserve(1, NodeSettings::default()).await;
    let fixtures = CODECS.map(|_| Fixture::on(&cluster));
    let mut commands = String::new();
    for (codec, fixture) in CODECS.into_iter().zip(&fixtures) {
        for name in [fixture.ping_name(), fixture.pong_name()] {
            topic::create(fixture.brokers(), name, 1).await;
            commands += &format!("config {name} compression.type={codec}\n");
        }
    }
    cluster.administer(&commands).await;
    for ((number, codec), fixture) in (1..).zip(CODECS).zip(&fixtures) {
        let what = format!("{codec} of the topics");
        serve_load(&cluster, fixture, &what, number, &mut verdict).await;
        answer_requests_of_kcat(&cluster, codec, number, &mut verdict).await;
        deliver_replies_of_kcat(&cluster, codec, number, &mut verdict).await;
        answer_requests_of_java(&cluster, codec, number, &mut verdict).await;
    }
    verdict
}

/// Gateway and worker under load, while the broker compresses all that they write.
async fn serve_load(cluster: &Cluster, fixture: &Fixture, what: &str, codec: u8, verdict: &mut Verdict) {
    let pair = Pair::ready(fixture).await;
    let watch = Watch::of(&pair.processes());
    let traffic = Traffic::start(pair.gateway.http(), RATE);
    traffic.run_for(3 * SECOND).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    record.all().judge_share(verdict, what, 1.0);
    for topic in [fixture.ping_name(), fixture.pong_name()] {
        judge_stored(cluster, topic, codec, verdict);
    }
    judge_none_skipped(&pair.gateway, verdict).await;
    judge_none_skipped(&pair.worker, verdict).await;
    watch.judge(verdict).await;
}

/// kcat compresses the requests.
async fn answer_requests_of_kcat(cluster: &Cluster, codec: &str, number: u8, verdict: &mut Verdict) {
    let fixture = Fixture::on(cluster);
    let worker = fixture.worker().ready().await;
    let ids: Vec<_> = (0..EACH).map(|_| Uuid::new_v4().to_string()).collect();
    let requests: Vec<_> = ids.iter().map(|id| request(id).into_bytes()).collect();
    kcat::write(fixture.brokers(), fixture.ping_name(), &["-z", codec], &requests).await;
    judge_replied(&fixture, &ids, &format!("requests of kcat in {codec}"), verdict).await;
    judge_stored(cluster, fixture.ping_name(), number, verdict);
    judge_none_skipped(&worker, verdict).await;
}

/// kcat is the worker, and compresses the replies.
async fn deliver_replies_of_kcat(cluster: &Cluster, codec: &str, number: u8, verdict: &mut Verdict) {
    let fixture = Fixture::on(cluster);
    let gateway = fixture.gateway().ready().await;
    let callers = (0..EACH).map(|turn| {
        let body = json!({ "name": codec, "value": turn.to_string().repeat(20) }).to_string();
        let gateway = &gateway;
        async move { (turn, gateway.exchange(post("/ping", body)).await) }
    });
    let answering = async {
        let requests = fixture.ping().await.read(0, EACH).await;
        let replies: Vec<_> = requests
            .into_iter()
            .map(|read| {
                let value: Value = serde_json::from_slice(&read.record.value.unwrap()).unwrap();
                let text = |name: &str| value[name].as_str().unwrap().to_owned();
                let (id, name, value) = (text("id"), text("name"), text("value"));
                format!("{id}\t{name} {value} ( {id} ) ").into_bytes()
            })
            .collect();
        kcat::write(fixture.brokers(), fixture.pong_name(), &["-K\t", "-z", codec], &replies).await;
    };
    let (responses, ()) = tokio::join!(join_all(callers), answering);
    let right = responses.iter().filter(|(turn, response)| {
        let expected = format!("{codec} {} ( ", turn.to_string().repeat(20));
        response.status == 200 && response.message().starts_with(&expected)
    });
    let right = right.count();
    verdict.judge(
        right == EACH,
        format!("replies of kcat in {codec}: {right} of {EACH} delivered"),
    );
    judge_stored(cluster, fixture.pong_name(), number, verdict);
    judge_none_skipped(&gateway, verdict).await;
}

/// Kafka's Java producer compresses the requests. Its snappy has another framing than that of kcat.
async fn answer_requests_of_java(cluster: &Cluster, codec: &str, number: u8, verdict: &mut Verdict) {
    let fixture = Fixture::on(cluster);
    let worker = fixture.worker().ready().await;
    let mut producer = cluster.java_producer(&[&format!("compression.type={codec}"), "linger.ms=100"]);
    let ids: Vec<_> = (0..EACH).map(|_| Uuid::new_v4().to_string()).collect();
    for id in &ids {
        producer
            .command(&["queue", "-", fixture.ping_name(), "0", id, &request(id)])
            .await;
    }
    producer.command(&["flush", "-"]).await;
    judge_replied(&fixture, &ids, &format!("requests of Java in {codec}"), verdict).await;
    judge_stored(cluster, fixture.ping_name(), number, verdict);
    judge_none_skipped(&worker, verdict).await;
}

/// Long and repetitive, so that each codec makes it smaller.
fn request(id: &str) -> String {
    json!({ "id": id, "name": "Ping", "value": id.repeat(10) }).to_string()
}

async fn judge_replied(fixture: &Fixture, ids: &[String], what: &str, verdict: &mut Verdict) {
    let replies = fixture.pong().await.read(0, ids.len()).await;
    let replied: Vec<_> = replies
        .into_iter()
        .map(|reply| String::from_utf8(reply.record.key.unwrap()).unwrap())
        .collect();
    verdict.judge(replied == ids, format!("{what}: {} replied", replied.len()));
}

/// The scenario is one only if the log really has this codec.
fn judge_stored(cluster: &Cluster, topic: &str, codec: u8, verdict: &mut Verdict) {
    let stored = cluster.stored_codecs(topic);
    verdict.invariant(
        stored == BTreeSet::from([codec]),
        format!("the log of {topic} has the codecs {stored:?} instead of {codec}"),
    );
}

async fn judge_none_skipped(process: &Process, verdict: &mut Verdict) {
    let series = format!("{}_kafka_tail_records_undecodable_total", process.name());
    let skipped = process.metric(&series).await;
    verdict.invariant(skipped == 0, format!("{} skipped {skipped} records", process.name()));
}

//! Gateway and worker on librdkafka, for comparison: `GET /ping` writes a record; the reply with the same key is the response.
//!
//! It is written for speed: a request is registered before its record is sent, one tokio thread serves HTTP, and a second
//! thread polls and hands over all available replies at once. librdkafka has its defaults except `LINGER_MS`, the settings
//! in [`client`], and those of the feature `tuned`. Records have no headers. Without an argument the program is the gateway,
//! and starts a worker.

use std::{
    collections::HashMap,
    convert::Infallible,
    env,
    process::{Command, ExitCode},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::BorrowedMessage,
    producer::{BaseRecord, DefaultProducerContext, DeliveryResult, ProducerContext, ThreadedProducer},
};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};
use uuid::Uuid;

#[cfg(feature = "tuned")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Records handed over at once.
const MAX_POLLED: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Ping<'a> {
    id: &'a str,
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
struct ResponseBody<'a> {
    message: &'a str,
}

/// Requests in flight, by the key of their record; `None` means that the record was not written.
#[derive(Clone, Default)]
struct Pending(Arc<Mutex<HashMap<Uuid, oneshot::Sender<Option<Bytes>>>>>);

struct Gateway {
    pending: Pending,
    producer: ThreadedProducer<Pending>,
    topic: String,
}

fn main() -> ExitCode {
    let is_worker = env::args().nth(1).as_deref() == Some("worker");
    match if is_worker { worker() } else { gateway() } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn gateway() -> Result<(), Error> {
    let mut worker = Command::new(env::current_exe()?).arg("worker").spawn()?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let ended = runtime.enable_all().build()?.block_on(serve());
    worker.kill()?;
    ended
}

async fn serve() -> Result<(), Error> {
    let pending = Pending::default();
    let replies = consumer(&env::var("PONG_TOPIC")?)?;
    let (responses, mut received) = mpsc::unbounded_channel();
    thread::spawn(move || {
        read(&replies, |replies| {
            // Fails only at the end of the process.
            let _ = responses.send(replies.iter().filter_map(response_body).collect());
        });
    });
    let in_flight = pending.clone();
    tokio::spawn(async move {
        while let Some(bodies) = received.recv().await {
            in_flight.complete(bodies);
        }
    });
    let gateway = Arc::new(Gateway {
        producer: producer()?.create_with_context(pending.clone())?,
        pending,
        topic: env::var("PING_TOPIC")?,
    });
    let listener = TcpListener::bind(("127.0.0.1", env::var("PORT")?.parse()?)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let gateway = Arc::clone(&gateway);
                async move { Ok::<_, Infallible>(gateway.handle(request).await) }
            });
            // After an error the client is gone.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Runs until it is killed.
fn worker() -> Result<(), Error> {
    let producer: ThreadedProducer<_> = producer()?.create_with_context(DefaultProducerContext)?;
    let topic = env::var("PONG_TOPIC")?;
    read(&consumer(&env::var("PING_TOPIC")?)?, |requests| {
        for request in requests {
            let Ok(Ping { id, name, value }) = serde_json::from_slice(request.payload().unwrap_or_default()) else {
                continue;
            };
            let reply = format!("{name} {value} ( {id} ) ");
            let record = BaseRecord::to(&topic).partition(0).key(id).payload(&reply);
            if let Err((error, _)) = producer.send(record) {
                eprintln!("{error}");
            }
        }
    });
    Ok(())
}

/// Waits for a record, and hands it over with all others that are available.
fn read(consumer: &BaseConsumer, mut handle: impl FnMut(&[BorrowedMessage<'_>])) {
    let mut records = Vec::with_capacity(MAX_POLLED);
    loop {
        let mut next = consumer.poll(Duration::from_secs(1));
        while let Some(polled) = next {
            match polled {
                Ok(record) => records.push(record),
                Err(error) => eprintln!("{error}"),
            }
            let has_room = records.len() < MAX_POLLED;
            next = has_room.then(|| consumer.poll(Duration::ZERO)).flatten();
        }
        handle(&records);
        records.clear();
    }
}

/// The id of the request and the body of its response.
fn response_body(reply: &BorrowedMessage<'_>) -> Option<(Uuid, Bytes)> {
    let message = String::from_utf8_lossy(reply.payload()?);
    let body = serde_json::to_vec(&ResponseBody { message: &message }).ok()?;
    Some((uuid(reply.key())?, body.into()))
}

fn uuid(key: Option<&[u8]>) -> Option<Uuid> {
    Uuid::try_parse_ascii(key?).ok()
}

/// Partition 0 from the latest offset.
fn consumer(topic: &str) -> Result<BaseConsumer, Error> {
    let mut config = client()?;
    config.set("group.id", "none").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let (_, end) = consumer.fetch_watermarks(topic, 0, Duration::from_secs(10))?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::Offset(end))?;
    consumer.assign(&partitions)?;
    Ok(consumer)
}

fn producer() -> Result<ClientConfig, Error> {
    let mut config = client()?;
    config.set("linger.ms", env::var("LINGER_MS")?);
    if cfg!(feature = "tuned") {
        // Larger batches, and no event for a delivered record.
        config
            .set("max.in.flight", "1")
            .set("delivery.report.only.error", "true");
    }
    Ok(config)
}

fn client() -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", env::var("KAFKA_BROKERS")?);
    config.set("socket.nagle.disable", "true");
    Ok(config)
}

fn respond(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

// === impl Gateway ===

impl Gateway {
    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET || request.uri().path() != "/ping" {
            return respond(StatusCode::NOT_FOUND, r#"{"error":"not found"}"#);
        }
        let uuid = Uuid::new_v4();
        match timeout(Duration::from_secs(10), self.request(uuid)).await {
            Ok(Some(body)) => respond(StatusCode::OK, body),
            Ok(None) => {
                let body = r#"{"error":"failed to send message to Kafka"}"#;
                respond(StatusCode::INTERNAL_SERVER_ERROR, body)
            }
            Err(_) => {
                self.pending.take(uuid);
                let body = r#"{"error":"timeout waiting for response"}"#;
                respond(StatusCode::INTERNAL_SERVER_ERROR, body)
            }
        }
    }

    /// `None` if the record was not written.
    async fn request(&self, uuid: Uuid) -> Option<Bytes> {
        let mut buffer = Uuid::encode_buffer();
        let id: &str = uuid.as_hyphenated().encode_lower(&mut buffer);
        let ping = Ping {
            id,
            name: "Ping",
            value: "Pong",
        };
        let value = serde_json::to_vec(&ping).ok()?;
        let reply = self.pending.add(uuid);
        let record = BaseRecord::to(&self.topic).partition(0).key(id).payload(&value);
        if self.producer.send(record).is_err() {
            self.pending.take(uuid);
            return None;
        }
        reply.await.ok().flatten()
    }
}

// === impl Pending ===

impl Pending {
    fn add(&self, id: Uuid) -> oneshot::Receiver<Option<Bytes>> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().expect("no panic").insert(id, sender);
        receiver
    }

    fn take(&self, id: Uuid) -> Option<oneshot::Sender<Option<Bytes>>> {
        self.0.lock().expect("no panic").remove(&id)
    }

    fn complete(&self, bodies: Vec<(Uuid, Bytes)>) {
        let mut senders = self.0.lock().expect("no panic");
        for (id, body) in bodies {
            if let Some(sender) = senders.remove(&id) {
                // The receiver is gone after a timeout.
                let _ = sender.send(Some(body));
            }
        }
    }
}

impl ClientContext for Pending {}

impl ProducerContext for Pending {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((_, record)) = result
            && let Some(sender) = uuid(record.key()).and_then(|id| self.take(id))
        {
            let _ = sender.send(None);
        }
    }
}

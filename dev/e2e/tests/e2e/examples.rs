//! The services of `examples/` behind routes, run as their table says.

use std::{collections::BTreeSet, fs, path::Path, process::Stdio, time::Duration};

use e2e::{
    engine::Engine,
    environment::{Environment, has, temporary},
    examples::{self, EXAMPLES},
    http::{Connection, Response, get, request},
    process::{Process, Setup},
    routes::{RoutesFile, header},
    topic::Topic,
    wait::{WAIT_LIMIT, until},
};
use futures_util::future::join_all;
use libtest_mimic::Completion;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

/// The most lines of a service.
const MAX_LINES: usize = 60;

/// Partitions of each topic.
const PARTITIONS: i32 = 3;

/// The gateway reads this partition only: no client writes there by chance.
const REPLY_PARTITION: i32 = 1;

/// The bound on the start of a service: a runtime, and a member of a group, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(80);

const CALLERS: usize = 8;

/// Requests of each caller.
const REQUESTS: usize = 20;

const ORDERS: &str = r#"
[[route]]
on = "POST /orders"
topic = "@orders"
reply_topic = "@replies"
key = "{header:x-customer}"
request_headers = ["x-customer", "idempotency-key"]
reply_headers = ["location"]
timeout = "20s"
"#;

const CUSTOMERS: &str = r#"
[[route]]
on = "GET /customers/{id}"
topic = "@customers"
reply_topic = "@replies"
key = "{id}"
reply_headers = ["etag", "cache-control"]
timeout = "20s"
"#;

const EVENTS: &str = r#"
[[route]]
on = "POST /events"
topic = "@events"
reply = false
"#;

/// A topic of their own for requests in Python, beside those of the shop.
const CARTS: &str = r#"
[[route]]
on = "POST /carts"
topic = "@carts"
reply_topic = "@replies"
reply_headers = ["location"]
timeout = "20s"
"#;

const PING: &str = r#"
[[route]]
on = "GET, POST /ping"
topic = "@ping"
reply_topic = "@pong"
partitions = "0"
contract = "ping"
timeout = "20s"
"#;

/// Routes with topics, and a gateway that serves them.
struct Shop {
    routes: RoutesFile,
    gateway: Process,
    brokers: String,
}

// === impl Shop ===

impl Shop {
    async fn open(engine: &Engine, routes: &[&str], topics: &[&str]) -> Self {
        let brokers = engine.brokers().await;
        let routes = RoutesFile::new(brokers, &routes.concat());
        for topic in topics {
            routes.create(topic, PARTITIONS).await;
        }
        let gateway = routes.gateway().set("REPLY_PARTITION", REPLY_PARTITION.to_string());
        let gateway = routes.ready(gateway).await;
        Self {
            routes,
            gateway,
            brokers: brokers.to_owned(),
        }
    }

    /// An example that is not yet started, with a topic of the shop.
    fn example(&self, name: &str, topic: &str) -> Setup {
        let setup = examples::find(name).setup(&self.brokers, &self.routes.name(topic));
        setup.set("PONG_TOPIC", self.routes.name("replies"))
    }

    /// Repeats a request until a service answers: it may start at the newest record, and no request tells when it has.
    async fn until_answered(&self, request: &[u8]) {
        until("an answer of the service", START_LIMIT, async || {
            let response = self.gateway.exchange(request).await;
            (response.status < 500).then_some(())
        })
        .await;
    }
}

/// An order of a unique article.
fn order(path: &str, unique: &str, wait: &str) -> Vec<u8> {
    let key = format!("idempotency-key: {unique}");
    let headers = ["content-type: application/json", "x-customer: 7", &key, wait];
    let headers = headers.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>();
    let body = json!({ "sku": sku(unique), "quantity": 1 }).to_string();
    request("POST", path, &headers, body)
}

/// The name of an article, with a character that is not ASCII.
fn sku(unique: &str) -> String {
    format!("{unique} \u{e4}")
}

/// Checks that a response is the one to an order, and returns the id that the service gave it.
fn placed(response: &Response, unique: &str) -> String {
    assert_eq!(response.status, 201, "{response:?}");
    assert_eq!(
        response.header("content-type"),
        Some("application/json"),
        "{response:?}"
    );
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(body["sku"], sku(unique), "{response:?}");
    let id = body["id"]
        .as_str()
        .map_or_else(|| body["id"].to_string(), str::to_owned);
    let location = format!("/orders/{id}");
    assert_eq!(response.header("location"), Some(location.as_str()), "{response:?}");
    id
}

/// Checks that a response is the one about a customer.
fn described(response: &Response, id: usize) {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(
        response.header("content-type"),
        Some("application/json"),
        "{response:?}"
    );
    assert_eq!(response.text(), json!({ "id": id }).to_string(), "{response:?}");
    let etag = format!("\"{id}\"");
    assert_eq!(response.header("etag"), Some(etag.as_str()), "{response:?}");
}

/// Ends a service as an operator does. A runtime may end with the signal, after its handlers of it.
async fn stop(mut service: Process) {
    service.signal(Signal::TERM);
    let code = service.exit(WAIT_LIMIT).await;
    assert!(code == 0 || code == 143, "{code}");
}

pub(crate) async fn services_are_short() {
    for example in examples::table() {
        let source = fs::read_to_string(Path::new(EXAMPLES).join(&example.source)).unwrap();
        assert!(source.lines().count() <= MAX_LINES, "{}", example.source);
    }
}

/// A service behind `POST /orders`.
async fn takes_orders(engine: &Engine, name: &str, dialect: &str) {
    let shop = Shop::open(engine, &[ORDERS, dialect], &["orders", "replies"]).await;
    let service = shop.example(name, "orders").start().await;
    shop.until_answered(&order("/orders", "first", "prefer: wait=1")).await;

    let caller = async |caller: usize| {
        let mut connection = shop.gateway.connect().await;
        let mut ids = Vec::new();
        for number in 0..REQUESTS {
            let unique = format!("{caller} {number}");
            let response = connection.exchange(order("/orders", &unique, "")).await;
            ids.push(placed(&response, &unique));
        }
        ids
    };
    let ids: BTreeSet<_> = join_all((0..CALLERS).map(caller)).await.concat().into_iter().collect();
    assert_eq!(ids.len(), CALLERS * REQUESTS, "each order has an id of its own");

    for body in [r#"{"sku":"a","quantity":0}"#, "{}", "no order", ""] {
        let headers = ["x-customer: 7", "idempotency-key: wrong"];
        let response = shop.gateway.exchange(request("POST", "/orders", &headers, body)).await;
        assert!(matches!(response.status, 400 | 422), "{body}: {response:?}");
        let error: Value = serde_json::from_slice(&response.body).unwrap();
        assert!(error["error"].is_string(), "{body}: {response:?}");
        assert_eq!(response.header("location"), None, "{body}");
    }
    stop(service).await;
}

/// A service behind `GET /customers/{id}`.
async fn knows_customers(engine: &Engine, name: &str, dialect: &str) {
    let shop = Shop::open(engine, &[CUSTOMERS, dialect], &["customers", "replies"]).await;
    let service = shop.example(name, "customers").start().await;
    shop.until_answered(&request("GET", "/customers/0", &["prefer: wait=1"], ""))
        .await;

    let caller = async |caller: usize| {
        let mut connection = shop.gateway.connect().await;
        for number in 0..REQUESTS {
            let id = 1 + caller * REQUESTS + number;
            described(&connection.exchange(get(&format!("/customers/{id}"))).await, id);
        }
    };
    join_all((0..CALLERS).map(caller)).await;

    let response = shop.gateway.get("/customers/nobody").await;
    assert_eq!(response.status, 404, "{response:?}");
    assert_eq!(response.text(), r#"{"error":"no such customer"}"#);
    assert_eq!(response.header("etag"), None);
    stop(service).await;
}

pub(crate) async fn python_takes_orders(engine: &Engine) {
    takes_orders(engine, "python", "").await;
}

pub(crate) async fn go_takes_orders(engine: &Engine) {
    takes_orders(engine, "go", "").await;
}

pub(crate) async fn node_takes_orders(engine: &Engine) {
    takes_orders(engine, "node", "").await;
}

pub(crate) async fn nestjs_takes_orders(engine: &Engine) {
    takes_orders(engine, "nestjs", "dialect = \"nest\"\n").await;
}

pub(crate) async fn rust_takes_orders(engine: &Engine) {
    takes_orders(engine, "rust orders", "").await;
}

pub(crate) async fn spring_knows_customers(engine: &Engine) {
    knows_customers(engine, "spring", "dialect = \"spring\"\n").await;
}

pub(crate) async fn axum_knows_customers(engine: &Engine) {
    knows_customers(engine, "rust customers", "").await;
}

pub(crate) async fn rust_records_events(engine: &Engine) {
    let shop = Shop::open(engine, &[EVENTS], &["events"]).await;
    let dead = shop.routes.name("dead");
    let dead_letters = Topic::open(&shop.brokers, &dead).await;
    let service = shop.example("rust events", "events").set("DEAD_LETTER_TOPIC", &dead);
    let service = service.ready().await;
    let mut ids = BTreeSet::new();
    let mut caller = shop.gateway.connect().await;
    let kinds = (0..REQUESTS).map(|number| json!({ "kind": number.to_string() }).to_string());
    for body in kinds.chain(["{}".to_owned()]) {
        let response = caller.exchange(request("POST", "/events", &[], &body)).await;
        assert_eq!(response.status, 202, "{response:?}");
        let stored: Value = serde_json::from_slice(&response.body).unwrap();
        ids.insert(stored["id"].as_str().unwrap().to_owned());
        if body == "{}" {
            let letter = dead_letters.read_one(0).await;
            assert_eq!(header(&letter, "kafka_correlationId"), stored["id"]);
            assert!(header(&letter, ":error").contains("kind"), "{letter:?}");
            assert_eq!(letter.value.as_deref(), Some(&b"{}"[..]));
        }
    }
    assert_eq!(ids.len(), REQUESTS + 1);
    // Three attempts of the last one.
    let handled = i64::try_from(REQUESTS + 3).unwrap();
    service.until_metric("worker_handled_total", handled).await;
    service.until_metric("worker_dead_letters_total", 1).await;
    stop(service).await;
}

/// The service in the README of the project.
pub(crate) async fn python_of_the_readme_answers(engine: &Engine) {
    let shop = Shop::open(engine, &[ORDERS], &["orders", "replies"]).await;
    let readme = fs::read_to_string(Path::new(EXAMPLES).join("../README.md")).unwrap();
    let (_, rest) = readme.split_once("```python\n").unwrap();
    let (source, _) = rest.split_once("```").unwrap();
    let source = source
        .replace("localhost:9092", &shop.brokers)
        .replace("\"orders\"", &format!("\"{}\"", shop.routes.name("orders")));
    let file = temporary().join(format!("{}.py", shop.routes.name("readme")));
    fs::write(&file, source).unwrap();
    let run = format!(".venv/bin/python {}", file.display());
    let _service = examples::find("python").shell(&run).start().await;
    shop.until_answered(&order("/orders", "first", "prefer: wait=1")).await;
    let response = shop.gateway.exchange(order("/orders", "second", "")).await;
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(
        (response.status, &body["sku"]),
        (201, &json!(sku("second"))),
        "{response:?}"
    );
    assert_eq!(response.header("location"), Some("/orders/1"));
    fs::remove_file(&file).unwrap();
}

/// The line of `docs/wire.md` that answers a request by hand.
pub(crate) async fn kcat_answers_by_hand(engine: &Engine) -> Completion {
    if !has("kcat", "-V") && !Environment::read().ci {
        return Completion::ignored_with("kcat is not installed");
    }
    let routes = RoutesFile::new(engine.brokers().await, ORDERS);
    for topic in ["orders", "replies"] {
        routes.create(topic, 1).await;
    }
    let gateway = routes.ready(routes.gateway()).await;
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/wire.md");
    let page = fs::read_to_string(page).unwrap();
    let line = page.lines().find(|line| line.starts_with("id=$(kcat")).unwrap();
    let line = line
        .replace("localhost:9092", engine.brokers().await)
        .replace("-t orders", &format!("-t {}", routes.name("orders")))
        .replace("-t replies", &format!("-t {}", routes.name("replies")));
    let mut shell = Command::new("bash");
    let shell = shell.args(["-c", &line]).stdin(Stdio::null()).kill_on_drop(true);
    let mut hand = shell.spawn().unwrap();
    // It starts at the newest record, and no request tells when it has.
    let response = until("an answer by hand", WAIT_LIMIT, async || {
        let response = gateway.exchange(order("/orders", "a", "prefer: wait=5")).await;
        (response.status != 504).then_some(response)
    })
    .await;
    assert_eq!(
        (response.status, response.text()),
        (201, "{\"by\":\"hand\"}"),
        "{response:?}"
    );
    assert!(hand.wait().await.unwrap().success());
    Completion::Completed
}

/// Five routes to services in four languages, on the same reply topic but for `/ping`.
pub(crate) async fn shop_of_services_gives_each_request_its_own_answer(engine: &Engine) {
    const CALLERS: usize = 50;
    const REQUESTS: usize = 200;
    let nest = "dialect = \"nest\"\n";
    let spring = "dialect = \"spring\"\n";
    let text = [PING, ORDERS, nest, CUSTOMERS, spring, CARTS, EVENTS];
    let topics = ["ping", "pong", "orders", "customers", "carts", "events", "replies"];
    let shop = Shop::open(engine, &text, &topics).await;
    let name = |topic: &str| shop.routes.name(topic);
    let worker = Setup::worker()
        .set("KAFKA_BROKERS", &shop.brokers)
        .set("PING_TOPIC", name("ping"))
        .set("PONG_TOPIC", name("pong"));
    let events = shop.example("rust events", "events");
    let (_worker, events) = tokio::join!(worker.ready(), events.ready());
    let _services = [
        shop.example("nestjs", "orders").start().await,
        shop.example("spring", "customers").start().await,
        shop.example("python", "carts").start().await,
    ];
    for request in [
        order("/orders", "first", "prefer: wait=1"),
        order("/carts", "first", "prefer: wait=1"),
        request("GET", "/customers/0", &["prefer: wait=1"], ""),
    ] {
        shop.until_answered(&request).await;
    }

    let caller = async |caller: usize| {
        let mut connection = shop.gateway.connect().await;
        let mut ids = Vec::new();
        for number in 0..REQUESTS {
            ids.extend(ask(&mut connection, 1 + caller * REQUESTS + number).await);
        }
        ids
    };
    let ids = join_all((0..CALLERS).map(caller)).await.concat();
    // Of orders, carts and events: a service, a topic or the gateway gives each.
    assert_eq!(ids.len(), CALLERS * REQUESTS * 3 / 5);
    assert_eq!(
        ids.iter().collect::<BTreeSet<_>>().len(),
        ids.len(),
        "no id is given twice"
    );
    let handled = i64::try_from(CALLERS * REQUESTS / 5).unwrap();
    events.until_metric("worker_handled_total", handled).await;
    assert_eq!(shop.gateway.metric("gateway_in_flight").await, 0);
}

/// One request with a value of its own to one of the five routes. Returns the id in its answer, if it has one.
async fn ask(connection: &mut Connection, unique: usize) -> Option<String> {
    let text = unique.to_string();
    match unique % 5 {
        0 => {
            let body = json!({ "name": text, "value": "v" }).to_string();
            let response = connection.exchange(request("POST", "/ping", &[], body)).await;
            let message = response.message();
            assert!(message.starts_with(&format!("{text} v ( ")), "{message}");
            None
        }
        1 => {
            let response = connection.exchange(order("/orders", &text, "")).await;
            Some(format!("order {}", placed(&response, &text)))
        }
        2 => {
            let response = connection.exchange(get(&format!("/customers/{unique}"))).await;
            described(&response, unique);
            None
        }
        3 => {
            let response = connection.exchange(order("/carts", &text, "")).await;
            Some(format!("cart {}", placed(&response, &text)))
        }
        _ => {
            let body = json!({ "kind": text }).to_string();
            let response = connection.exchange(request("POST", "/events", &[], body)).await;
            assert_eq!(response.status, 202, "{response:?}");
            Some(response.text().to_owned())
        }
    }
}

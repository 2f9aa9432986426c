use serde_json::json;

use super::*;

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "the fields are only parsed")]
struct Order<'a> {
    sku: &'a str,
    quantity: u32,
}

fn message(body: &[u8]) -> String {
    let request = Request::post("/orders").body(body);
    let failure = request.json::<Order<'_>>().unwrap_err();
    assert_eq!(failure.status(), 400);
    failure.message().to_owned()
}

#[test]
fn request_has_what_its_builder_was_given() {
    let request = Request::builder("GET", "/customers/7?full=1?")
        .param("id", "7")
        .header("X-Customer", "a")
        .header("x-customer", "b")
        .key("k")
        .topic("customers")
        .body("text");
    assert_eq!((request.method(), request.path()), ("GET", "/customers/7"));
    assert_eq!(request.query(), Some("full=1?"));
    assert_eq!((request.param("id"), request.param("i")), (Some("7"), None));
    assert_eq!(request.params().collect::<Vec<_>>(), [("id", "7")]);
    assert_eq!(request.header("x-CUSTOMER"), Some("b"), "the last one counts");
    assert_eq!((request.key(), request.body()), (Some(&b"k"[..]), &b"text"[..]));
    assert_eq!(request.topic(), "customers");
    assert!(request.wants_reply() && request.deadline().is_none());
}

#[test]
fn record_without_http_headers_is_a_post_of_its_topic() {
    let record = Record::new(b"k".to_vec(), b"v".to_vec());
    let request = Request::new(record.into(), &"/orders".into(), 2, None, false);
    assert_eq!(
        (request.method(), request.path(), request.query()),
        ("POST", "/orders", None)
    );
    assert_eq!((request.topic(), request.partition()), ("orders", 2));
}

#[test]
fn json_borrows_from_the_body() {
    let request = Request::post("/orders").json(&json!({"sku": "a", "quantity": 1}));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.json::<Order<'_>>().unwrap().sku, "a");
}

#[test]
fn json_error_names_the_field() {
    let wrong_type = message(br#"{"sku":"a","quantity":"x"}"#);
    assert!(wrong_type.starts_with("quantity: invalid type: string"), "{wrong_type}");
    for (body, expected) in [
        (&b"{}"[..], "missing field `sku`"),
        (b"", "EOF"),
        (br#"{"sku":"a","quantity":1} x"#, "trailing characters"),
    ] {
        assert!(message(body).contains(expected), "{}", message(body));
    }
}

#[test]
fn http_request_has_no_headers_of_connections_and_kafka_clients() {
    let request = Request::post("/orders?x=%20")
        .header("accept", "text/plain")
        .header("cookie", "a=b")
        .header("host", "evil")
        .header("connection", "close")
        .header("content-length", "99")
        .header("kafka_replyTopic", "pong")
        .header("pingpong_deadline", "1@g")
        .header("REPLY_TOPIC", "pong")
        .header("not a name", "x")
        .header("x-bad", "a\nb")
        .body("text");
    let http = request.into_http().unwrap();
    assert_eq!(
        (http.method(), http.uri().to_string()),
        (&Method::POST, "/orders?x=%20".into())
    );
    let names: Vec<_> = http.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["accept", "cookie"]);
    assert_eq!(&http.body()[..], b"text");
}

#[test]
fn invalid_method_or_path_is_a_400() {
    for (method, path) in [
        ("GE T", "/"),
        ("", "/"),
        ("GET", "orders"),
        ("GET", "http://evil/"),
        ("GET", "/a b"),
        ("GET", ""),
    ] {
        let failure = Request::builder(method, path).empty().into_http().unwrap_err();
        assert_eq!(failure.status(), 400, "{method:?} {path:?}");
    }
}

use hyper::Request;

use super::*;
use crate::routes::testing::route;

/// Names and values of the record's headers.
fn record(
    keys: &str,
    request: hyper::http::request::Builder,
    params: &[&str],
) -> Result<Vec<(String, String)>, GatewayError> {
    let head = request.body(()).unwrap().into_parts().0;
    let route = route(keys);
    let read = HttpRequest::from_head(&route, &head.method, params.iter().copied(), &head)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let headers = read.headers.as_headers().iter();
    Ok(headers
        .map(|(name, value)| (text(name), text(value.unwrap())))
        .collect())
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

const PARAMS: &str = "on = 'GET /a/{id}/{*rest}'";

#[test]
fn record_has_method_path_parameters_and_listed_headers() {
    let request = Request::get("http://host/a/b%20c/d/%C3%A4?q=%41")
        .header("Content-Type", "text/plain")
        .header("X-One", "1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-many", "1")
        .header("x-many", "2")
        .header("authorization", "secret")
        .header("x-other", "secret");
    let keys = format!("{PARAMS}\nrequest_headers = ['X-Many', 'x-one', 'cookie', 'x-absent']");
    assert_eq!(
        record(&keys, request, &["b%20c", "d/%C3%A4"]).unwrap(),
        pairs(&[
            (":method", "GET"),
            (":path", "/a/b%20c/d/%C3%A4?q=%41"),
            (":param.id", "b c"),
            (":param.rest", "d/ä"),
            ("content-type", "text/plain"),
            ("x-many", "1, 2"),
            ("x-one", "1"),
            ("cookie", "a=1; b=2"),
        ])
    );
}

#[test]
fn cookies_and_credentials_are_passed_on_only_if_listed() {
    let request = || Request::get("/a").header("cookie", "c").header("authorization", "b");
    assert_eq!(
        record("on = 'GET /a'", request(), &[]).unwrap(),
        pairs(&[(":method", "GET"), (":path", "/a")])
    );
    let listed = record("on = 'GET /a'\nrequest_headers = ['authorization']", request(), &[]).unwrap();
    assert_eq!(listed.last().unwrap().0, "authorization");
}

#[test]
fn malformed_parameter_is_refused() {
    for raw in ["%", "%4", "%zz", "%ff", "%+1"] {
        let refused = record(PARAMS, Request::get("/a/b"), &[raw, "x"]);
        assert_eq!(refused.unwrap_err(), GatewayError::BadPath, "{raw}");
    }
}

#[test]
fn path_and_headers_are_bounded() {
    let get = |path: usize, query: usize| Request::get(format!("/{}?{}", "p".repeat(path - 1), "q".repeat(query)));
    assert!(record("on = 'GET /a'", get(1024, 0), &[]).is_ok());
    assert_eq!(
        record("on = 'GET /a'", get(1025, 0), &[]),
        Err(GatewayError::UriTooLong)
    );
    assert!(record("on = 'GET /a'", get(1000, 7191), &[]).is_ok());
    assert_eq!(
        record("on = 'GET /a'", get(1000, 7192), &[]),
        Err(GatewayError::UriTooLong)
    );
    let keys = "on = 'GET /a'\nrequest_headers = ['x-large']";
    let large = |bytes: usize| Request::get("/a").header("x-large", "v".repeat(bytes));
    assert!(record(keys, large(8185), &[]).is_ok());
    assert_eq!(record(keys, large(8186), &[]), Err(GatewayError::HeadersTooLarge));
    assert!(record("on = 'GET /a'", large(8186), &[]).is_ok(), "it is not passed on");
}

#[test]
fn content_encoding_is_refused_unless_listed() {
    let gzip = || Request::post("/a").header("content-encoding", "gzip");
    assert_eq!(
        record("on = 'POST /a'", gzip(), &[]),
        Err(GatewayError::UnsupportedEncoding)
    );
    let listed = record("on = 'POST /a'\nrequest_headers = ['content-encoding']", gzip(), &[]);
    assert_eq!(
        listed.unwrap().last().unwrap(),
        &pairs(&[("content-encoding", "gzip")])[0]
    );
    let identity = Request::post("/a").header("content-encoding", "identity");
    assert!(record("on = 'POST /a'", identity, &[]).is_ok());
}

#[test]
fn two_content_types_are_refused() {
    let request = Request::post("/a")
        .header("content-type", "a/b")
        .header("content-type", "c/d");
    assert_eq!(
        record("on = 'POST /a'", request, &[]),
        Err(GatewayError::BadContentType)
    );
}

#[test]
fn key_needs_its_header() {
    let keys = "on = 'GET /a'\nkey = 'c-{header:x-customer}'";
    assert_eq!(
        record(keys, Request::get("/a"), &[]),
        Err(GatewayError::MissingHeader(0))
    );
    let head = Request::get("/a")
        .header("x-customer", "7")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let read = HttpRequest::from_head(&route(keys), &head.method, [].into_iter(), &head).unwrap();
    assert_eq!(read.key.unwrap(), b"c-7");
}

#[test]
fn preference_to_wait_is_in_seconds() {
    let wait = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", HeaderValue::from_static(value));
        }
        preferred_wait(&headers).map(|wait| wait.as_secs())
    };
    assert_eq!(wait(&["wait=5"]), Some(5));
    assert_eq!(wait(&["respond-async, Wait = \"10\"; x"]), Some(10));
    assert_eq!(wait(&["respond-async", "wait=2"]), Some(2));
    for ignored in [
        "wait",
        "wait=",
        "wait=0",
        "wait=-1",
        "wait=+1",
        "wait=1.5",
        "wait=99999999999",
        "respond-async",
    ] {
        assert_eq!(wait(&[ignored]), None, "{ignored}");
    }
}

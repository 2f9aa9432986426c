use http_body_util::Full;

use super::*;

const TRACEPARENT_VALUE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn context(lines: &[(&'static str, &str)]) -> RequestContext {
    let mut head = HeaderMap::new();
    for (name, value) in lines {
        head.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    RequestContext::from_headers(&head)
}

fn record_headers(context: &RequestContext) -> Vec<(String, String)> {
    let mut headers = HeaderBuf::new();
    context.add_trace(&mut headers);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let headers = headers.as_headers().iter();
    headers
        .map(|(name, value)| (text(name), text(value.unwrap())))
        .collect()
}

fn response_id(context: RequestContext) -> Option<String> {
    let mut response = Response::new(Full::default());
    context.add_request_id(&mut response);
    let id = response.headers().get("x-request-id")?;
    Some(id.to_str().unwrap().to_owned())
}

#[test]
fn no_headers_no_context() {
    let context = context(&[("accept", "*/*")]);
    assert_eq!(record_headers(&context), []);
    assert_eq!(
        (context.traceparent(), context.tracestate(), context.request_id()),
        (None, None, None)
    );
    assert_eq!(response_id(context), None);
}

#[test]
fn trace_is_copied_unchanged() {
    let state = "rojo=00f067aa0ba902b7, 1-tenant@vendor=a b , ,x=!";
    let context = context(&[("traceparent", TRACEPARENT_VALUE), ("tracestate", state)]);
    assert_eq!(
        (context.traceparent(), context.tracestate()),
        (Some(TRACEPARENT_VALUE), Some(state))
    );
    assert_eq!(
        record_headers(&context),
        [
            ("traceparent".to_owned(), TRACEPARENT_VALUE.to_owned()),
            ("tracestate".to_owned(), state.to_owned())
        ]
    );
}

#[test]
fn malformed_traceparent_is_ignored_with_its_tracestate() {
    let long = format!("01{}-{}", &TRACEPARENT_VALUE[2..], "a".repeat(457));
    for bad in [
        "",
        "00",
        "0-af7651916cd43dd8448eb211c80319c0-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
        "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
        "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-\u{e4}",
        &long,
    ] {
        let context = context(&[("traceparent", bad), ("tracestate", "a=b")]);
        assert_eq!(record_headers(&context), [], "{bad:?}");
    }
}

#[test]
fn later_traceparent_versions_may_be_longer() {
    for good in [
        TRACEPARENT_VALUE,
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what the future will be like",
    ] {
        assert_eq!(context(&[("traceparent", good)]).traceparent(), Some(good));
    }
}

#[test]
fn malformed_tracestate_is_ignored_without_its_traceparent() {
    let members = |count: usize| {
        (0..count)
            .map(|number| format!("k{number}=v"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let long = |bytes: usize| {
        format!(
            "k={},l={},m={}",
            "v".repeat(200),
            "v".repeat(200),
            "v".repeat(bytes - 408)
        )
    };
    let kept = |state: &str| {
        let context = context(&[("traceparent", TRACEPARENT_VALUE), ("tracestate", state)]);
        assert_eq!(context.traceparent(), Some(TRACEPARENT_VALUE));
        context.tracestate() == Some(state)
    };
    for good in [&members(32), &long(511), &long(512)] {
        assert!(kept(good), "{good}");
    }
    for bad in [
        "",
        ",",
        "a",
        "=b",
        "a=",
        "a=b=c",
        "A=b",
        "-a=b",
        "a b=c",
        "a=\u{e4}",
        "a=b,c",
        &members(33),
        &long(513),
    ] {
        assert!(!kept(bad), "{bad}");
    }
}

#[test]
fn only_tracestate_may_span_several_lines() {
    let lines = [
        ("traceparent", TRACEPARENT_VALUE),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
    ];
    assert_eq!(context(&lines).tracestate(), Some("a=1,b=2"));
    let twice = [
        ("traceparent", TRACEPARENT_VALUE),
        ("traceparent", TRACEPARENT_VALUE),
        ("tracestate", "a=1"),
    ];
    assert_eq!(record_headers(&context(&twice)), []);
    assert_eq!(record_headers(&context(&[("tracestate", "a=1")])), []);
}

#[test]
fn valid_request_id_is_returned() {
    let of = |id: &str| response_id(context(&[("x-request-id", id)]));
    let longest = "i".repeat(128);
    for good in ["1", "!~\"{}", &longest] {
        assert_eq!(of(good).as_deref(), Some(good));
    }
    for bad in ["", "a b", "\u{e4}", "a\tb", &format!("{longest}i")] {
        assert_eq!(of(bad), None, "{bad:?}");
    }
    let twice = context(&[("x-request-id", "a"), ("x-request-id", "a")]);
    assert_eq!(response_id(twice), None);
}

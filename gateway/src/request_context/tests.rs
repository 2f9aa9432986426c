use http_body_util::Full;

use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn context(lines: &[(&'static str, &str)]) -> RequestContext {
    let mut head = HeaderMap::new();
    for (name, value) in lines {
        head.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    RequestContext::from_headers(&head)
}

fn handed_on(context: &RequestContext) -> Vec<(String, String)> {
    let mut headers = Headers::new();
    context.add_trace(&mut headers);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    headers.into_iter().map(|(name, bytes)| (name, text(bytes))).collect()
}

fn signature(context: RequestContext) -> Option<String> {
    let mut answer = Response::new(Full::default());
    context.add_request_id(&mut answer);
    let id = answer.headers().get("x-request-id")?;
    Some(id.to_str().unwrap().to_owned())
}

#[test]
fn a_request_without_any_has_none() {
    let context = context(&[("accept", "*/*")]);
    assert_eq!(handed_on(&context), []);
    assert_eq!(
        (context.traceparent(), context.tracestate(), context.request_id()),
        (None, None, None)
    );
    assert_eq!(signature(context), None);
}

#[test]
fn a_trace_is_handed_on_as_it_came() {
    let state = "rojo=00f067aa0ba902b7, 1-tenant@vendor=a b , ,x=!";
    let context = context(&[("traceparent", PARENT), ("tracestate", state)]);
    assert_eq!(
        (context.traceparent(), context.tracestate()),
        (Some(PARENT), Some(state))
    );
    assert_eq!(
        handed_on(&context),
        [
            ("traceparent".to_owned(), PARENT.to_owned()),
            ("tracestate".to_owned(), state.to_owned())
        ]
    );
}

#[test]
fn a_malformed_parent_is_ignored_and_its_state_with_it() {
    let long = format!("01{}-{}", &PARENT[2..], "a".repeat(457));
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
        assert_eq!(handed_on(&context), [], "{bad:?}");
    }
}

#[test]
fn later_versions_may_say_more() {
    for good in [
        PARENT,
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what the future will be like",
    ] {
        assert_eq!(context(&[("traceparent", good)]).traceparent(), Some(good));
    }
}

#[test]
fn a_malformed_state_is_ignored_and_its_parent_is_not() {
    let members = |count: usize| (0..count).map(|it| format!("k{it}=v")).collect::<Vec<_>>().join(",");
    let long = |bytes: usize| {
        format!(
            "k={},l={},m={}",
            "v".repeat(200),
            "v".repeat(200),
            "v".repeat(bytes - 408)
        )
    };
    let kept = |state: &str| {
        let context = context(&[("traceparent", PARENT), ("tracestate", state)]);
        assert_eq!(context.traceparent(), Some(PARENT));
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
fn the_state_may_come_in_several_lines_and_the_parent_may_not() {
    let lines = [("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")];
    assert_eq!(context(&lines).tracestate(), Some("a=1,b=2"));
    let twice = [("traceparent", PARENT), ("traceparent", PARENT), ("tracestate", "a=1")];
    assert_eq!(handed_on(&context(&twice)), []);
    assert_eq!(handed_on(&context(&[("tracestate", "a=1")])), []);
}

#[test]
fn a_request_id_is_given_back_if_it_is_one() {
    let of = |id: &str| signature(context(&[("x-request-id", id)]));
    let longest = "i".repeat(128);
    for good in ["1", "!~\"{}", &longest] {
        assert_eq!(of(good).as_deref(), Some(good));
    }
    for bad in ["", "a b", "\u{e4}", "a\tb", &format!("{longest}i")] {
        assert_eq!(of(bad), None, "{bad:?}");
    }
    let twice = context(&[("x-request-id", "a"), ("x-request-id", "a")]);
    assert_eq!(signature(twice), None);
}

use super::{testing::defaults, *};

fn check(source: &str) -> Result<Routes, String> {
    parse::parse("routes.toml", source, &defaults())
}

/// The problems of a file, without its name.
fn problems(source: &str) -> Vec<String> {
    let text = check(source).unwrap_err();
    text.lines().map(|line| line.replace("routes.toml:", "")).collect()
}

#[test]
fn built_in_route_has_the_settings() {
    let partitions = Partitions::Listed([0, 2].into());
    let routes = Routes::built_in("p", &partitions, &defaults()).unwrap();
    let [route] = routes.list.as_slice() else {
        panic!("{routes:?}");
    };
    assert_eq!(route.on, "GET, POST /ping");
    assert_eq!(
        (route.topic.as_str(), route.reply_topic.as_deref()),
        ("p", Some("pong"))
    );
    assert_eq!((&route.partitions, route.contract), (&partitions, Contract::Ping));
    assert_eq!(route.timeout, Duration::from_secs(10));
}

#[test]
fn every_key_has_its_default_at_the_top_and_in_the_settings() {
    let routes = check(
        r#"
        reply_topic = "replies"
        timeout = "2s"
        request_headers = ["X-Tenant", "content-type", "x-tenant"]
        [[route]]
        on = "GET /a"
        topic = "a"
        [[route]]
        on = "PUT,DELETE  /b/{id}"
        topic = "b"
        reply_topic = "other"
        key = "{id}"
        request_headers = []
        reply_headers = ["location"]
        timeout = "800ms"
        max_in_flight = 7
        max_body = "1KiB"
        dialect = "spring"
        [[route]]
        on = "POST /c"
        topic = "c"
        reply = false
        partitions = "0, 2"
        "#,
    )
    .unwrap();
    let [a, b, c] = routes.list.as_slice() else {
        panic!("{routes:?}");
    };
    assert_eq!(
        (a.reply_topic.as_deref(), a.timeout),
        (Some("replies"), Duration::from_secs(2))
    );
    assert_eq!(a.request_headers, ["x-tenant"]);
    assert_eq!(
        (a.max_in_flight, a.max_body, a.dialect),
        (16_384, 65_536, Dialect::Common)
    );
    assert_eq!(
        (&a.partitions, a.contract, &a.key),
        (&Partitions::All, Contract::Http, &None)
    );
    assert_eq!(b.on, "PUT,DELETE /b/{id}");
    assert_eq!(
        (b.reply_topic.as_deref(), b.timeout),
        (Some("other"), Duration::from_millis(800))
    );
    assert!(b.key.is_some() && b.request_headers.is_empty());
    assert_eq!(b.reply_headers, ["location"]);
    assert_eq!((b.max_in_flight, b.max_body, b.dialect), (7, 1024, Dialect::Spring));
    assert_eq!(
        (&c.reply_topic, &c.partitions),
        (&None, &Partitions::Listed([0, 2].into()))
    );
    assert_eq!(routes.reply_topics(), ["replies", "other"]);
    assert_eq!(routes.topics().len(), 3);
}

#[test]
fn all_problems_are_reported_at_once_by_line() {
    let found = problems(
        r#"tiemout = "1s"
[[route]]
on = "GET /customers/{id}"
topic = "customers"
key = "{ident}"
[[route]]
on = "GET /customers/{name}"
topic = "customers"
time_out = "1s"
reply_headers = [
  "location",
  "connection",
]
[[route]]
on = "POST /none"
topic = "none"
dialect = "none"
key = "{header:x}"
timeout = "5 apples"
"#,
    );
    assert_eq!(
        found,
        [
            r#"1: unknown key "tiemout"; did you mean "timeout"?"#,
            r#"5: key = "{ident}": /customers/{id} has no {ident}; it has {id}"#,
            r#"7: on = "GET /customers/{name}": the same requests as line 3, GET /customers/{id}"#,
            r#"9: unknown key "time_out"; did you mean "timeout"?"#,
            r#"12: reply_headers: "connection" belongs to one connection and cannot be passed on"#,
            r#"18: dialect = "none" needs the correlation id as key: leave out key or choose a dialect"#,
            r#"19: timeout = "5 apples": it must be a duration above zero, 1h at most, such as 500ms, 10s or 2m"#,
        ]
    );
}

/// Each line is a route's own keys, and a part of its one problem.
#[test]
fn each_bad_value_is_refused_with_what_is_allowed() {
    let ok = "on = 'GET /a'\ntopic = 'a'\n";
    for (keys, line, expected) in [
        ("topic = 'a'", 1, "on is missing"),
        ("on = 'GET /a'", 1, "topic is missing"),
        ("on = 'GET /a'\ntopic = 5", 3, "topic = 5: it must be a text"),
        ("on = 'GET /a'\ntopic = 'a b'", 3, "a topic name"),
        ("on = 'GET /a'\ntopic = '__x'", 3, "must not begin with __"),
        ("topic = 'a'\non = '/a'", 3, "methods and a path"),
        ("topic = 'a'\non = 'GET a'", 3, "methods and a path"),
        ("topic = 'a'\non = 'GTE /a'", 3, "did you mean GET?"),
        ("topic = 'a'\non = 'GET, GET /a'", 3, "GET occurs twice"),
        ("topic = 'a'\non = 'GET /a?b'", 3, "without the query"),
        ("topic = 'a'\non = 'GET /ä'", 3, "visible ASCII"),
        ("topic = 'a'\non = 'GET /{a}x'", 3, "a whole segment"),
        ("topic = 'a'\non = 'GET /{a}/{a}'", 3, "{a} occurs twice"),
        ("topic = 'a'\non = 'GET /{*a}/b'", 3, "the end of the path"),
        (&format!("{ok}reply = 'no'"), 4, "true or false"),
        (&format!("{ok}reply = false\nreply_topic = 'b'"), 5, "leave it out"),
        (&format!("{ok}reply_topic = 'a'"), 3, "different topics"),
        (&format!("{ok}timeout = '2h'"), 4, "1h at most"),
        (&format!("{ok}max_in_flight = 0"), 4, "from 1 to 1000000"),
        (&format!("{ok}max_in_flight = '5'"), 4, "a whole number"),
        (&format!("{ok}max_body = '1MiB'"), 4, "512KiB"),
        (&format!("{ok}partitions = 'some'"), 4, "all, or partition numbers"),
        (&format!("{ok}key = 'x'\npartitions = '0'"), 5, "must be \"all\""),
        (
            &format!("{ok}dialect = 'sprnig'"),
            4,
            "common, spring, nest, smallrye, none",
        ),
        (&format!("{ok}contract = 'pong'"), 4, "http, ping"),
        (
            &format!("{ok}contract = 'ping'\nkey = 'x'"),
            1,
            "key: contract = \"ping\" has none",
        ),
        (&format!("{ok}request_headers = 'x'"), 4, "a list"),
        (&format!("{ok}request_headers = ['a b']"), 4, "\"a b\" is not the name"),
        (&format!("{ok}request_headers = [5]"), 4, "a text in quotes"),
        (&format!("{ok}x = [\n"), 4, "not TOML"),
        (&format!("{ok}topic = 'b'"), 4, "not TOML"),
    ] {
        let found = problems(&format!("[[route]]\n{keys}\n"));
        let is_found = |problem: &String| problem.starts_with(&format!("{line}: ")) && problem.contains(expected);
        assert!(found.iter().any(is_found), "{keys}\n{found:?}");
    }
}

#[test]
fn routes_of_a_topic_must_agree() {
    let found = problems(
        "[[route]]\non = 'GET /a'\ntopic = 'a'\n[[route]]\non = 'GET /b'\ntopic = 'a'\npartitions = '0'\n[[route]]\non = 'GET /c'\ntopic = 'pong'\nreply = false\n",
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("7: partitions: line 3 writes to other partitions"),
        "{found:?}"
    );
    assert!(
        found[1].starts_with("10: topic \"pong\" is the reply topic of line 2"),
        "{found:?}"
    );
}

#[test]
fn numbers_of_routes_and_reply_topics_are_bounded() {
    let routes = |count: usize, reply_topics: usize| {
        let route = |index: usize| {
            format!(
                "[[route]]\non = 'GET /{index}'\ntopic = 'a'\nreply_topic = 'r{}'\n",
                index % reply_topics
            )
        };
        (0..count).map(route).collect::<String>()
    };
    assert_eq!(check(&routes(1_000, 16)).unwrap().list.len(), 1_000);
    assert_eq!(problems(&routes(1_001, 1)), ["4001: there are more than 1000 routes"]);
    assert_eq!(problems(&routes(40, 17)), ["66: there are more than 16 reply topics"]);
    assert_eq!(
        problems(""),
        ["1: there is no route: it must have at least one [[route]]"]
    );
}

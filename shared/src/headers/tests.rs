use super::*;

const ID: Uuid = Uuid::from_u128(0x0123_4567_89ab_4cde_8f01_2345_6789_abcd);
const ID_TEXT: &[u8] = b"01234567-89ab-4cde-8f01-23456789abcd";
const ID_BYTES: &[u8] = b"\x01\x23\x45\x67\x89\xab\x4c\xde\x8f\x01\x23\x45\x67\x89\xab\xcd";

type Fields<'a> = &'a [(&'a str, &'a [u8])];

/// The headers in the order of their names.
fn headers(of: Fields<'_>) -> HeaderBuf {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().collect()
}

fn written(template: &Template) -> HeaderBuf {
    let mut headers = HeaderBuf::new();
    template.add_to(&mut headers, ID);
    headers
}

fn malformed(of: Fields<'_>) -> String {
    ReplyTo::from_headers(headers(of).as_headers()).unwrap_err().to_string()
}

#[test]
fn request_headers_have_the_bytes_of_their_dialect() {
    let rows: [(Dialect, i32, Fields<'_>); 10] = [
        (
            Dialect::Common,
            0,
            &[("kafka_correlationId", ID_TEXT), ("kafka_replyTopic", b"pong")],
        ),
        (
            Dialect::Common,
            258,
            &[
                ("kafka_correlationId", ID_TEXT),
                ("kafka_replyTopic", b"pong"),
                ("pingpong_replyPartition", b"258"),
            ],
        ),
        (
            Dialect::Spring,
            0,
            &[
                ("kafka_correlationId", ID_TEXT),
                ("kafka_replyTopic", b"pong"),
                ("kafka_replyPartition", b"\0\0\0\0"),
            ],
        ),
        (
            Dialect::Spring,
            258,
            &[
                ("kafka_correlationId", ID_TEXT),
                ("kafka_replyTopic", b"pong"),
                ("kafka_replyPartition", b"\0\0\x01\x02"),
            ],
        ),
        (
            Dialect::Nest,
            0,
            &[
                ("kafka_correlationId", ID_TEXT),
                ("kafka_replyTopic", b"pong"),
                ("kafka_replyPartition", b"0"),
            ],
        ),
        (
            Dialect::Nest,
            258,
            &[
                ("kafka_correlationId", ID_TEXT),
                ("kafka_replyTopic", b"pong"),
                ("kafka_replyPartition", b"258"),
            ],
        ),
        (
            Dialect::SmallRye,
            0,
            &[
                ("REPLY_CORRELATION_ID", ID_TEXT),
                ("REPLY_TOPIC", b"pong"),
                ("REPLY_PARTITION", b"\0\0\0\0"),
            ],
        ),
        (
            Dialect::SmallRye,
            258,
            &[
                ("REPLY_CORRELATION_ID", ID_TEXT),
                ("REPLY_TOPIC", b"pong"),
                ("REPLY_PARTITION", b"\0\0\x01\x02"),
            ],
        ),
        (Dialect::None, 0, &[]),
        (Dialect::None, 258, &[]),
    ];
    for (dialect, partition, expected) in rows {
        let written = written(&dialect.template("pong", partition));
        assert_eq!(written, headers(expected), "{dialect:?} {partition}");
    }
}

#[test]
fn reply_address_is_parsed_in_every_dialect() {
    let rows: [(Fields<'_>, Option<(&str, i32)>); 17] = [
        (&[], None),
        (&[("kafka_correlationId", ID_TEXT)], None),
        (&[("kafka_replyPartition", b"\0\0\0\x03")], None),
        (&[("kafka_replyTopic", b"a.reply")], Some(("a.reply", 0))),
        (
            &[("kafka_replyTopic", b"a"), ("pingpong_replyPartition", b"12")],
            Some(("a", 12)),
        ),
        // Spring.
        (
            &[("kafka_replyTopic", b"a"), ("kafka_replyPartition", b"\0\0\0\0")],
            Some(("a", 0)),
        ),
        (
            &[("kafka_replyTopic", b"a"), ("kafka_replyPartition", b"\0\0\0\x30")],
            Some(("a", 0x30)),
        ),
        (
            &[
                ("kafka_replyTopic", b"a"),
                ("kafka_replyPartition", b"\x7f\xff\xff\xff"),
            ],
            Some(("a", i32::MAX)),
        ),
        // NestJS. Four digits are decimal text, not big-endian.
        (
            &[("kafka_replyTopic", b"a"), ("kafka_replyPartition", b"0")],
            Some(("a", 0)),
        ),
        (
            &[("kafka_replyTopic", b"a"), ("kafka_replyPartition", b"1024")],
            Some(("a", 1024)),
        ),
        (
            &[("kafka_replyTopic", b"a"), ("kafka_replyPartition", b"12345")],
            Some(("a", 12345)),
        ),
        // SmallRye.
        (&[("REPLY_TOPIC", b"a")], Some(("a", 0))),
        (
            &[("REPLY_TOPIC", b"a"), ("REPLY_PARTITION", b"\0\0\x01\0")],
            Some(("a", 256)),
        ),
        // A partition header counts only with the topic header of its dialect.
        (&[("REPLY_TOPIC", b"a"), ("kafka_replyPartition", b"1")], Some(("a", 0))),
        (
            &[("kafka_replyTopic", b"a"), ("REPLY_PARTITION", b"\0\0\0\x01")],
            Some(("a", 0)),
        ),
        (
            &[
                ("kafka_replyTopic", b"a"),
                ("REPLY_TOPIC", b"b"),
                ("kafka_replyPartition", b"1"),
            ],
            Some(("a", 1)),
        ),
        (
            &[
                ("kafka_replyTopic", b"a"),
                ("kafka_replyPartition", b"1"),
                ("pingpong_replyPartition", b"2"),
            ],
            Some(("a", 1)),
        ),
    ];
    for (request, expected) in rows {
        let request = headers(request);
        assert_eq!(
            ReplyTo::from_headers(request.as_headers()).unwrap().address,
            expected,
            "{request:?}"
        );
    }
}

#[test]
fn reply_echoes_correlation_and_trace_headers() {
    let trace: [(&str, &[u8]); 2] = [
        (
            "traceparent",
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("tracestate", b"vendor=\xff"),
    ];
    let rows: [(Fields<'_>, Fields<'_>); 8] = [
        (&[], &[]),
        (&[("other", b"1")], &[]),
        (&trace, &trace),
        // Spring clients write a binary correlation id, or any other bytes.
        (
            &[("kafka_correlationId", ID_BYTES), ("kafka_replyTopic", b"a")],
            &[("kafka_correlationId", ID_BYTES)],
        ),
        (
            &[
                ("kafka_correlationId", b"\0\xff"),
                ("kafka_replyTopic", b"a"),
                ("kafka_replyPartition", b"\0\0\0\x01"),
            ],
            &[("kafka_correlationId", b"\0\xff")],
        ),
        (
            &[
                ("kafka_correlationId", b"c1t2h3"),
                ("kafka_replyTopic", b"a.reply"),
                ("kafka_replyPartition", b"1"),
            ],
            &[("kafka_correlationId", b"c1t2h3"), ("kafka_nest-is-disposed", b"\0")],
        ),
        (
            &[
                ("REPLY_CORRELATION_ID", ID_TEXT),
                ("REPLY_TOPIC", b"a"),
                ("REPLY_PARTITION", b"\0\0\0\x01"),
            ],
            &[("REPLY_CORRELATION_ID", ID_TEXT)],
        ),
        (
            &[
                ("kafka_correlationId", ID_TEXT),
                ("kafka_replyTopic", b"a"),
                ("pingpong_replyPartition", b"1"),
                ("pingpong_deadline", b"10000@g"),
            ],
            &[("kafka_correlationId", ID_TEXT)],
        ),
    ];
    for (request, expected) in rows {
        let request = headers(request);
        let written = ReplyTo::from_headers(request.as_headers()).unwrap().headers(b"");
        assert_eq!(written, headers(expected), "{request:?}");
    }
}

#[test]
fn correlation_header_is_omitted_when_the_key_matches_it() {
    let request = [
        ("kafka_correlationId", ID_TEXT),
        ("kafka_replyTopic", &b"a"[..]),
        ("pingpong_deadline", b"10000@g"),
        ("traceparent", b"t"),
    ];
    let reply_headers = |request: Fields<'_>, key| {
        let request = headers(request);
        ReplyTo::from_headers(request.as_headers()).unwrap().headers(key)
    };
    let trace = headers(&[("traceparent", b"t")]);
    assert_eq!(reply_headers(&request, ID_TEXT), trace);
    assert_eq!(correlation_id(trace.as_headers(), Some(ID_TEXT)), Some(ID));
    // The key, which is the id of the request value, differs from the correlation id.
    assert_eq!(
        reply_headers(&request, b"another")
            .as_headers()
            .get("kafka_correlationId")
            .unwrap(),
        ID_TEXT
    );
    // An intermediate service has added its own correlation id.
    let forwarded = [&request[..], &[("REPLY_CORRELATION_ID", b"theirs")]].concat();
    assert_eq!(reply_headers(&forwarded, ID_TEXT).as_headers().len(), 3);
    // Other clients may match by the header only.
    assert_eq!(
        reply_headers(&request[..2], ID_TEXT)
            .as_headers()
            .get("kafka_correlationId")
            .unwrap(),
        ID_TEXT
    );
}

#[test]
fn invalid_reply_topic_or_partition_is_malformed() {
    let long = [b'a'; 250];
    for topic in [
        &b""[..],
        b"..",
        b"a b",
        b"a/b",
        b"\xff",
        b"__consumer_offsets",
        b"__",
        &long,
    ] {
        for name in ["kafka_replyTopic", "REPLY_TOPIC"] {
            let error = malformed(&[(name, topic)]);
            assert!(error.contains(name), "{error}");
        }
    }
    for partition in [
        &b""[..],
        b"-1",
        b"+1",
        b"1.0",
        b" 1",
        b"Infinity",
        b"2147483648",
        b"\0",
        b"\0\0\x01",
        b"\0\0\0\0\x01",
        b"\xff\xff\xff\xff",
        b"\x80\0\0\0",
    ] {
        for (topic, name) in [
            ("kafka_replyTopic", "kafka_replyPartition"),
            ("kafka_replyTopic", "pingpong_replyPartition"),
            ("REPLY_TOPIC", "REPLY_PARTITION"),
        ] {
            let error = malformed(&[(topic, b"a"), (name, partition)]);
            assert!(error.contains(name), "{error}");
        }
    }
}

#[test]
fn malformed_header_is_shown_escaped_and_truncated() {
    assert_eq!(
        malformed(&[("kafka_replyTopic", b"\n\"\xff")]),
        r#"the header kafka_replyTopic is "\n\"\xff": it must be the name of a topic, and not one of Kafka's own"#
    );
    let error = malformed(&[("kafka_replyTopic", &[b'!'; 10_000])]);
    assert!(error.len() < 200, "{error}");
}

#[test]
fn correlation_id_is_the_header_or_else_the_key() {
    type Row<'a> = (Fields<'a>, Option<&'a [u8]>, Option<Uuid>);
    let other = Uuid::from_u128(7).to_string();
    let other = other.as_bytes();
    let rows: [Row<'_>; 14] = [
        (&[], Some(ID_TEXT), Some(ID)),
        (&[("traceparent", b"")], Some(ID_TEXT), Some(ID)),
        (&[], None, None),
        (&[], Some(b""), None),
        // A key must be text.
        (&[], Some(ID_BYTES), None),
        (&[], Some(b"0123456789ab4cde8f0123456789abcd"), None),
        (&[("kafka_correlationId", ID_TEXT)], None, Some(ID)),
        (&[("kafka_correlationId", ID_BYTES)], None, Some(ID)),
        (&[("REPLY_CORRELATION_ID", ID_TEXT)], Some(b"k"), Some(ID)),
        (&[("REPLY_CORRELATION_ID", ID_BYTES)], Some(other), Some(ID)),
        (&[("kafka_correlationId", ID_TEXT)], Some(other), Some(ID)),
        // The correlation id of another client: the key does not count.
        (&[("kafka_correlationId", b"c1t2h3")], Some(ID_TEXT), None),
        (&[("kafka_correlationId", b"")], Some(ID_TEXT), None),
        (
            &[("kafka_correlationId", b"0123456789ab4cde8f0123456789abcd")],
            Some(ID_TEXT),
            None,
        ),
    ];
    for (reply, key, expected) in rows {
        assert_eq!(
            correlation_id(headers(reply).as_headers(), key),
            expected,
            "{reply:?} {key:?}"
        );
    }
}

#[test]
fn handler_error_is_the_nest_header() {
    assert_eq!(handler_error(headers(&[]).as_headers()), None);
    assert_eq!(
        handler_error(headers(&[("kafka_nest-is-disposed", b"\0")]).as_headers()),
        None
    );
    let failed = headers(&[("kafka_nest-err", b"Internal server error")]);
    assert_eq!(handler_error(failed.as_headers()), Some(&b"Internal server error"[..]));
}

#[test]
fn reply_matches_its_request_in_every_dialect() {
    for dialect in Dialect::value_variants() {
        for partition in [0, 1, 1_000, 65_536] {
            let request = written(&dialect.template("pong", partition));
            let reply_to = ReplyTo::from_headers(request.as_headers()).unwrap();
            let reply = reply_to.headers(b"");
            let expected = (*dialect != Dialect::None).then_some(("pong", partition));
            assert_eq!(reply_to.address, expected, "{dialect:?}");
            assert_eq!(
                correlation_id(reply.as_headers(), Some(ID_TEXT)),
                Some(ID),
                "{dialect:?}"
            );
            assert_eq!(reply.as_headers().is_empty(), *dialect == Dialect::None, "{dialect:?}");
        }
    }
}

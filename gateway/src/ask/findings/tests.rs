use kafka::Record;
use shared::headers::HeaderBuf;

use super::*;

const ID: Uuid = Uuid::from_u128(0x5954_edd9_58f2_42ac_9640_2976_948f_c47b);
const ID_TEXT: &[u8] = b"5954edd9-58f2-42ac-9640-2976948fc47b";
const AFTER: Duration = Duration::from_millis(3);

fn place(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(&topic.into(), partition)
}

fn findings() -> Findings {
    Findings::new(Expected {
        id: ID,
        request: place("orders", 2),
        reply: place("pong", 1),
        timeout: Duration::from_secs(10),
        correlation_name: Some("kafka_correlationId"),
    })
}

fn record(key: &[u8], headers: &[(&str, &[u8])], value: &[u8]) -> ConsumedRecord {
    let headers: HeaderBuf = headers.iter().copied().collect();
    let record = Record::new(key.to_vec(), value.to_vec());
    Record { headers, ..record }.into()
}

fn heartbeat(value: &str) -> ConsumedRecord {
    record(b"pingpong_worker", &[], value.as_bytes())
}

/// What is said about one record in a place.
fn said(topic: &str, partition: i32, record: &ConsumedRecord) -> (Progress, String) {
    let mut findings = findings();
    let progress = findings.on_record(&place(topic, partition), record, AFTER);
    (progress, findings.lines().join("\n"))
}

#[test]
fn reply_is_taken_by_its_header_or_its_key() {
    for reply in [
        record(b"", &[("kafka_correlationId", ID_TEXT)], b"v"),
        record(b"", &[("REPLY_CORRELATION_ID", ID.as_bytes())], b"v"),
        record(ID_TEXT, &[], b"v"),
    ] {
        let mut findings = findings();
        assert_eq!(findings.on_record(&place("pong", 1), &reply, AFTER), Progress::Reply);
        assert_eq!(findings.reply.unwrap().record, reply);
    }
}

#[test]
fn reply_in_the_wrong_place_is_told() {
    let reply = record(b"", &[("kafka_correlationId", ID_TEXT)], b"v");
    for (topic, partition, came) in [
        ("pong", 0, "came to pong/0 at offset 0"),
        ("orders.reply", 1, "came to orders.reply/1 at offset 0"),
    ] {
        let (progress, said) = said(topic, partition, &reply);
        assert_eq!(progress, Progress::Unusable);
        assert!(said.contains(came) && said.contains("asks for pong/1"), "{said}");
    }
}

#[test]
fn request_itself_is_no_reply() {
    let mut findings = findings();
    let request = record(ID_TEXT, &[("kafka_correlationId", ID_TEXT)], b"{}");
    let orders = place("orders", 2);
    assert_eq!(findings.on_record(&orders, &request, AFTER), Progress::Nothing);
    assert_eq!(findings.request_offset(), Some(0));
    // A second one with its id is a reply that went to the request topic.
    assert_eq!(findings.on_record(&orders, &request, AFTER), Progress::Unusable);
}

#[test]
fn changed_or_missing_correlation_is_told() {
    let quoted = [b"b'", ID_TEXT, b"'"].concat();
    let upper = ID_TEXT.to_ascii_uppercase();
    let simple = ID.simple().to_string();
    let in_value = [b"{\"id\":\"", ID_TEXT, b"\"}"].concat();
    let other = Uuid::from_u128(7).to_string();
    for (reply, expected) in [
        (
            record(b"", &[("kafka_correlationId", &quoted)], b"v"),
            "its kafka_correlationId is \"b\\'5954edd9-58f2-42ac-9640-2976948fc47b\\'\", not the bytes of the id",
        ),
        (
            record(b"", &[("kafka_correlationId", simple.as_bytes())], b"v"),
            "copy the header unchanged",
        ),
        (
            record(b"", &[("kafka_correlationId", b"7"), ("x-id", &upper)], b"v"),
            "its kafka_correlationId was changed to \"7\": the id is only in the header x-id",
        ),
        (
            record(b"", &[("kafka_correlationId", other.as_bytes())], &in_value),
            "the id is only in its value",
        ),
        (
            record(b"", &[("correlationId", ID_TEXT)], b"v"),
            "it has no correlation id: the id is only in the header correlationId; copy the header kafka_correlationId",
        ),
        (record(&in_value, &[], b"v"), "the id is only in its key"),
        (record(b"k", &[], &in_value), "the id is only in its value"),
    ] {
        let (progress, said) = said("pong", 1, &reply);
        assert_eq!(progress, Progress::Unusable, "{reply:?}");
        assert!(
            said.contains("no usable reply came\n") && said.contains(expected),
            "{said}"
        );
    }
}

#[test]
fn record_that_nothing_ties_to_the_request_is_told_as_such() {
    let without_id = record(b"k", &[(":status", b"201"), ("cookie", b"secret")], b"v");
    let (progress, said_of) = said("pong", 1, &without_id);
    assert_eq!(progress, Progress::Nothing);
    let expected = "a record at pong/1 at offset 0 has no correlation id; its headers: :status, cookie";
    assert!(said_of.contains(expected) && !said_of.contains("secret"), "{said_of}");
    assert!(said_of.contains("no reply came to pong/1 within 10s"), "{said_of}");

    let theirs = record(b"", &[("kafka_correlationId", b"7")], b"v");
    let (_, said_of) = said("pong", 1, &theirs);
    assert!(
        said_of.contains("has kafka_correlationId \"7\", which is no id of a gateway"),
        "{said_of}"
    );

    let other = record(b"", &[("kafka_correlationId", Uuid::from_u128(7).as_bytes())], b"v");
    let (progress, said_of) = said("pong", 1, &other);
    assert_eq!(progress, Progress::Nothing);
    assert!(said_of.contains("1 replies with other ids came to pong/1"), "{said_of}");

    // In other places such records are none of this request's business.
    let (_, said_of) = said("pong", 0, &without_id);
    assert!(!said_of.contains("pong/0"), "{said_of}");
}

#[test]
fn late_reply_is_told() {
    let mut findings = findings();
    let reply = record(ID_TEXT, &[], b"v");
    findings.on_record(&place("pong", 1), &reply, Duration::from_millis(12_340));
    let said = findings.lines().join("\n");
    assert!(said.contains("after 12.3s, later than the timeout of 10s"), "{said}");
}

#[test]
fn many_records_are_summed_up() {
    let mut findings = findings();
    for _ in 0..1_000 {
        findings.on_record(&place("pong", 1), &record(b"k", &[], b"v"), AFTER);
    }
    let lines = findings.lines();
    assert_eq!(lines.len(), 1 + MAX_LINES + 1 + 1, "{lines:#?}");
    assert!(lines.contains(&"… and 995 more like these".to_owned()), "{lines:#?}");
}

#[test]
fn workers_that_announce_the_topic_are_told() {
    let said = |heartbeats: &[(&str, &str)]| {
        let mut findings = findings();
        for (topic, value) in heartbeats {
            findings.on_record(&place(topic, 1), &heartbeat(value), AFTER);
        }
        (
            findings.has_no_worker(),
            findings.groups(),
            findings.lines()[1..].join("\n"),
        )
    };
    let (has_none, _, text) = said(&[("pong", r#"{"topics":["customers"],"id":"a"}"#)]);
    assert!(has_none && text.contains("no worker announced topic orders"), "{text}");

    let shop = r#"{"topics":["orders"],"partitions":{"orders":[0,2]},"id":"a","name":"shop","version":"1.4.0","group":"g","handled":8}"#;
    let (has_none, groups, text) = said(&[("pong", shop)]);
    assert!(!has_none);
    assert_eq!(groups, ["g".to_owned()].into());
    assert_eq!(
        text,
        r#"worker "shop" "1.4.0" announced the topic: in flight 0, handled 8, failed 0"#
    );

    let other = shop.replace("[0,2]", "[0,1]");
    let (.., text) = said(&[("pong", &other)]);
    assert!(text.contains("none of them reads orders/2"), "{text}");
    let (.., text) = said(&[("ping.reply", shop)]);
    assert!(text.contains("no heartbeats to pong: its REPLY_TOPICS"), "{text}");
    let (.., text) = said(&[("ping.reply", shop), ("pong", shop)]);
    assert!(!text.contains("REPLY_TOPICS"), "{text}");
}

#[test]
fn lag_says_whether_the_group_is_past_the_request() {
    let said = |committed, offset, end| lag("g", &place("orders", 2), committed, offset, end);
    for (said, expected) in [
        (said(None, Some(17), Some(18)), "has not read this partition"),
        (
            said(Some(4), Some(17), Some(18)),
            "is not past the request at offset 17 (committed offset 4, lag 14)",
        ),
        (
            said(Some(18), Some(17), Some(18)),
            "is past the request (committed offset 18, lag 0)",
        ),
        (said(Some(4), None, None), "has committed offset 4 in orders/2"),
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

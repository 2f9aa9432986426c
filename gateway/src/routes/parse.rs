//! From the tables of the file to routes: every value is checked, and [`conflicts`] between routes are found.

use std::{ops::Range, time::Duration};

use bytesize::ByteSize;
use clap::ValueEnum;
use hyper::{
    Method,
    header::{CONTENT_TYPE, HeaderName},
};
use shared::{
    config::{self, Partitions},
    headers::{Dialect, TRACEPARENT, TRACESTATE, http},
};
use toml::de::DeTable;

use super::{
    Contract, Defaults, KeyTemplate, Route, Routes, conflicts,
    file::{Located, NOT_TOML, Problems, Table},
    on::parse_on,
};
use crate::{
    reply_address::ReplyPartition,
    settings::{MAX_CALLERS, body_size},
};

/// The bound on the routes of a file.
const MAX_ROUTES: usize = 1_000;

/// The keys that may stand at the top as well: defaults of all routes.
const TOP_KEYS: [&str; 7] = [
    "reply_topic",
    "request_headers",
    "reply_headers",
    "timeout",
    "max_in_flight",
    "max_body",
    "dialect",
];

/// The keys of a route.
const ROUTE_KEYS: [&str; 13] = [
    "on",
    "topic",
    "reply",
    "reply_topic",
    "key",
    "request_headers",
    "reply_headers",
    "timeout",
    "max_in_flight",
    "max_body",
    "partitions",
    "dialect",
    "contract",
];

/// Headers that are always passed on, in lists without an effect.
const ALWAYS_PASSED_ON: [&str; 4] = ["content-type", TRACEPARENT, TRACESTATE, http::REQUEST_ID];

/// The values that may stand at the top or in a route.
struct Common {
    reply_topic: Option<String>,
    request_headers: Option<Vec<HeaderName>>,
    reply_headers: Option<Vec<HeaderName>>,
    timeout: Option<Duration>,
    max_in_flight: Option<usize>,
    max_body: Option<usize>,
    dialect: Option<Dialect>,
}

/// A route and the places of what other routes may contradict.
pub(super) struct Parsed {
    pub(super) route: Route,
    pub(super) methods: Vec<Method>,
    pub(super) path: String,
    pub(super) on: Range<usize>,
    pub(super) topic: Range<usize>,
    pub(super) partitions: Range<usize>,
}

/// Reads all routes of a file.
///
/// # Errors
/// Every problem, one a line.
pub(super) fn parse(name: &str, source: &str, defaults: &Defaults) -> Result<Routes, String> {
    let mut problems = Problems::new(source);
    let (document, errors) = DeTable::parse_recoverable(source);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        problems.add(&span, format!("{NOT_TOML}: {}", error.message().replace('\n', " ")));
    }
    let top = Table::new(document.get_ref());
    let known: Vec<_> = TOP_KEYS.into_iter().chain(["route"]).collect();
    top.check_keys(&known, &mut problems);
    let common = common(top, &mut problems);
    let tables = top.tables("route", &mut problems);
    if tables.is_empty() {
        problems.add(&(0..0), "there is no route: it must have at least one [[route]]");
    }
    if let Some(first) = tables.get(MAX_ROUTES) {
        problems.add(&first.span, format!("there are more than {MAX_ROUTES} routes"));
    }
    let parsed = tables.iter().take(MAX_ROUTES);
    let parsed: Vec<_> = parsed
        .filter_map(|table| route(table, &common, defaults, &mut problems))
        .collect();
    conflicts::check_topics(&parsed, &mut problems);
    let router = conflicts::router(&parsed, &mut problems);
    match problems.into_text(name) {
        Some(text) => Err(text),
        None => Ok(Routes {
            list: parsed.into_iter().map(|parsed| parsed.route).collect(),
            router,
        }),
    }
}

/// One route; `None` when it has no usable `on` or `topic`.
fn route(
    located: &Located<Table<'_>>,
    common_values: &Common,
    defaults: &Defaults,
    problems: &mut Problems<'_>,
) -> Option<Parsed> {
    let table = located.value;
    table.check_keys(&ROUTE_KEYS, problems);
    let own = common(table, problems);
    let on = required(located, "on", problems);
    let parsed_on = on.as_ref().and_then(|on| {
        let parsed = parse_on(on.value);
        parsed.map_err(|text| problems.add_value("on", &on.span, &text)).ok()
    });
    let contract = one_of(
        table,
        "contract",
        &[("http", Contract::Http), ("ping", Contract::Ping)],
        problems,
    );
    let contract = contract.unwrap_or(Contract::Http);
    let topic = required(located, "topic", problems);
    let topic = topic.and_then(|topic| {
        let is_internal = topic.value.starts_with("__") && contract == Contract::Http;
        match config::topic(topic.value) {
            Ok(name) if !is_internal => Some((name, topic.span)),
            Ok(_) => {
                problems.add_value(
                    "topic",
                    &topic.span,
                    "it must not begin with __, which is for Kafka's own topics",
                );
                None
            }
            Err(allowed) => {
                problems.add_value("topic", &topic.span, &format!("it must be {allowed}"));
                None
            }
        }
    });
    let reply = table.boolean("reply", problems);
    let has_reply = reply.as_ref().is_none_or(|reply| reply.value);
    let dialect = own.dialect.or(common_values.dialect).unwrap_or(defaults.dialect);
    if let Some(reply_topic) = table.string("reply_topic", problems).filter(|_| !has_reply) {
        problems.add_value("reply_topic", &reply_topic.span, "leave it out: reply = false");
    }
    let reply_topic = has_reply.then(|| {
        let own = own.reply_topic.or_else(|| common_values.reply_topic.clone());
        own.unwrap_or_else(|| defaults.reply_topic.clone())
    });
    if let Some(topic) = reply_topic
        .as_ref()
        .filter(|topic| topic.starts_with("__") && dialect != Dialect::None)
    {
        let text = format!("reply topic {topic:?}: it must not begin with __, which is for Kafka's own topics");
        problems.add(&located.span, text);
    }
    if dialect == Dialect::None && has_reply && defaults.reply_partition != ReplyPartition::Fixed(0) {
        let text = "dialect = \"none\" needs REPLY_PARTITION=0: requests that do not say where their replies go get them there";
        problems.add(&located.span, text);
    }
    let partitions = table.string("partitions", problems);
    let parsed_partitions = partitions.as_ref().and_then(|partitions| {
        let parsed = config::partitions(partitions.value);
        let wrong = |allowed| problems.add_value("partitions", &partitions.span, &format!("it must be {allowed}"));
        parsed.map_err(wrong).ok()
    });
    let key = table.string("key", problems);
    if let Some(key) = &key {
        if dialect == Dialect::None && has_reply {
            let text = "dialect = \"none\" needs the correlation id as key: leave out key or choose a dialect";
            problems.add(&key.span, text);
        }
        if let Some(partitions) = partitions.as_ref().filter(|partitions| partitions.value != "all") {
            problems.add_value("partitions", &partitions.span, "with a key it must be \"all\"");
        }
    }
    if contract == Contract::Ping {
        let only_http = ["key", "reply", "request_headers", "reply_headers"];
        for name in only_http.into_iter().filter(|name| table.has(name)) {
            problems.add(&located.span, format!("{name}: contract = \"ping\" has none"));
        }
    }
    let (on, (methods, path, params)) = (on?, parsed_on?);
    if contract == Contract::Ping
        && methods
            .iter()
            .any(|method| !matches!(*method, Method::GET | Method::POST))
    {
        problems.add_value("on", &on.span, "contract = \"ping\" has GET and POST only");
    }
    let key = key.and_then(|key| {
        let parsed = KeyTemplate::parse(key.value, &path, &params);
        parsed.map_err(|text| problems.add_value("key", &key.span, &text)).ok()
    });
    let (topic, topic_span) = topic?;
    if reply_topic.as_ref() == Some(&topic) {
        problems.add(
            &topic_span,
            format!("topic {topic:?} is the reply topic as well: they must be different topics"),
        );
    }
    Some(Parsed {
        route: Route {
            on: on.value.split_whitespace().collect::<Vec<_>>().join(" "),
            params,
            topic,
            reply_topic,
            key,
            request_headers: own
                .request_headers
                .or_else(|| common_values.request_headers.clone())
                .unwrap_or_default(),
            reply_headers: own
                .reply_headers
                .or_else(|| common_values.reply_headers.clone())
                .unwrap_or_default(),
            timeout: own.timeout.or(common_values.timeout).unwrap_or(defaults.timeout),
            max_in_flight: own
                .max_in_flight
                .or(common_values.max_in_flight)
                .unwrap_or(defaults.max_in_flight),
            max_body: own.max_body.or(common_values.max_body).unwrap_or(defaults.max_body),
            partitions: parsed_partitions.unwrap_or(Partitions::All),
            dialect,
            contract,
        },
        methods,
        path,
        partitions: partitions.map_or_else(|| located.span.clone(), |partitions| partitions.span),
        on: on.span,
        topic: topic_span,
    })
}

fn required<'a>(table: &Located<Table<'a>>, key: &str, problems: &mut Problems<'_>) -> Option<Located<&'a str>> {
    if !table.value.has(key) {
        problems.add(&table.span, format!("{key} is missing"));
    }
    table.value.string(key, problems)
}

fn common(table: Table<'_>, problems: &mut Problems<'_>) -> Common {
    let mut parsed = |key: &str, parse: &dyn Fn(&str) -> Result<(), String>| {
        let text = table.string(key, problems)?;
        let result = parse(text.value);
        let wrong = |allowed: String| problems.add_value(key, &text.span, &format!("it must be {allowed}"));
        result.map_err(wrong).ok()?;
        Some(text.value.to_owned())
    };
    let reply_topic = parsed("reply_topic", &|text| config::topic(text).map(drop));
    let timeout = parsed("timeout", &|text| config::positive_duration(text).map(drop));
    let max_body = parsed("max_body", &|text| body_size(text).map(drop));
    let dialects = Dialect::value_variants().iter().filter_map(|dialect| {
        let value = dialect.to_possible_value()?;
        Some((value.get_name().to_owned(), *dialect))
    });
    let dialects: Vec<_> = dialects.collect();
    let dialects: Vec<_> = dialects
        .iter()
        .map(|(name, dialect)| (name.as_str(), *dialect))
        .collect();
    Common {
        reply_topic,
        timeout: timeout.and_then(|text| config::positive_duration(&text).ok()),
        max_body: max_body
            .and_then(|text| body_size(&text).ok())
            .map(|size: ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX)),
        request_headers: header_names(table, "request_headers", problems),
        reply_headers: header_names(table, "reply_headers", problems),
        max_in_flight: table.number("max_in_flight", MAX_CALLERS, problems),
        dialect: one_of(table, "dialect", &dialects, problems),
    }
}

fn one_of<T: Copy>(table: Table<'_>, key: &str, values: &[(&str, T)], problems: &mut Problems<'_>) -> Option<T> {
    let text = table.string(key, problems)?;
    let found = values.iter().find(|(name, _)| *name == text.value);
    if found.is_none() {
        let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
        problems.add_value(key, &text.span, &format!("it must be one of {}", names.join(", ")));
    }
    found.map(|(_, value)| *value)
}

/// A list of headers, in lower case, without those that are passed on anyway.
fn header_names(table: Table<'_>, key: &str, problems: &mut Problems<'_>) -> Option<Vec<HeaderName>> {
    let mut names: Vec<HeaderName> = Vec::new();
    for text in table.strings(key, problems)? {
        let lower = text.value.to_ascii_lowercase();
        if http::is_hop_by_hop(&lower) {
            let text_of = format!("{key}: {lower:?} belongs to one connection and cannot be passed on");
            problems.add(&text.span, text_of);
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(lower.as_bytes()) else {
            problems.add(
                &text.span,
                format!("{key}: {:?} is not the name of a header", text.value),
            );
            continue;
        };
        if !ALWAYS_PASSED_ON.contains(&name.as_str()) && name != CONTENT_TYPE && !names.contains(&name) {
            names.push(name);
        }
    }
    Some(names)
}

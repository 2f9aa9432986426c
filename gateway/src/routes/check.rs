//! From the tables of the file to routes: every value is checked, and so are the routes against each other.

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
    Contract, Defaults, KeyTemplate, Route, Router, Routes,
    file::{Located, NOT_TOML, Problems, Table, similar},
};
use crate::{
    reply_address::ReplyPartition,
    settings::{MAX_CALLERS, body_size},
};

/// Bounds of a file. Each reply topic costs a connection and a consumer.
const MAX_ROUTES: usize = 1_000;
const MAX_REPLY_TOPICS: usize = 16;

/// The longest path.
pub(crate) const MAX_PATH_BYTES: usize = 1024;

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

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];

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
struct Checked {
    route: Route,
    methods: Vec<Method>,
    path: String,
    on: Range<usize>,
    topic: Range<usize>,
    partitions: Range<usize>,
}

/// Reads all routes of a file.
///
/// # Errors
/// Every problem, one a line.
pub(super) fn check(name: &str, source: &str, defaults: &Defaults) -> Result<Routes, String> {
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
    let checked = tables.iter().take(MAX_ROUTES);
    let checked: Vec<_> = checked
        .filter_map(|table| route(table, &common, defaults, &mut problems))
        .collect();
    check_topics(&checked, &mut problems);
    let router = router(&checked, &mut problems);
    match problems.into_text(name) {
        Some(text) => Err(text),
        None => Ok(Routes {
            list: checked.into_iter().map(|checked| checked.route).collect(),
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
) -> Option<Checked> {
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
    Some(Checked {
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
        let checked = parse(text.value);
        let wrong = |allowed: String| problems.add_value(key, &text.span, &format!("it must be {allowed}"));
        checked.map_err(wrong).ok()?;
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

/// Methods, path, and the names of its parameters.
fn parse_on(text: &str) -> Result<(Vec<Method>, String, Vec<String>), String> {
    const ALLOWED: &str = "it must be methods and a path, such as GET, POST /orders/{id}";
    let slash = text.find('/').ok_or(ALLOWED)?;
    let (names, path) = text.split_at(slash);
    let path = path.trim_end();
    let mut methods = Vec::new();
    for name in names.split(',').map(str::trim) {
        if name.is_empty() {
            return Err(ALLOWED.to_owned());
        }
        if !METHODS.contains(&name) {
            let hint = similar(name, &METHODS).map_or_else(
                || format!("the methods are {}", METHODS.join(", ")),
                |similar| format!("did you mean {similar}?"),
            );
            return Err(format!("unknown method {name:?}; {hint}"));
        }
        let method: Method = name.parse().map_err(|_| ALLOWED)?;
        if methods.contains(&method) {
            return Err(format!("{name} occurs twice"));
        }
        methods.push(method);
    }
    let params = parse_path(path)?;
    Ok((methods, path.to_owned(), params))
}

fn parse_path(path: &str) -> Result<Vec<String>, String> {
    if path.len() > MAX_PATH_BYTES {
        return Err(format!("the path must not be longer than {MAX_PATH_BYTES} bytes"));
    }
    if path.contains(['?', '#']) {
        return Err("the path is matched without the query: it must not have ? or #".to_owned());
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the path must be visible ASCII: percent-encode anything else".to_owned());
    }
    let mut params: Vec<String> = Vec::new();
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        if !segment.contains(['{', '}']) {
            continue;
        }
        let inner = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}'));
        let name = inner.map(|inner| inner.strip_prefix('*').unwrap_or(inner));
        let is_name = |name: &str| {
            let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            !name.is_empty() && name.bytes().all(is_legal)
        };
        let Some(name) = name.filter(|name| is_name(name)) else {
            return Err(format!(
                "{segment:?}: a parameter is a whole segment, {{name}} of a-z A-Z 0-9 _ -"
            ));
        };
        if inner.is_some_and(|inner| inner.starts_with('*')) && segments.peek().is_some() {
            return Err(format!("{segment} must be the end of the path"));
        }
        if params.iter().any(|param| param == name) {
            return Err(format!("{{{name}}} occurs twice"));
        }
        params.push(name.to_owned());
    }
    Ok(params)
}

/// Topics that routes share.
fn check_topics(checked: &[Checked], problems: &mut Problems<'_>) {
    let mut reply_topics: Vec<&str> = Vec::new();
    for (index, this) in checked.iter().enumerate() {
        let before = checked.get(..index).unwrap_or_default();
        if let Some(other) = before.iter().find(|other| other.route.topic == this.route.topic)
            && other.route.partitions != this.route.partitions
        {
            let text = format!(
                "partitions: line {} writes to other partitions of topic {:?}: the routes of a topic must agree",
                problems.line(&other.topic),
                this.route.topic
            );
            problems.add(&this.partitions, text);
        }
        let as_reply_topic = |other: &&Checked| other.route.reply_topic.as_ref() == Some(&this.route.topic);
        let is_own = this.route.reply_topic.as_ref() == Some(&this.route.topic);
        if let Some(other) = checked.iter().find(as_reply_topic).filter(|_| !is_own) {
            let text = format!(
                "topic {:?} is the reply topic of line {}: they must be different topics",
                this.route.topic,
                problems.line(&other.on)
            );
            problems.add(&this.topic, text);
        }
        let Some(reply_topic) = this.route.reply_topic.as_deref() else {
            continue;
        };
        if !reply_topics.contains(&reply_topic) {
            reply_topics.push(reply_topic);
            if reply_topics.len() == MAX_REPLY_TOPICS + 1 {
                problems.add(&this.on, format!("there are more than {MAX_REPLY_TOPICS} reply topics"));
            }
        }
    }
}

fn router(checked: &[Checked], problems: &mut Problems<'_>) -> Router {
    let mut router = Router::default();
    for (index, this) in checked.iter().enumerate() {
        let inserted = router.insert(&this.path, &this.methods, this.route.contract, index);
        if let Err(conflict) = inserted
            && let Some(other) = checked.get(conflict.with)
        {
            let text = format!(
                "the same requests as line {}, {}",
                problems.line(&other.on),
                other.route.on
            );
            problems.add_value("on", &this.on, &text);
        }
    }
    router
}

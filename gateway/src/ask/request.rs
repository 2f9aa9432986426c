//! From the command line to the request: its route, and the record that the gateway would write for it.

use std::time::Duration;

use hyper::{
    HeaderMap, Method,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
    http::request::Parts,
};
use kafka::{Record, TopicPartition};
use shared::{
    config::Partitions,
    headers::{Deadline, Dialect, HeaderBuf, http},
};
use uuid::Uuid;

use super::Ask;
use crate::{
    Example, Settings,
    http_request::HttpRequest,
    ping_body::{PingBody, PingRequest},
    reply_address::new_gateway_id,
    request_context::RequestContext,
    response::GatewayError,
    routes::{Contract, Match, Route, Routes},
    service,
};

/// A request to send.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) route: Route,
    /// Whether the route comes from the routes, or was made for the topic.
    pub(super) has_route: bool,
    /// Method and path.
    pub(super) line: String,
    /// Of the record; `None` for the correlation id.
    pub(super) key: Option<Vec<u8>>,
    pub(super) timeout: Duration,
    content: Content,
    context: RequestContext,
}

/// What the record has, by the contract of the route.
#[derive(Debug)]
enum Content {
    Ping(PingBody),
    Http { head: Box<HttpRequest>, body: Vec<u8> },
}

/// A route, and what the router found.
struct Found {
    route: Route,
    /// The method that the record has.
    method: Method,
    path: String,
    /// The raw values of the path parameters.
    params: Vec<String>,
}

// === impl Request ===

impl Request {
    /// Finds the route of what is asked, and reads the request as the gateway would.
    ///
    /// # Errors
    /// What is wrong with the command line, or why the gateway would refuse the request.
    pub(super) fn new(ask: &Ask, routes: &Routes, settings: &Settings) -> Result<Self, String> {
        let headers = headers(&ask.headers)?;
        ask.method.as_deref().map(method).transpose()?;
        let has_route = routes.list.iter().any(|route| route.topic == ask.topic);
        let found = if has_route {
            find(ask, routes)?
        } else if settings.routes.is_some() {
            let topics: Vec<_> = routes.topics().iter().map(|route| route.topic.as_str()).collect();
            return Err(format!(
                "{:?}: no route of ROUTES writes to this topic; they write to {}",
                ask.topic,
                topics.join(", ")
            ));
        } else {
            without_route(ask, settings, &headers)?
        };
        let Found {
            route,
            method,
            path,
            params,
        } = found;
        if ask.key.is_some() && route.dialect == Dialect::None && route.reply_topic.is_some() {
            return Err("--key: WIRE_HEADERS=none needs the correlation id as key".to_owned());
        }
        let refused = |error: GatewayError| {
            let (status, text) = error.describe(Some(&route));
            format!("the gateway refuses this request: {} {text}", status.as_u16())
        };
        let head = head(&method, &path, headers)?;
        let context = RequestContext::from_headers(&head.headers);
        let body = ask.data.clone().unwrap_or_default().into_bytes();
        if body.len() > route.max_body {
            return Err(refused(GatewayError::BodyTooLarge));
        }
        let content = match route.contract {
            Contract::Ping => Content::Ping(match PingRequest::from_head(&head).map_err(refused)? {
                PingRequest::Get => PingBody::default(),
                PingRequest::Post => PingBody::from_json(&body).map_err(refused)?,
            }),
            Contract::Http => {
                let head = HttpRequest::from_head(&route, &method, params.iter().map(String::as_str), &head);
                let head = Box::new(head.map_err(refused)?);
                Content::Http { head, body }
            }
        };
        let own_key = match &content {
            Content::Ping(_) => None,
            Content::Http { head, .. } => head.key.clone(),
        };
        Ok(Self {
            has_route,
            line: format!("{method} {path}"),
            key: ask.key.clone().map(String::into_bytes).or(own_key),
            timeout: ask.timeout.unwrap_or(route.timeout),
            content,
            context,
            route,
        })
    }

    /// The record, whose reply is to come to this place.
    pub(super) fn record(&self, id: Uuid, reply: Option<&TopicPartition>) -> Record {
        let dialect = self.route.dialect;
        let template = match reply {
            None => dialect.template_without_reply(),
            Some(place) => dialect.template(&place.topic, place.partition).with_deadline(Deadline {
                gateway: new_gateway_id().as_bytes(),
                left: self.timeout,
            }),
        };
        let (mut headers, content) = match &self.content {
            Content::Ping(body) => (HeaderBuf::new(), service::Content::Ping(body.clone())),
            Content::Http { head, body } => (head.headers.clone(), service::Content::Http(body.clone())),
        };
        template.add_to(&mut headers, id);
        let mut record = service::make_record(id, headers, None, content, &self.context);
        if let Some(key) = &self.key {
            record.key = Some(key.clone());
        }
        record
    }
}

/// The route to the topic that has the method and the path.
fn find(ask: &Ask, routes: &Routes) -> Result<Found, String> {
    let to_topic = || routes.list.iter().filter(|route| route.topic == ask.topic);
    for (method, path) in candidates(ask, to_topic()) {
        let method = self::method(&method)?;
        let (to_match, _) = path.split_once('?').unwrap_or((&path, ""));
        if let Match::Route { index, method, params } = routes.router.find(&method, to_match)
            && let Some(route) = routes.list.get(index).filter(|route| route.topic == ask.topic)
        {
            return Ok(Found {
                route: route.clone(),
                method: method.clone(),
                params: params.iter().map(|(_, value)| value.to_owned()).collect(),
                path,
            });
        }
    }
    let known: Vec<_> = to_topic().map(|route| route.on.as_str()).collect();
    let wanted = [ask.method.as_deref(), ask.path.as_deref()];
    let wanted: Vec<_> = wanted.into_iter().flatten().collect();
    Err(format!(
        "no route to topic {:?} is {}; its routes are {}",
        ask.topic,
        wanted.join(" "),
        known.join("; ")
    ))
}

/// Methods with paths, the best first: the path that was asked for, or an example of the first route that has the method.
fn candidates<'a>(ask: &Ask, routes: impl Iterator<Item = &'a Route>) -> Vec<(String, String)> {
    let preferred = if ask.data.is_some() { "POST" } else { "GET" };
    let is_asked = |example: &Example| ask.method.as_ref().is_none_or(|method| *method == example.method);
    let mut examples = routes.map(|route| {
        Example::of_route(route)
            .into_iter()
            .filter(is_asked)
            .collect::<Vec<_>>()
    });
    let Some(path) = &ask.path else {
        let mut first = examples.find(|examples| !examples.is_empty()).unwrap_or_default();
        first.sort_by_key(|example| example.method != preferred);
        return first
            .into_iter()
            .map(|example| (example.method, example.path))
            .collect();
    };
    let methods = examples.flatten().map(|example| example.method);
    let methods = match &ask.method {
        Some(method) => vec![method.clone()],
        None => std::iter::once(preferred.to_owned()).chain(methods).collect(),
    };
    methods.into_iter().map(|method| (method, path.clone())).collect()
}

/// A request to a topic that no route writes to. All headers are passed on.
fn without_route(ask: &Ask, settings: &Settings, headers: &HeaderMap) -> Result<Found, String> {
    let defaults = settings.defaults();
    if defaults.reply_topic == ask.topic {
        return Err(format!(
            "{:?}: this is the reply topic (PONG_TOPIC): it must be a topic that a service reads",
            ask.topic
        ));
    }
    let preferred = if ask.data.is_some() { "POST" } else { "GET" };
    let method = method(ask.method.as_deref().unwrap_or(preferred))?;
    let path = ask.path.clone().unwrap_or_else(|| format!("/{}", ask.topic));
    let always = [CONTENT_TYPE.as_str(), "traceparent", "tracestate", http::REQUEST_ID];
    let listed = headers.keys().filter(|name| !always.contains(&name.as_str()));
    let route = Route {
        on: format!("{method} {path}"),
        params: Vec::new(),
        topic: ask.topic.clone(),
        reply_topic: Some(defaults.reply_topic),
        key: None,
        request_headers: listed.cloned().collect(),
        reply_headers: Vec::new(),
        timeout: defaults.timeout,
        max_in_flight: defaults.max_in_flight,
        max_body: defaults.max_body,
        partitions: Partitions::All,
        dialect: defaults.dialect,
        contract: Contract::Http,
    };
    Ok(Found {
        route,
        method,
        path,
        params: Vec::new(),
    })
}

fn method(name: &str) -> Result<Method, String> {
    name.parse()
        .map_err(|_| format!("--method: {name:?} is not allowed: it must be a method such as POST"))
}

fn headers(lines: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        match parsed {
            Some((name, _)) if http::is_hop_by_hop(name.as_str()) => {
                return Err(format!(
                    "--header: {:?} belongs to one connection and cannot be passed on",
                    name.as_str()
                ));
            }
            Some((name, value)) => {
                headers.append(name, value);
            }
            // Its value may be a password.
            None => {
                let name = line.split(':').next().unwrap_or_default();
                return Err(format!(
                    "--header: {name:?} is not allowed: it must be a name and a value, such as 'x-user: ann'"
                ));
            }
        }
    }
    Ok(headers)
}

/// The head of an HTTP request.
fn head(method: &Method, path: &str, headers: HeaderMap) -> Result<Parts, String> {
    let request = hyper::Request::builder().method(method).uri(path).body(());
    let request = request.ok().filter(|_| path.starts_with('/'));
    let Some(request) = request else {
        return Err(format!(
            "--path: {path:?} is not allowed: it must be such as /orders?dry=1"
        ));
    };
    let (mut head, ()) = request.into_parts();
    head.headers = headers;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Command, routes::testing};

    const ROUTES: &str = "
[[route]]
on = 'POST /orders'
topic = 'orders'
reply_topic = 'replies'
request_headers = ['x-user']
timeout = '5s'
max_body = '8B'

[[route]]
on = 'GET, DELETE /orders/{id}'
topic = 'orders'
key = '{header:x-customer}'

[[route]]
on = 'POST /events'
topic = 'events'
reply = false
";

    fn request(routes: Option<&str>, args: &[&str]) -> Result<Request, String> {
        let args = [&["gateway", "ask"], args].concat();
        let mut settings = Settings::try_parse_from(args).map_err(|error| error.to_string())?;
        let Some(Command::Ask(ask)) = settings.command.take() else {
            unreachable!("it is what was parsed");
        };
        let routes = match routes {
            None => settings.read_routes().unwrap(),
            Some(text) => {
                settings.routes = Some("routes.toml".into());
                testing::routes(text)
            }
        };
        Request::new(&ask, &routes, &settings)
    }

    fn record(request: &Request) -> (Vec<u8>, Vec<(String, String)>, Vec<u8>) {
        let place = TopicPartition::new(&"replies".into(), 1);
        let reply = request.route.reply_topic.is_some().then_some(&place);
        let record = request.record(Uuid::nil(), reply);
        let headers = record.headers.as_headers().iter().map(|(name, value)| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (text(name), text(value.unwrap_or_default()))
        });
        (record.key.unwrap(), headers.collect(), record.value.unwrap())
    }

    fn names(headers: &[(String, String)]) -> Vec<&str> {
        headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn topic_without_a_route_gets_what_is_asked() {
        let asked = request(
            None,
            &[
                "orders",
                "--path",
                "/orders?dry=1",
                "-H",
                "X-User: ann",
                "--data",
                "{}",
                "--timeout",
                "2s",
            ],
        );
        let asked = asked.unwrap();
        assert!(!asked.has_route);
        assert_eq!(
            (asked.line.as_str(), asked.timeout),
            ("POST /orders?dry=1", Duration::from_secs(2))
        );
        let (key, headers, value) = record(&asked);
        assert_eq!((key, value), (Uuid::nil().to_string().into_bytes(), b"{}".to_vec()));
        assert_eq!(
            names(&headers),
            [
                ":method",
                ":path",
                "x-user",
                "kafka_correlationId",
                "kafka_replyTopic",
                "pingpong_deadline",
                "pingpong_replyPartition"
            ]
        );
        assert!(headers[5].1.starts_with("2000@"), "{headers:?}");
        assert_eq!(request(None, &["orders"]).unwrap().line, "GET /orders");
        let (key, ..) = record(&request(None, &["orders", "--key", "k"]).unwrap());
        assert_eq!(key, b"k");
    }

    #[test]
    fn ping_is_asked_by_its_contract() {
        let asked = request(None, &["ping"]).unwrap();
        assert_eq!((asked.line.as_str(), asked.has_route), ("GET /ping", true));
        let (_, headers, value) = record(&asked);
        assert!(
            String::from_utf8(value)
                .unwrap()
                .ends_with(r#""name":"Ping","value":"Pong"}"#)
        );
        assert!(!names(&headers).contains(&":path"), "{headers:?}");
        let refused = request(None, &["ping", "--data", "[]"]).unwrap_err();
        assert!(refused.contains("400 body must be a JSON object"), "{refused}");
    }

    #[test]
    fn route_of_the_topic_decides() {
        let asked = request(Some(ROUTES), &["orders", "-H", "x-user: ann", "-H", "x-other: 1"]).unwrap();
        assert_eq!(
            (asked.line.as_str(), asked.timeout),
            ("POST /orders", Duration::from_secs(5))
        );
        assert_eq!(asked.route.reply_topic.as_deref(), Some("replies"));
        let (_, headers, _) = record(&asked);
        assert_eq!(
            names(&headers)[..3],
            [":method", ":path", "x-user"],
            "x-other is not listed"
        );

        let args = ["orders", "--path", "/orders/7?a=b", "-H", "x-customer: c"];
        let (key, headers, _) = record(&request(Some(ROUTES), &args).unwrap());
        assert_eq!(key, b"c");
        assert!(
            headers.contains(&(":param.id".to_owned(), "7".to_owned())),
            "{headers:?}"
        );
        let args = ["orders", "-X", "DELETE", "-H", "x-customer: c"];
        assert_eq!(request(Some(ROUTES), &args).unwrap().line, "DELETE /orders/1");

        let (_, headers, _) = record(&request(Some(ROUTES), &["events"]).unwrap());
        assert_eq!(names(&headers), [":method", ":path", "kafka_correlationId"]);
    }

    #[test]
    fn bad_command_line_says_what_is_allowed() {
        for (args, expected) in [
            (&["others"][..], "they write to orders, events"),
            (
                &["orders", "--path", "/order"],
                "its routes are POST /orders; GET, DELETE /orders/{id}",
            ),
            (&["orders", "-X", "PUT"], "no route to topic \"orders\" is PUT"),
            (&["orders", "-X", "a b"], "--method"),
            (&["orders", "--path", "/orders/7"], "400 header x-customer is missing"),
            (&["orders", "--data", "more than 8"], "413 body too large"),
            (&["orders", "-H", "no value"], "--header: \"no value\""),
            (
                &["orders", "-H", "Connection: close"],
                "\"connection\" belongs to one connection",
            ),
            (&["a b"], "a topic name"),
        ] {
            let problem = request(Some(ROUTES), args).unwrap_err();
            assert!(problem.contains(expected), "{args:?}: {problem}");
        }
        let problem = request(None, &["pong"]).unwrap_err();
        assert!(problem.contains("PONG_TOPIC"), "{problem}");
        let problem = request(None, &["orders", "--path", "orders"]).unwrap_err();
        assert!(problem.contains("--path"), "{problem}");
        let problem = request(None, &["orders", "--wire-headers", "none", "--key", "k"]).unwrap_err();
        assert!(problem.contains("--key"), "{problem}");
        let problem = request(None, &["orders", "-H", "authorization: secret\u{1}"]).unwrap_err();
        assert!(!problem.contains("secret"), "{problem}");
    }
}

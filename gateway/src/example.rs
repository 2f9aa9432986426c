//! Requests to try, one for each method of each route. They fit the path and the key of the route; a service may want
//! another body.

use crate::routes::{Contract, Route};

/// A request to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The method.
    pub method: String,
    /// The path, with values for its parameters.
    pub path: String,
    /// The names of the headers that the key needs.
    pub headers: Vec<String>,
    /// The body; `None` for a method without one.
    pub json: Option<&'static str>,
    /// Whether it has the contract of `/ping`, which the worker of this project answers.
    pub is_ping: bool,
    /// The topic of its record.
    pub topic: String,
    /// The topic of its reply; `None` if it gets none.
    pub reply_topic: Option<String>,
}

impl Example {
    /// The examples of a route.
    pub(crate) fn of_route(route: &Route) -> Vec<Self> {
        let (methods, path) = route.on.rsplit_once(' ').unwrap_or_default();
        let mut path = path.to_owned();
        for name in &route.params {
            for pattern in [format!("{{{name}}}"), format!("{{*{name}}}")] {
                path = path.replace(&pattern, "1");
            }
        }
        let is_ping = route.contract == Contract::Ping;
        let key = route.key.as_ref();
        let examples = methods.split(',').map(str::trim).map(|method| Self {
            method: method.to_owned(),
            path: path.clone(),
            headers: (0..).map_while(|index| Some(key?.header(index)?.to_owned())).collect(),
            json: match method {
                "POST" if is_ping => Some(r#"{"name":"Hello","value":"World"}"#),
                "POST" | "PUT" | "PATCH" => Some("{}"),
                _ => None,
            },
            is_ping,
            topic: route.topic.clone(),
            reply_topic: route.reply_topic.clone(),
        });
        examples.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::testing::route;

    #[test]
    fn example_has_the_path_and_the_key_of_its_route() {
        let route = route("on = 'PUT, GET /a/{id}/{*rest}'\nkey = '{id}-{header:x-b}'");
        let examples = Example::of_route(&route);
        let put = Example {
            method: "PUT".to_owned(),
            path: "/a/1/1".to_owned(),
            headers: vec!["x-b".to_owned()],
            json: Some("{}"),
            is_ping: false,
            topic: "a".to_owned(),
            reply_topic: Some("pong".to_owned()),
        };
        let get = Example {
            method: "GET".to_owned(),
            json: None,
            ..put.clone()
        };
        assert_eq!(examples, [put, get]);
    }

    #[test]
    fn example_of_the_ping_contract_has_its_body() {
        let examples = Example::of_route(&route("on = 'GET, POST /ping'\ncontract = 'ping'"));
        let bodies: Vec<_> = examples.iter().map(|example| (example.is_ping, example.json)).collect();
        assert_eq!(
            bodies,
            [(true, None), (true, Some(r#"{"name":"Hello","value":"World"}"#))]
        );
    }
}

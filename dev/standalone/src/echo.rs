//! A service for every route that has none: its replies echo the requests, and requests without a reply are logged.

use std::{borrow::Cow, collections::BTreeMap};

use gateway::Example;
use serde::Serialize;
use serde_json::Value;
use tracing::info;
use worker::{Failure, Reply, Request, Worker, binary};

/// The body of a reply.
#[derive(Debug, Serialize)]
struct Echo<'a> {
    method: &'a str,
    /// With the query.
    path: Cow<'a, str>,
    params: BTreeMap<&'a str, &'a str>,
    /// The body if it is JSON, else its text.
    body: Value,
}

/// Adds a handler for each topic of these routes: `/ping` has its own, the others echo if `has_echo`.
pub fn add_handlers(worker: Worker, routes: &[Example], has_echo: bool) -> Worker {
    let mut topics: BTreeMap<&str, bool> = BTreeMap::new();
    for route in routes {
        *topics.entry(&route.topic).or_default() |= route.is_ping;
    }
    topics
        .into_iter()
        .fold(worker, |worker, (topic, is_ping)| match is_ping {
            true => binary::answer_pings(worker, topic),
            false if has_echo => worker.topic(topic, echo),
            false => worker,
        })
}

async fn echo(request: Request) -> Result<Reply, Failure> {
    let path = request.path();
    let echo = Echo {
        method: request.method(),
        path: match request.query() {
            Some(query) => format!("{path}?{query}").into(),
            None => path.into(),
        },
        params: request.params().collect(),
        body: serde_json::from_slice(request.body()).unwrap_or_else(|_| String::from_utf8_lossy(request.body()).into()),
    };
    let reply = Reply::json(&echo)?;
    if !request.wants_reply() {
        let echo = String::from_utf8_lossy(reply.body());
        info!(topic = request.topic(), request = %echo, "stored");
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reply_echoes_the_request() {
        let request = Request::builder("PUT", "/a/7?dry=1").param("id", "7");
        let reply = echo(request.json(&[1, 2])).await.unwrap();
        assert_eq!(
            (reply.status_code().as_u16(), str::from_utf8(reply.body()).unwrap()),
            (
                200,
                r#"{"method":"PUT","path":"/a/7?dry=1","params":{"id":"7"},"body":[1,2]}"#
            )
        );
        let reply = echo(Request::post("/a").body("{not json")).await.unwrap();
        assert_eq!(
            str::from_utf8(reply.body()).unwrap(),
            r#"{"method":"POST","path":"/a","params":{},"body":"{not json"}"#
        );
    }
}

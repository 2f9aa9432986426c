//! Entry point of the fuzz target `requests` in `dev/fuzz`. The tests here run its corpus.

use std::{
    future::poll_fn,
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    task::Poll,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpListener;

use crate::{
    cluster::Cluster,
    config::Config,
    handlers::{self, HandlerResult},
    request::{Request, RequestContext, RequestError},
};

/// Handles the bytes of one connection: requests, each with its length. Missing topics are created.
///
/// # Panics
/// If the broker panics, or if a response does not encode or has a wrong length.
pub fn requests(mut stream: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the runtime starts").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let config = Config {
            auto_create_topics: true,
            ..Config::default()
        };
        let (cluster, _new_nodes) = Cluster::new(config);
        let node = cluster.add_node(listener).expect("the first node can be added");
        while let Ok(length) = stream.try_get_i32() {
            let length = usize::try_from(length).ok();
            let Some((frame, rest)) = length.and_then(|length| stream.split_at_checked(length)) else {
                return;
            };
            stream = rest;
            let Ok(request) = Request::parse(Bytes::copy_from_slice(frame)) else {
                return;
            };
            let context = RequestContext {
                cluster: &cluster,
                node: node.id,
                local_addr: node.addr,
                client_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
                client_id: request.client_id,
                api: request.served.api,
                version: request.version,
                correlation_id: request.correlation_id,
                fault: None,
            };
            let mut handler = pin!(handlers::handle(&context, request.body));
            // A fetch that would wait is dropped.
            match poll_fn(|task| Poll::Ready(handler.as_mut().poll(task))).await {
                Poll::Ready(Ok(HandlerResult::Response(frame))) => check_length(frame),
                Poll::Ready(Ok(HandlerResult::NoResponse)) | Poll::Pending => {}
                Poll::Ready(Ok(HandlerResult::Disconnect)) => return,
                Poll::Ready(Err(error)) => {
                    assert!(!matches!(error, RequestError::Encode { .. }), "{error}");
                    return;
                }
            }
        }
    });
}

fn check_length(mut frame: BytesMut) {
    let length = frame.get_i32();
    assert_eq!(usize::try_from(length).ok(), Some(frame.len()));
}

#[cfg(test)]
#[path = "../../fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::{corpus::each, *};

    #[test]
    fn corpus_of_requests_does_not_panic() {
        each("requests", requests);
    }
}

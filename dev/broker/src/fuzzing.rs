//! Where hostile bytes come in, for `fuzz/`. Its corpus is run by the tests here, too.

use std::{
    future::poll_fn,
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    task::Poll,
};

use bytes::{Buf, Bytes};
use tokio::net::TcpListener;

use crate::{
    call::{Call, Request},
    cluster::Cluster,
    config::Config,
    handlers::{self, Outcome},
    reply::Outbox,
    staged::Staged,
};

/// What a client sends on one connection: frames, each with its length in front. Topics are made as they are asked
/// for.
///
/// # Panics
/// When the broker does what it must not.
pub fn requests(mut stream: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("there are descriptors left").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port left");
        let config = Config {
            auto_create_topics: true,
            ..Config::default()
        };
        let (cluster, _joined) = Cluster::new(config);
        let node = cluster.join(listener).expect("there is room for it");
        while let Ok(length) = stream.try_get_i32() {
            let Some((frame, rest)) = usize::try_from(length).ok().and_then(|it| stream.split_at_checked(it)) else {
                return;
            };
            stream = rest;
            let Ok(request) = Request::read(Bytes::copy_from_slice(frame)) else {
                return;
            };
            let call = Call {
                cluster: &cluster,
                node: node.id,
                reached: node.addr,
                peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
                client_id: request.client_id,
                api: request.served.api,
                version: request.version,
                correlation_id: request.correlation_id,
                staged: Staged::default(),
            };
            let mut answering = pin!(handlers::answer(&call, request.body));
            // Whoever would have to wait hangs up and asks again.
            match poll_fn(|context| Poll::Ready(answering.as_mut().poll(context))).await {
                Poll::Ready(Ok(Outcome::Reply(reply))) => check(reply),
                Poll::Ready(Ok(Outcome::Silence)) | Poll::Pending => {}
                Poll::Ready(Ok(Outcome::HangUp)) => return,
                Poll::Ready(Err(refused)) => {
                    let refused = format!("{refused:?}");
                    assert!(!refused.starts_with("Unencodable"), "{refused}");
                    return;
                }
            }
        }
    });
}

/// An answer has the length it says.
fn check(reply: crate::reply::Reply) {
    let mut outbox = Outbox::default();
    outbox.push(reply);
    let length = outbox.get_i32();
    assert_eq!(usize::try_from(length).ok(), Some(outbox.remaining()));
}

#[cfg(test)]
#[path = "../../fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::{corpus::each, *};

    #[test]
    fn nothing_in_the_corpus_does_harm() {
        each("requests", requests);
    }
}

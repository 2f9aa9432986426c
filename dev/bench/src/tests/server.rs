//! A minimal HTTP server with one fault.

use parking_lot::Mutex;
use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use uuid::Uuid;

/// How the server behaves.
#[derive(Debug, Clone, Copy)]
pub(super) enum Behaviour {
    Right,
    /// Right responses after this time.
    Slow(Duration),
    /// Right responses with the same id.
    SameId,
    /// Every two requests get each other's response.
    SwapPairs,
    /// These bytes, whatever the request.
    Raw(&'static str),
    /// Closes each connection after this many responses, with or without `connection: close`.
    CloseAfter {
        responses: usize,
        announced: bool,
    },
    /// Closes each connection instead of a second response.
    CloseAtSecond,
    /// Closes the connection in the middle of the response.
    Truncated,
    /// Never responds.
    Silent,
}

/// A running server; dropping it closes the listener.
pub(super) struct Server {
    addr: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    behaviour: Behaviour,
    requests: AtomicUsize,
    bodies: Mutex<HashSet<Vec<u8>>>,
    /// The first of a pair: its response, and where to send the other response.
    half: Mutex<Option<(String, oneshot::Sender<String>)>>,
}

// === impl Server ===

impl Server {
    pub(super) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let state = Arc::new(State {
            behaviour,
            requests: AtomicUsize::new(0),
            bodies: Mutex::default(),
            half: Mutex::default(),
        });
        Self {
            addr: listener.local_addr().unwrap(),
            state: Arc::clone(&state),
            accepting: tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&state)));
                }
            }),
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }

    pub(super) fn distinct_bodies(&self) -> usize {
        self.state.bodies.lock().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    stream.set_nodelay(true).unwrap();
    let mut responses_sent = 0;
    while let Some(body) = read_request(&mut stream).await {
        state.requests.fetch_add(1, Ordering::Relaxed);
        state.bodies.lock().insert(body.clone());
        let text = message(&body, state.behaviour);
        let mut response = response(&text, "");
        match state.behaviour {
            Behaviour::Right | Behaviour::SameId => {}
            Behaviour::Slow(time) => tokio::time::sleep(time).await,
            Behaviour::SwapPairs => response = self::response(&swap(&state, text).await, ""),
            Behaviour::Raw(bytes) => response = bytes.to_owned(),
            Behaviour::CloseAfter { responses, announced } if responses_sent + 1 == responses => {
                response = self::response(&text, if announced { "connection: close\r\n" } else { "" });
            }
            Behaviour::CloseAfter { responses, .. } if responses_sent == responses => return,
            Behaviour::CloseAfter { .. } => {}
            Behaviour::CloseAtSecond if responses_sent == 1 => return,
            Behaviour::CloseAtSecond => {}
            Behaviour::Truncated => response.truncate(response.len() - 5),
            Behaviour::Silent => std::future::pending().await,
        }
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
        responses_sent += 1;
        let done = matches!(state.behaviour, Behaviour::CloseAfter { responses, .. } if responses_sent == responses);
        if done || matches!(state.behaviour, Behaviour::Truncated) {
            return;
        }
    }
}

/// The body of the next request; empty for GET.
async fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let total = end + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap());
            while bytes.len() < total {
                stream.read_buf(&mut bytes).await.ok().filter(|n| *n > 0)?;
            }
            return Some(bytes.split_off(end + 4));
        }
        stream.read_buf(&mut bytes).await.ok().filter(|n| *n > 0)?;
    }
}

fn message(body: &[u8], behaviour: Behaviour) -> String {
    let words = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(json) => format!("{} {}", json["name"].as_str().unwrap(), json["value"].as_str().unwrap()),
        Err(_) => "Ping Pong".to_owned(),
    };
    let id = match behaviour {
        Behaviour::SameId => "0b54e0a8-9c1e-4a86-8d53-6f1c3c1f8f0e".to_owned(),
        _ => Uuid::new_v4().to_string(),
    };
    format!(r#"{{"message":"{words} ( {id} ) "}}"#)
}

fn response(body: &str, headers: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len(),
    )
}

/// Exchanges the responses of a pair of requests.
async fn swap(state: &State, response: String) -> String {
    let (give, take) = oneshot::channel();
    let other = {
        let mut half = state.half.lock();
        match half.take() {
            None => {
                *half = Some((response.clone(), give));
                None
            }
            other => other,
        }
    };
    match other {
        Some((others, to_other)) => {
            to_other.send(response).unwrap();
            others
        }
        None => take.await.unwrap(),
    }
}

//! An HTTP server just good enough to be asked, and bad in exactly one way.

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
    /// Right answers after a while.
    Slow(Duration),
    /// Right answers, but always with one id.
    SameId,
    /// Every two requests get each other's answer.
    SwapPairs,
    /// These bytes, whatever the request.
    Raw(&'static str),
    /// Ends each connection after so many answers, and says so in the last one or not.
    CloseAfter {
        answers: usize,
        announced: bool,
    },
    /// Reads the second request of each connection and hangs up on it.
    SwallowSecond,
    /// Half an answer, then the end.
    Cut,
    /// No answer, ever.
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
    /// The first of a pair: its answer, and where to send the other one's.
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
    let mut answered = 0;
    while let Some(body) = read_request(&mut stream).await {
        state.requests.fetch_add(1, Ordering::Relaxed);
        state.bodies.lock().insert(body.clone());
        let answer = message(&body, state.behaviour);
        let mut response = response(&answer, "");
        match state.behaviour {
            Behaviour::Right | Behaviour::SameId => {}
            Behaviour::Slow(time) => tokio::time::sleep(time).await,
            Behaviour::SwapPairs => response = self::response(&swap(&state, answer).await, ""),
            Behaviour::Raw(bytes) => response = bytes.to_owned(),
            Behaviour::CloseAfter { answers, announced } if answered + 1 == answers => {
                response = self::response(&answer, if announced { "connection: close\r\n" } else { "" });
            }
            Behaviour::CloseAfter { answers, .. } if answered == answers => return,
            Behaviour::CloseAfter { .. } => {}
            Behaviour::SwallowSecond if answered == 1 => return,
            Behaviour::SwallowSecond => {}
            Behaviour::Cut => response.truncate(response.len() - 5),
            Behaviour::Silent => std::future::pending().await,
        }
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
        answered += 1;
        let done = matches!(state.behaviour, Behaviour::CloseAfter { answers, .. } if answered == answers);
        if done || matches!(state.behaviour, Behaviour::Cut) {
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

/// Gives an answer away and gets that of the other one of the pair.
async fn swap(state: &State, answer: String) -> String {
    let (give, take) = oneshot::channel();
    let other = {
        let mut half = state.half.lock();
        match half.take() {
            None => {
                *half = Some((answer.clone(), give));
                None
            }
            other => other,
        }
    };
    match other {
        Some((others, to_other)) => {
            to_other.send(answer).unwrap();
            others
        }
        None => take.await.unwrap(),
    }
}

//! An HTTP/1.1 client for tests: sends exactly the bytes it is given, and shows exactly those it gets.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::wait::within;

/// The bound on an answer: longer than every timeout that a test gives the gateway.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Header lines that an answer of ours may have.
const MAX_HEADERS: usize = 32;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// What was read and is not part of an answer yet.
    unread: Vec<u8>,
    /// The last request was a HEAD: its answer has the length of a body, but no body.
    head_only: bool,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, decoded by `content-length`.
    pub body: Vec<u8>,
}

/// How a connection went on.
#[derive(Debug)]
pub enum Next {
    /// With an answer.
    Answer(Answer),
    /// It was closed between two answers, in order or by a reset.
    Closed,
    /// It was closed in the middle of an answer; these bytes of it came.
    Cut(Vec<u8>),
}

// === impl Connection ===

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            unread: Vec::new(),
            head_only: false,
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.head_only = bytes.as_ref().starts_with(b"HEAD ");
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Waits for what comes next.
    ///
    /// # Panics
    /// When nothing does within a minute, or when it is not HTTP.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some((answer, length)) = parse(&self.unread, self.head_only) {
                self.unread.drain(..length);
                return Next::Answer(answer);
            }
            if !self.fill().await {
                let rest = std::mem::take(&mut self.unread);
                return if rest.is_empty() { Next::Closed } else { Next::Cut(rest) };
            }
        }
    }

    /// Waits for the answer to a request.
    ///
    /// # Panics
    /// When the connection is closed instead.
    pub async fn answer(&mut self) -> Answer {
        match self.next().await {
            Next::Answer(answer) => answer,
            other => panic!("instead of an answer: {other:?}"),
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Panics
    /// When the connection is closed instead.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request).await.expect("the connection is open");
        self.answer().await
    }

    /// Waits until the server closes, and gives what it sent before.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub async fn closed(mut self) -> Vec<u8> {
        while self.fill().await {}
        self.unread
    }

    /// Reads more; `false` when there is no more.
    async fn fill(&mut self) -> bool {
        let read = within("an answer", ANSWER_LIMIT, self.stream.read_buf(&mut self.unread)).await;
        matches!(read, Ok(1..))
    }
}

/// Sends one request on a connection of its own.
///
/// # Panics
/// When there is no answer.
pub async fn ask(addr: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut connection = Connection::open(addr).await.expect("the server listens");
    connection.ask(request).await
}

/// The bytes of a GET.
#[must_use]
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

/// The bytes of a POST with a JSON body.
#[must_use]
pub fn post(path: &str, json: impl AsRef<[u8]>) -> Vec<u8> {
    request("POST", path, &["content-type: application/json"], json)
}

/// The bytes of a request with these header lines, and a body with its length.
#[must_use]
pub fn request(method: &str, path: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n",
        body.len()
    );
    for line in headers {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// The first answer in `bytes` and its length, if it is whole.
fn parse(bytes: &[u8], head_only: bool) -> Option<(Answer, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head
        .parse(bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii()));
    let httparse::Status::Complete(head_length) = parsed else {
        return None;
    };
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|it| {
            (
                it.name.to_ascii_lowercase(),
                String::from_utf8_lossy(it.value).into_owned(),
            )
        })
        .collect();
    let mut answer = Answer {
        status: head.code?,
        headers,
        body: Vec::new(),
    };
    let informational = answer.status < 200;
    let body_length = match answer.header("content-length") {
        _ if head_only || informational => 0,
        Some(length) => length.parse().expect("a length is a number"),
        None => panic!("an answer without a length: {}", bytes.escape_ascii()),
    };
    let body = bytes.get(head_length..head_length + body_length)?;
    answer.body = body.to_owned();
    Some((answer, head_length + body_length))
}

// === impl Answer ===

impl Answer {
    /// The value of a header.
    ///
    /// # Panics
    /// When it is there twice.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|it| it.0 == name).map(|it| it.1.as_str());
        let first = values.next();
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        first
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of ours is UTF-8")
    }

    /// The `message` of a 200 with nothing else in its body.
    ///
    /// # Panics
    /// When it is anything else.
    #[must_use]
    pub fn message(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/json; charset=utf-8"),
            "{self:?}"
        );
        let body: serde_json::Value = serde_json::from_slice(&self.body).expect("the body is JSON");
        let message = body
            .get("message")
            .and_then(|it| it.as_str())
            .expect("it has a message");
        assert_eq!(body, serde_json::json!({ "message": message }));
        message.to_owned()
    }

    /// The status, and the `error` of a body with nothing else in it.
    ///
    /// # Panics
    /// When it is anything else.
    #[must_use]
    pub fn error(&self) -> (u16, String) {
        assert_eq!(
            self.header("content-type"),
            Some("application/json; charset=utf-8"),
            "{self:?}"
        );
        let body: serde_json::Value = serde_json::from_slice(&self.body).expect("the body is JSON");
        let error = body.get("error").and_then(|it| it.as_str()).expect("it has an error");
        assert_eq!(self.text(), serde_json::json!({ "error": error }).to_string());
        (self.status, error.to_owned())
    }
}

//! An HTTP/1.1 client for tests: sends the given bytes and returns the received ones.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::wait::within;

/// The bound on a response, at least the `REPLY_TIMEOUT` of every test that waits for it.
const RESPONSE_LIMIT: Duration = Duration::from_secs(60);

/// The most header lines of a response.
const MAX_HEADERS: usize = 32;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Bytes after the last response.
    unread: Vec<u8>,
    /// The last request was a HEAD: its response has a content-length, but no body.
    head_only: bool,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, decoded by `content-length`.
    pub body: Vec<u8>,
}

/// The next event of a connection.
#[derive(Debug)]
pub enum Next {
    /// A response.
    Response(Response),
    /// A close or a reset between two responses.
    Closed,
    /// A close in the middle of a response, after these bytes.
    Cut(Vec<u8>),
}

// === impl Connection ===

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When the port is closed.
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

    /// Sends a FIN: no more requests follow.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Closes with a reset.
    ///
    /// # Panics
    /// When the socket has no such option.
    pub fn reset(self) {
        self.stream.set_zero_linger().expect("a TCP socket has it");
    }

    /// Waits for the next event.
    ///
    /// # Panics
    /// When there is none within a minute, or when it is not HTTP.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some((response, length)) = parse(&self.unread, self.head_only) {
                self.unread.drain(..length);
                return Next::Response(response);
            }
            if !self.fill().await {
                let rest = std::mem::take(&mut self.unread);
                return if rest.is_empty() { Next::Closed } else { Next::Cut(rest) };
            }
        }
    }

    /// Waits for the response to a request.
    ///
    /// # Panics
    /// When the connection is closed instead.
    pub async fn response(&mut self) -> Response {
        match self.next().await {
            Next::Response(response) => response,
            other => panic!("instead of a response: {other:?}"),
        }
    }

    /// Sends a request and waits for its response.
    ///
    /// # Panics
    /// When the connection is closed instead.
    pub async fn exchange(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.send(request).await.expect("the connection is open");
        self.response().await
    }

    /// Waits until the server closes, and returns the bytes before.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub async fn closed(mut self) -> Vec<u8> {
        while self.fill().await {}
        self.unread
    }

    /// Reads more bytes; `false` at the end.
    async fn fill(&mut self) -> bool {
        let read = within("a response", RESPONSE_LIMIT, self.stream.read_buf(&mut self.unread)).await;
        matches!(read, Ok(1..))
    }
}

/// Sends one request on a new connection.
///
/// # Panics
/// When there is no response.
pub async fn exchange(addr: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    let mut connection = Connection::open(addr).await.expect("the server listens");
    connection.exchange(request).await
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

/// The bytes of a request with these header lines and this body.
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

/// The first response in `bytes` and its length, if it is complete.
fn parse(bytes: &[u8], head_only: bool) -> Option<(Response, usize)> {
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
        .map(|header| {
            let value = String::from_utf8_lossy(header.value).into_owned();
            (header.name.to_ascii_lowercase(), value)
        })
        .collect();
    let mut response = Response {
        status: head.code?,
        headers,
        body: Vec::new(),
    };
    let is_without_body = response.status < 200 || matches!(response.status, 204 | 304);
    let body_length = match response.header("content-length") {
        _ if head_only || is_without_body => 0,
        Some(length) => length.parse().expect("a length is a number"),
        None => panic!("a response without a length: {}", bytes.escape_ascii()),
    };
    let body = bytes.get(head_length..head_length + body_length)?;
    response.body = body.to_owned();
    Some((response, head_length + body_length))
}

// === impl Response ===

impl Response {
    /// The value of a header.
    ///
    /// # Panics
    /// When there are two.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|header| header.0 == name)
            .map(|header| header.1.as_str());
        let first = values.next();
        assert!(values.next().is_none(), "two headers {name}: {self:?}");
        first
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of ours is UTF-8")
    }

    /// The `message` of a 200 whose body has nothing else.
    ///
    /// # Panics
    /// On any other response.
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
            .and_then(serde_json::Value::as_str)
            .expect("it has a message");
        assert_eq!(body, serde_json::json!({ "message": message }));
        message.to_owned()
    }

    /// The status, and the `error` of a body that has nothing else.
    ///
    /// # Panics
    /// On any other body.
    #[must_use]
    pub fn error(&self) -> (u16, String) {
        assert_eq!(
            self.header("content-type"),
            Some("application/json; charset=utf-8"),
            "{self:?}"
        );
        let body: serde_json::Value = serde_json::from_slice(&self.body).expect("the body is JSON");
        let error = body
            .get("error")
            .and_then(serde_json::Value::as_str)
            .expect("it has an error");
        assert_eq!(self.text(), serde_json::json!({ "error": error }).to_string());
        (self.status, error.to_owned())
    }
}

//! One connection: requests in, responses out, one request at a time, as in Kafka. A waiting fetch delays the requests
//! behind it.
//!
//! Responses are buffered, and written when the read buffer holds no further complete request. A protocol violation
//! closes this connection only.

use std::{
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    pin::pin,
    task::Poll,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    cluster::Cluster,
    faults::ConnectionFaults,
    handlers::{self, HandlerResult},
    request::{Request, RequestContext, RequestError},
};

/// Size of a read. The buffer grows with the bytes that arrive, not with the length that a frame claims.
const READ_BYTES: usize = 64 << 10;
/// Buffered responses are written at this size, even if more requests are buffered.
const FLUSH_BYTES: usize = 256 << 10;
/// A read buffer beyond this capacity is freed when it is empty.
const MAX_IDLE_BUFFER_BYTES: usize = 1 << 20;
const LENGTH_BYTES: usize = 4;

/// Why a connection ended before the client closed it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// The client closed the connection within a frame.
    #[error("the connection ended within a request")]
    TruncatedRequest,
    /// The length of a frame is negative, or above [`Config::max_request_bytes`](crate::Config::max_request_bytes).
    #[error("a request cannot be {0} bytes long")]
    InvalidLength(i32),
    /// The request has no response.
    #[error("invalid request")]
    Request(#[from] RequestError),
    /// The client closed the connection before its request was handled.
    #[error("the client closed the connection")]
    ClientClosed,
    /// The broker closed the connection: a failed produce with acks = 0, or an injected fault.
    #[error("closed by the broker")]
    BrokerClosed,
}

struct Connection<'a> {
    cluster: &'a Cluster,
    /// The id of the node that accepted the connection.
    node: i32,
    local_addr: SocketAddr,
    client_ip: IpAddr,
    stream: TcpStream,
    requests: BytesMut,
    responses: BytesMut,
    faults: ConnectionFaults,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(cluster: &Cluster, node: i32, stream: TcpStream) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let mut faults = cluster.faults.for_connection();
    let mut disconnect = faults.clone();
    faults.wait_until_resumed().await;
    let mut connection = Connection {
        cluster,
        node,
        local_addr: stream.local_addr()?,
        client_ip: stream.peer_addr()?.ip(),
        stream,
        requests: BytesMut::new(),
        responses: BytesMut::new(),
        faults,
    };
    tokio::select! {
        ended = connection.run() => ended,
        () = disconnect.wait_for_disconnect() => Err(ConnectionError::BrokerClosed),
    }
}

// === impl Connection ===

impl Connection<'_> {
    async fn run(&mut self) -> Result<(), ConnectionError> {
        while let Some(frame) = self.next_frame().await? {
            self.handle(frame).await?;
            if self.responses.len() >= FLUSH_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// The next request without its length. None if the client closed the connection, or was idle for too long.
    async fn next_frame(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            self.flush().await?;
            if self.requests.is_empty() && self.requests.capacity() > MAX_IDLE_BUFFER_BYTES {
                self.requests = BytesMut::new();
            }
            self.requests.reserve(READ_BYTES);
            let read = tokio::select! {
                read = self.stream.read_buf(&mut self.requests) => read?,
                () = self.faults.wait_until_idle() => return Ok(None),
            };
            if read == 0 {
                return if self.requests.is_empty() {
                    Ok(None)
                } else {
                    Err(ConnectionError::TruncatedRequest)
                };
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        let Some(prefix) = self.requests.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*prefix);
        let length = usize::try_from(length)
            .ok()
            .filter(|bytes| *bytes <= self.cluster.config.max_request_bytes)
            .ok_or(ConnectionError::InvalidLength(length))?;
        if self.requests.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.requests.advance(LENGTH_BYTES);
        Ok(Some(self.requests.split_to(length).freeze()))
    }

    async fn handle(&mut self, frame: Bytes) -> Result<(), ConnectionError> {
        let request = Request::parse(frame)?;
        self.faults.wait_until_resumed().await;
        let faults = self.cluster.faults.next_request(request.served.api);
        if faults.drop_connection {
            return Err(ConnectionError::BrokerClosed);
        }
        let context = RequestContext {
            cluster: self.cluster,
            node: self.node,
            local_addr: self.local_addr,
            client_ip: self.client_ip,
            client_id: request.client_id,
            api: request.served.api,
            version: request.version,
            correlation_id: request.correlation_id,
            fault: faults.error,
        };
        let mut handler = pin!(handlers::handle(&context, request.body));
        // Most handlers complete at the first poll. Only a waiting fetch needs the flush and the watch on the socket.
        let result = match poll_fn(|task| Poll::Ready(handler.as_mut().poll(task))).await {
            Poll::Ready(result) => result,
            Poll::Pending => {
                self.flush().await?;
                self.unless_client_closes(handler).await?
            }
        };
        match result? {
            HandlerResult::Response(frame) => self.responses.unsplit(frame),
            HandlerResult::NoResponse => {}
            HandlerResult::Disconnect => return Err(ConnectionError::BrokerClosed),
        }
        Ok(())
    }

    /// Waits for `work`, unless the client closes the connection first. Kafka notices that when it responds.
    async fn unless_client_closes<T>(&self, work: impl Future<Output = T>) -> Result<T, ConnectionError> {
        let closed = async {
            // A buffered request hides the end of the stream.
            if matches!(self.stream.peek(&mut [0]).await, Ok(1..)) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            // The response first: a client may close its sending side right after the request.
            biased;
            done = work => Ok(done),
            () = closed => Err(ConnectionError::ClientClosed),
        }
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        if self.responses.has_remaining() {
            self.faults.wait_until_resumed().await;
            self.stream.write_all_buf(&mut self.responses).await?;
        }
        Ok(())
    }
}

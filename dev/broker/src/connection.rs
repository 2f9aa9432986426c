//! One connection: frames in, answers out, strictly one request at a time, as Kafka does it. A fetch that waits holds up
//! what is behind it on its connection.
//!
//! Answers are gathered and written when no whole request is left to read. Anything the protocol does not allow closes
//! this connection and nothing else.

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
    time::sleep,
};

use crate::{
    call::{Call, Refused, Request},
    cluster::Cluster,
    faults::Line,
    handlers::{self, Outcome},
    reply::Outbox,
    staged::Ending,
};

/// What is read at once. The buffer grows with the bytes that arrive, never with the length a frame claims.
const READ_BYTES: usize = 64 << 10;
/// Answers are written once this much has gathered, even if more requests are there.
const FLUSH_BYTES: usize = 256 << 10;
/// A buffer that had to grow beyond this is given back.
const KEEP_BYTES: usize = 1 << 20;
const LENGTH_BYTES: usize = 4;

/// Why a connection ended before the client closed it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// The client closed it within a frame.
    #[error("the connection ended within a request")]
    Cut,
    /// A length that is negative or too large.
    #[error("a request cannot be {0} bytes long")]
    Length(i32),
    /// A request that has no answer.
    #[error("request refused")]
    Refused(#[from] Refused),
    /// The client closed it while its request was worked on.
    #[error("the client hung up")]
    HungUp,
    /// An answer that cannot be told the client in another way (acks = 0), or a fault that a test asked for.
    #[error("closed on purpose")]
    OnPurpose,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(cluster: &Cluster, node: i32, stream: TcpStream) -> Result<(), Ended> {
    // Answers are small and somebody waits for each.
    stream.set_nodelay(true)?;
    let (reached, peer) = (stream.local_addr()?, stream.peer_addr()?.ip());
    let mut line = cluster.stage.line();
    let mut cut = line.clone();
    line.open().await;
    let (inbox, outbox) = (BytesMut::new(), Outbox::default());
    let mut connection = Connection {
        cluster,
        node,
        reached,
        peer,
        stream,
        inbox,
        outbox,
        line,
    };
    tokio::select! {
        ended = connection.run() => ended,
        () = cut.cut() => Err(Ended::OnPurpose),
    }
}

struct Connection<'a> {
    cluster: &'a Cluster,
    node: i32,
    /// The address the client reached, which is where it is told to come back to.
    reached: SocketAddr,
    peer: IpAddr,
    stream: TcpStream,
    inbox: BytesMut,
    outbox: Outbox,
    line: Line,
}

impl Connection<'_> {
    async fn run(&mut self) -> Result<(), Ended> {
        while let Some(frame) = self.next().await? {
            self.answer(frame).await?;
            if self.outbox.remaining() >= FLUSH_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// The next request without its length; none if the client closed the connection, or was idle for too long.
    async fn next(&mut self) -> Result<Option<Bytes>, Ended> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            self.flush().await?;
            if self.inbox.is_empty() && self.inbox.capacity() > KEEP_BYTES {
                self.inbox = BytesMut::new();
            }
            self.inbox.reserve(READ_BYTES);
            let read = tokio::select! {
                read = self.stream.read_buf(&mut self.inbox) => read?,
                () = self.line.idle() => return Ok(None),
            };
            if read == 0 {
                return if self.inbox.is_empty() {
                    Ok(None)
                } else {
                    Err(Ended::Cut)
                };
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<Bytes>, Ended> {
        let Some(length) = self
            .inbox
            .first_chunk::<LENGTH_BYTES>()
            .copied()
            .map(i32::from_be_bytes)
        else {
            return Ok(None);
        };
        let allowed = usize::try_from(length)
            .ok()
            .filter(|bytes| *bytes <= self.cluster.config.max_request_bytes);
        let bytes = allowed.ok_or(Ended::Length(length))?;
        if self.inbox.len() < LENGTH_BYTES + bytes {
            return Ok(None);
        }
        self.inbox.advance(LENGTH_BYTES);
        Ok(Some(self.inbox.split_to(bytes).freeze()))
    }

    async fn answer(&mut self, frame: Bytes) -> Result<(), Ended> {
        let request = Request::read(frame)?;
        self.line.open().await;
        let call = Call {
            cluster: self.cluster,
            node: self.node,
            reached: self.reached,
            peer: self.peer,
            client_id: request.client_id,
            api: request.served.api,
            version: request.version,
            correlation_id: request.correlation_id,
            staged: self.cluster.stage.next(request.served.api),
        };
        if call.staged.ending == Ending::DropBefore {
            return Err(Ended::OnPurpose);
        }
        let mut answering = pin!(handlers::answer(&call, request.body));
        // Most answers are there at once, and then nothing has to be written or watched yet.
        let mut outcome = poll_fn(|context| Poll::Ready(answering.as_mut().poll(context))).await;
        if outcome.is_pending() {
            self.flush().await?;
            outcome = Poll::Ready(self.unless_hung_up(answering).await?);
        }
        let Poll::Ready(outcome) = outcome else {
            return Err(Ended::HungUp);
        };
        let outcome = outcome?;
        if !call.staged.delay.is_zero() {
            self.flush().await?;
            self.unless_hung_up(sleep(call.staged.delay)).await?;
        }
        match (call.staged.ending, outcome) {
            (Ending::Answer, Outcome::Reply(reply)) => self.outbox.push(reply),
            (Ending::Answer, Outcome::Silence) => {}
            (Ending::Mute, _) => self.mute().await?,
            (Ending::DropBefore | Ending::DropAfter, _) | (_, Outcome::HangUp) => {
                return Err(Ended::OnPurpose);
            }
        }
        Ok(())
    }

    /// Waits for `work`, unless the client closes the connection meanwhile. Kafka would find out when it answers.
    async fn unless_hung_up<T>(&self, work: impl Future<Output = T>) -> Result<T, Ended> {
        let hung_up = async {
            // If the next request is there already, what is behind it cannot be seen.
            if matches!(self.stream.peek(&mut [0]).await, Ok(1..)) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            // The answer first: a client may close its side right after it has asked.
            biased;
            done = work => Ok(done),
            () = hung_up => Err(Ended::HungUp),
        }
    }

    /// Says nothing more, and takes in what comes until the client gives up.
    async fn mute(&mut self) -> Result<(), Ended> {
        self.flush().await?;
        loop {
            self.inbox.clear();
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Err(Ended::OnPurpose);
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        if self.outbox.has_remaining() {
            self.line.open().await;
            self.stream.write_all_buf(&mut self.outbox).await?;
        }
        Ok(())
    }
}

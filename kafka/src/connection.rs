//! One connection to one broker: transport, rskafka's messenger, login. The only file that names rskafka.
//!
//! - The messenger brings framing, correlation and the choice of versions. The messages are kafka-protocol's.
//! - Every call is bounded. A call that times out or fails spoils the connection: it is dropped, never used again.
//! - Dropping a connection shuts its socket down: the messenger finishes a cancelled write in a task of its own, which would
//!   otherwise keep the socket and the message as long as the peer reads nothing.
//! - A broker works on one request of a connection at a time, so a long poll has a connection of its own.

use std::{
    fmt,
    io::{self, Cursor},
    mem,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use rskafka::{
    messenger::{Messenger, RequestError, SyncVersionsError},
    protocol::{
        api_key::ApiKey,
        api_version::{ApiVersion, ApiVersionRange},
        frame,
        messages::{ReadVersionedError, ReadVersionedType, RequestBody, WriteVersionedError, WriteVersionedType},
        primitives::Int16,
        traits::{ReadError, WriteError},
    },
};
use tokio::time::{Instant, timeout};

use crate::{
    api::Request,
    error::{Error, Failure},
    sasl,
    security::Security,
    transport::{ConnectError, Handle, HostPort, MAX_RESPONSE_BYTES, Transport},
};

mod response;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::response::decode;

/// How long connecting may take, with TLS and login: some five round trips, and a broker delays a refused login by 100 ms
/// (`connection.failed.authentication.delay.ms`).
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Of a session's lifetime, the part after which we log in anew (KIP-368).
const REAUTHENTICATE_AFTER: f64 = 0.8;

/// Who connects, and how. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// How the brokers' logs and quotas name us.
    pub(crate) id: Arc<str>,
    pub(crate) security: Security,
}

/// A connection to one broker.
pub(crate) struct Connection {
    broker: Arc<str>,
    messenger: Messenger<Transport>,
    transport: Handle,
    security: Security,
    /// When to log in anew; `None` without a login, or when the broker sets no limit.
    reauthenticate_at: Option<Instant>,
    /// No call has failed or was dropped.
    is_usable: bool,
    /// A call was answered: the port speaks Kafka, and in the protocol that we speak.
    was_answered: bool,
}

/// A request of kafka-protocol, as the messenger wants it.
#[derive(Debug)]
struct Message<R>(R);

/// The response to it.
struct Response<R: Request>(R::Response);

// === impl Connection ===

impl Connection {
    /// Connects, asks for the versions that the broker knows, and logs in.
    ///
    /// # Errors
    /// Nothing has been asked for then.
    pub(crate) async fn open(broker: &str, client: &Client, limit: Duration) -> Result<Self, Error> {
        let broker: Arc<str> = broker.into();
        let opening = Self::try_open(Arc::clone(&broker), client);
        timeout(limit, opening).await.unwrap_or_else(|_elapsed| {
            let failure = Failure::TimedOut { limit, is_first: true };
            Err(Error::new(&broker, "connecting", failure))
        })
    }

    async fn try_open(broker: Arc<str>, client: &Client) -> Result<Self, Error> {
        let failed = |failure| Error::new(&broker, "connecting", failure);
        let address = HostPort::parse(&broker).ok_or_else(|| failed(Failure::Address))?;
        let tls = client.security.tls.as_ref().map(|tls| tls.config()).transpose();
        let tls = tls.map_err(|error| failed(Failure::Credentials(error)))?;
        let (transport, handle) = Transport::connect(address, tls).await.map_err(|error| match error {
            ConnectError::Tcp(error) => failed(Failure::Unreachable(error)),
            ConnectError::Tls(error) => failed(Failure::Tls(error)),
        })?;
        let mut connection = Self {
            messenger: Messenger::new(transport, MAX_RESPONSE_BYTES, Arc::clone(&client.id)),
            broker: Arc::clone(&broker),
            transport: handle,
            security: client.security.clone(),
            reauthenticate_at: None,
            is_usable: true,
            was_answered: false,
        };
        let synced = AssertUnwindSafe(connection.messenger.sync_versions())
            .catch_unwind()
            .await;
        match synced {
            Ok(Ok(())) => {}
            Ok(Err(SyncVersionsError::RequestError(error))) => return Err(connection.failed("ApiVersions", error)),
            Ok(Err(error)) => return Err(failed(Failure::Malformed(error.into()))),
            Err(_panic) => return Err(failed(Failure::Panicked)),
        }
        connection.log_in().await?;
        Ok(connection)
    }

    /// One call: gives the response.
    ///
    /// # Errors
    /// The broker may have executed it all the same, and the connection is not usable any more.
    pub(crate) async fn call<R: Request>(&mut self, limit: Duration, request: R) -> Result<R::Response, Error> {
        if self.reauthenticate_at.is_some_and(|due| due <= Instant::now()) {
            let logged_in = timeout(CONNECT_TIMEOUT, self.log_in()).await;
            logged_in.unwrap_or_else(|_elapsed| Err(self.timed_out("SaslAuthenticate", CONNECT_TIMEOUT)))?;
        }
        self.call_without_login(limit, request).await
    }

    /// The same for the calls of a login.
    pub(crate) async fn call_without_login<R: Request>(
        &mut self,
        limit: Duration,
        request: R,
    ) -> Result<R::Response, Error> {
        if self.transport.is_closed() {
            self.is_usable = false;
            return Err(self.error(R::NAME, Failure::Closed));
        }
        // Not usable until there is a response, for this future may be dropped.
        if !mem::replace(&mut self.is_usable, false) {
            return Err(self.error(R::NAME, Failure::Unusable));
        }
        // Unwind safe: after a panic the connection is not used any more.
        let request = AssertUnwindSafe(self.messenger.request(Message(request))).catch_unwind();
        let response = match timeout(limit, request).await {
            Ok(Ok(Ok(Response(response)))) => response,
            Ok(Ok(Err(RequestError::NoVersionMatch { .. }))) => {
                self.is_usable = true;
                return Err(self.error(R::NAME, Failure::TooOld(R::NEEDS)));
            }
            Ok(Ok(Err(error))) => return Err(self.failed(R::NAME, error)),
            Ok(Err(_panic)) => return Err(self.error(R::NAME, Failure::Panicked)),
            Err(_elapsed) => return Err(self.timed_out(R::NAME, limit)),
        };
        self.is_usable = true;
        self.was_answered = true;
        Ok(response)
    }

    /// Whether it may be used for another call.
    pub(crate) fn is_usable(&self) -> bool {
        self.is_usable && !self.transport.is_closed()
    }

    /// The broker, `host:port`.
    pub(crate) fn broker(&self) -> &Arc<str> {
        &self.broker
    }

    /// Who we are to the broker.
    pub(crate) fn user(&self) -> String {
        self.security.user()
    }

    /// An error of a call on this connection.
    pub(crate) fn error(&self, api: &'static str, failure: Failure) -> Error {
        Error::new(&self.broker, api, failure)
    }

    async fn log_in(&mut self) -> Result<(), Error> {
        let Some(sasl) = self.security.sasl.clone() else {
            return Ok(());
        };
        let begun = Instant::now();
        let lifetime = sasl::log_in(self, &sasl).await?;
        self.reauthenticate_at = lifetime.map(|lifetime| begun + lifetime.mul_f64(REAUTHENTICATE_AFTER));
        Ok(())
    }

    fn timed_out(&self, api: &'static str, limit: Duration) -> Error {
        let is_first = !self.was_answered;
        self.error(api, Failure::TimedOut { limit, is_first })
    }

    /// An error of the messenger: of its nested causes the innermost says what happened.
    fn failed(&self, api: &'static str, error: RequestError) -> Error {
        let failure = match io_error(&error) {
            Some(error) => Failure::disconnected(error, !self.was_answered, &self.security),
            None => Failure::Malformed(Box::new(error)),
        };
        self.error(api, failure)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("broker", &self.broker)
            .finish_non_exhaustive()
    }
}

/// The I/O error at the bottom of an error, if it is one.
fn io_error(error: &RequestError) -> Option<&io::Error> {
    match error {
        RequestError::Poisoned(error) => io_error(error),
        RequestError::IO(error)
        | RequestError::ReadFramedMessageError(frame::ReadError::IO(error))
        | RequestError::WriteMessageError(frame::WriteError::IO(error)) => Some(error),
        _ => None,
    }
}

// === impl Message ===

impl<R: Request> RequestBody for Message<R> {
    type ResponseBody = Response<R>;
    const API_KEY: ApiKey = api_key(R::KEY);
    const API_VERSION_RANGE: ApiVersionRange = ApiVersionRange::new(version(R::VERSIONS.0), version(R::VERSIONS.1));
    const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: ApiVersion = version(R::FIRST_FLEXIBLE_VERSION);
    const FIRST_TAGGED_FIELD_IN_RESPONSE_VERSION: ApiVersion = version(R::FIRST_FLEXIBLE_RESPONSE_HEADER);
}

impl<R: Request> WriteVersionedType<Vec<u8>> for Message<R> {
    fn write_versioned(&self, writer: &mut Vec<u8>, version: ApiVersion) -> Result<(), WriteVersionedError> {
        let written = self.0.encode(writer, spoken::<R>(version));
        written.map_err(|error| WriteError::Malformed(error.into()).into())
    }
}

// === impl Response ===

impl<R: Request> ReadVersionedType<Cursor<Vec<u8>>> for Response<R> {
    /// Takes the whole message out of the reader: what is inside the response are slices of it, not copies.
    fn read_versioned(reader: &mut Cursor<Vec<u8>>, version: ApiVersion) -> Result<Self, ReadVersionedError> {
        let start = usize::try_from(reader.position()).unwrap_or(usize::MAX);
        let mut body = Bytes::from(mem::take(reader).into_inner());
        body.advance(start.min(body.len()));
        let response = response::decode(body, spoken::<R>(version));
        response.map(Self).map_err(|error| ReadError::Malformed(error).into())
    }
}

/// The version that the messenger has chosen. The bounds change nothing, but the compiler learns from them that no other version
/// is spoken, and leaves the code for all others out of the binary.
#[inline]
fn spoken<R: Request>(version: ApiVersion) -> i16 {
    let (first, last) = R::VERSIONS;
    version.0.0.clamp(first, last)
}

const fn version(number: i16) -> ApiVersion {
    ApiVersion(Int16(number))
}

/// The messenger looks versions up by its own names of the calls, where it has one.
const fn api_key(key: i16) -> ApiKey {
    match key {
        0 => ApiKey::Produce,
        1 => ApiKey::Fetch,
        2 => ApiKey::ListOffsets,
        3 => ApiKey::Metadata,
        8 => ApiKey::OffsetCommit,
        9 => ApiKey::OffsetFetch,
        10 => ApiKey::FindCoordinator,
        17 => ApiKey::SaslHandshake,
        18 => ApiKey::ApiVersions,
        19 => ApiKey::CreateTopics,
        32 => ApiKey::DescribeConfigs,
        36 => ApiKey::SaslAuthenticate,
        key => ApiKey::Unknown(Int16(key)),
    }
}

#[cfg(test)]
mod tests;

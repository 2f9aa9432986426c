//! A client with one keep-alive connection: sends requests when they are due, and checks the responses.

use crate::{
    connection::{Connection, ExchangeError, IdleState},
    deadline::DeadlineTimer,
    load::Load,
    outcome::{Outcome, Wrong},
    pacer::{Arrival, Pacer},
    recorder::Recorder,
    request::Request,
    request_log::{RequestEntry, RequestLog},
    response::{self, Form, ResponseHead},
};
use parking_lot::Mutex;
use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Pause of a closed loop after a connection error. Without it a client would connect to a stopped server a hundred
/// thousand times a second.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

/// Kept of a wrong response.
const MAX_SAMPLE_CHARS: usize = 200;

/// Shared by the clients of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) load: Load,
    pub(crate) id: String,
    pub(crate) pacer: Pacer,
    pub(crate) recorder: Mutex<Recorder>,
    /// Clients that open their first connection.
    pub(crate) connecting: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Client {
    run: Arc<Run>,
    request: Request,
    /// None before the first connect and after every error.
    connection: Option<Connection>,
}

/// What became of one request.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) outcome: Outcome,
    /// Of a right response.
    pub(crate) id: Option<Uuid>,
    /// Of a wrong response or a connection error, for the report.
    pub(crate) detail: String,
}

// === impl Client ===

impl Client {
    pub(crate) fn new(run: Arc<Run>, connection: Option<Connection>) -> Self {
        let request = Request::new(run.load.request, run.load.target, &run.id);
        run.connecting.fetch_add(1, Ordering::Relaxed);
        Self {
            run,
            request,
            connection,
        }
    }

    /// Sends requests until the end of the run.
    pub(crate) async fn run(mut self) {
        let timeout = self.run.load.timeout;
        let mut timer = DeadlineTimer::new(Instant::now() + timeout);
        if self.connection.is_none() {
            // If this connect fails, the first request connects again and counts the error.
            let connect = timer.timeout_at(Instant::now() + timeout, self.run.connect());
            self.connection = connect.await.and_then(Result::ok);
        }
        self.run.connecting.fetch_sub(1, Ordering::Relaxed);
        while let Some(arrival) = self.run.pacer.next().await {
            if self.run.is_closed() {
                break;
            }
            let sent = Instant::now();
            let exchange = self.send(&arrival, &mut timer).await;
            let ended = Instant::now();
            let outcome = self.run.recorder.lock().record(&arrival, exchange, ended);
            if let Some(log) = &self.run.load.log {
                log.push(RequestEntry {
                    due: arrival.due,
                    sent,
                    ended,
                    outcome,
                });
            }
            let is_connection_error = matches!(outcome, Outcome::NoConnection | Outcome::ConnectionClosed);
            if is_connection_error && self.run.pacer.is_closed_loop() {
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }

    async fn send(&mut self, arrival: &Arrival, timer: &mut DeadlineTimer) -> Exchange {
        let timeout = self.run.load.timeout;
        let now = if self.run.pacer.is_closed_loop() {
            arrival.due
        } else {
            Instant::now()
        };
        if now.saturating_duration_since(arrival.due) >= timeout {
            return Exchange::failed(Outcome::Unsent, "");
        }
        self.request.set_number(arrival.number);
        // An exchange that fails or misses the deadline drops the connection.
        let kept = self.connection.take();
        let exchange = self.run.exchange(kept, self.request.bytes());
        match timer.timeout_at(now + timeout, exchange).await {
            None => Exchange::failed(Outcome::Timeout, ""),
            Some(Err(error)) => Exchange::from(error),
            Some(Ok((connection, head))) => {
                let checked = check(
                    &head,
                    self.request.form(),
                    connection.body(&head),
                    self.request.message(),
                );
                self.connection = Some(connection).filter(|_| !head.is_last);
                checked
            }
        }
    }
}

// === impl Run ===

impl Run {
    /// Waits until one more client is of use: a request is due, no connection is idle, and none is about to be. A burst of
    /// connects would delay the responses that make more connections unnecessary.
    pub(crate) async fn needs_client(&self) {
        loop {
            self.pacer.no_idle_connection().await;
            if self.connecting.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }

    /// Whether [`RequestLog::close`] has ended the run.
    pub(crate) fn is_closed(&self) -> bool {
        self.load.log.as_ref().is_some_and(RequestLog::is_closed)
    }

    async fn connect(&self) -> Result<Connection, ExchangeError> {
        let connection = Connection::connect(self.load.target).await?;
        self.recorder.lock().connections_opened += 1;
        Ok(connection)
    }

    /// Uses a new connection if there is no kept one, or the server has closed it.
    async fn exchange(
        &self,
        kept: Option<Connection>,
        request: &[u8],
    ) -> Result<(Connection, ResponseHead), ExchangeError> {
        let mut connection = match kept.map(|kept| (kept.idle_state(), kept)) {
            Some((IdleState::Usable, kept)) => kept,
            Some((IdleState::HasSurplus, _)) => return Err(ExchangeError::Surplus),
            Some((IdleState::ClosedByServer, _)) | None => self.connect().await?,
        };
        let head = connection.exchange(request).await?;
        Ok((connection, head))
    }
}

fn check(head: &ResponseHead, form: Form, body: &[u8], message: &[u8]) -> Exchange {
    if head.status != 200 {
        return Exchange::failed(Outcome::Status(head.status), "");
    }
    match response::check(head, form, body, message) {
        Ok(id) => Exchange::ok(id),
        Err(wrong) => {
            let text = |bytes: &[u8]| -> String {
                let text = String::from_utf8_lossy(bytes);
                text.chars().take(MAX_SAMPLE_CHARS).collect()
            };
            let detail = format!("wanted {:?}, got {:?}", text(message), text(body));
            Exchange::failed(Outcome::Wrong(wrong), detail)
        }
    }
}

// === impl Exchange ===

impl Exchange {
    pub(crate) fn ok(id: Uuid) -> Self {
        Self {
            outcome: Outcome::Ok,
            id: Some(id),
            detail: String::new(),
        }
    }

    pub(crate) fn failed(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self {
            outcome,
            id: None,
            detail: detail.into(),
        }
    }
}

impl From<ExchangeError> for Exchange {
    fn from(error: ExchangeError) -> Self {
        let outcome = match error {
            ExchangeError::Connect(_) => Outcome::NoConnection,
            ExchangeError::Closed { .. } => Outcome::ConnectionClosed,
            ExchangeError::BadResponse(_) => Outcome::Wrong(Wrong::Malformed),
            ExchangeError::Surplus => Outcome::Wrong(Wrong::Surplus),
        };
        let cause = error.source().map(|source| format!(": {source}"));
        Self::failed(outcome, format!("{error}{}", cause.unwrap_or_default()))
    }
}

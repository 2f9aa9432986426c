//! A run from its beginning to its end: opens connections, starts clients, waits for the last one.
//!
//! The clock starts when the connections are open. The run ends by itself: the pacer gives out no more requests, and the
//! timeout bounds the ones in flight. Dropping the future drops all clients.

use crate::{
    client::{Client, Run},
    connection::Connection,
    duplicates::RecentIds,
    load::{Connections, Load, LoadError, Mode, RequestKind},
    pacer::Pacer,
    recorder::Recorder,
    report::Report,
    request::random_run_id,
    timer::PreciseTimer,
};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    future::Future,
    pin::pin,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

/// Connections opened without a pause: an eighth of the usual listen backlog (1,024 in tokio). The kernel retries a connect
/// that meets a full backlog after a second.
const CONNECT_BURST: usize = 128;

/// For the server to accept a burst.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

pub(crate) async fn run(load: Load, stop: impl Future<Output = ()>) -> Result<Report, LoadError> {
    let timer = match load.mode {
        Mode::Open { .. } => PreciseTimer::new().map_err(LoadError::Timer)?,
        Mode::Closed { .. } => PreciseTimer::default(),
    };
    let mut stop = pin!(stop);
    let (mut connections, mut is_interrupted) = tokio::select! {
        biased;
        () = &mut stop => (VecDeque::new(), true),
        connections = open_connections(&load) => (connections, false),
    };

    let pacer = Pacer::new(load.mode, load.warmup, load.until, timer);
    let window = pacer.end().map(|end| (pacer.measured_from, end));
    let recent_ids = matches!(load.request, RequestKind::Get).then(RecentIds::new);
    let mut recorder = Recorder::new(load.timeout, window, recent_ids);
    recorder.connections_opened = u64::try_from(connections.len()).unwrap_or(u64::MAX);
    let run = Arc::new(Run {
        load,
        id: random_run_id(),
        pacer,
        recorder: Mutex::new(recorder),
        connecting: AtomicUsize::new(0),
    });

    let max_clients = run.load.mode.max_connections();
    let mut clients = JoinSet::new();
    let mut wanted = if is_interrupted {
        0
    } else {
        initial_connections(run.load.mode)
    };
    let mut started = 0;
    loop {
        while started < wanted {
            clients.spawn(Client::new(Arc::clone(&run), connections.pop_front()).run());
            started += 1;
        }
        if clients.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            () = &mut stop => {
                is_interrupted = true;
                break;
            }
            Some(ended) = clients.join_next() => if let Err(error) = ended && let Ok(panic) = error.try_into_panic() {
                // A bug of the generator must not look like a measurement.
                std::panic::resume_unwind(panic);
            },
            () = run.needs_client(), if started < max_clients && !run.is_closed() => wanted += 1,
        }
    }
    let interrupted = is_interrupted.then(Instant::now);
    // Requests in flight are in no count.
    clients.shutdown().await;
    Ok(Report::new(&run, interrupted))
}

fn initial_connections(mode: Mode) -> usize {
    match mode {
        Mode::Open {
            connections: Connections::UpTo(_),
            ..
        } => 1,
        _ => mode.max_connections(),
    }
}

/// Opens connections one after the other, so that ten thousand do not overrun the server's backlog. Ends at the first
/// error and after the timeout; clients without a connection open their own.
async fn open_connections(load: &Load) -> VecDeque<Connection> {
    let deadline = Instant::now() + load.timeout;
    let mut connections = VecDeque::new();
    for _ in 0..initial_connections(load.mode) {
        match timeout_at(deadline, Connection::connect(load.target)).await {
            Ok(Ok(connection)) => connections.push_back(connection),
            _ => break,
        }
        if connections.len().is_multiple_of(CONNECT_BURST) {
            sleep(CONNECT_PAUSE).await;
        }
    }
    connections
}

//! A run from its beginning to its end: opens connections, starts callers, waits for the last one.
//!
//! The clock starts when the connections are open. It ends by itself: the schedule runs dry, and the timeout bounds
//! whatever a caller is at by then. Dropping the future drops all callers.

use crate::{
    alarm::Alarm,
    caller::{Caller, Shared},
    load::{Connections, Load, LoadError, Mode, Question},
    report::Report,
    request::RunId,
    schedule::Schedule,
    seen::Seen,
    tally::Tally,
    wire::Wire,
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
    time::{Instant, sleep, timeout},
};

/// Connections opened in a row: an eighth of the backlog that listeners have by default (1,024 in tokio). What finds it
/// full is tried again by the kernel after a second, and ten of those are as long as a server keeps an idle connection.
const IN_A_ROW: usize = 128;

/// The pause after them, for the server to accept.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) async fn run(load: Load, stop: impl Future<Output = ()>) -> Result<Report, LoadError> {
    let run = RunId::random();
    let alarm = match load.mode {
        Mode::Open { .. } => Some(Alarm::precise().map_err(LoadError::Timer)?),
        Mode::Closed { .. } => None,
    };
    let mut stop = pin!(stop);
    let (mut wires, mut interrupted) = tokio::select! {
        // A stop that is there already is seen first.
        biased;
        () = &mut stop => (VecDeque::new(), true),
        wires = open(&load) => (wires, false),
    };

    let mut tally = Tally::new(load.timeout, matches!(load.question, Question::Get).then(Seen::new));
    tally.opened = u64::try_from(wires.len()).unwrap_or(u64::MAX);
    let schedule = Schedule::new(load.mode, load.warmup, load.until, alarm);
    tally.measure_between(schedule.measured_from(), schedule.end());
    let shared = Arc::new(Shared {
        load,
        schedule,
        tally: Mutex::new(tally),
        newcomers: AtomicUsize::new(0),
    });

    // In the order in which the first were connected.
    let mut targets = shared.load.targets.iter().copied().cycle();
    let mut callers = JoinSet::new();
    let mut hired = 0;
    let mut wanted = if interrupted { 0 } else { at_first(shared.load.mode) };
    loop {
        while hired < wanted
            && let Some(target) = targets.next()
        {
            callers.spawn(Caller::new(Arc::clone(&shared), target, &run, wires.pop_front()).run());
            hired += 1;
        }
        if callers.is_empty() {
            break;
        }
        tokio::select! {
            // A stop before anything else.
            biased;
            () = &mut stop => {
                interrupted = true;
                break;
            }
            Some(ended) = callers.join_next() => if let Err(error) = ended && let Ok(panic) = error.try_into_panic() {
                // A bug in the generator must not pass for a measurement.
                std::panic::resume_unwind(panic);
            },
            () = shared.short_handed(), if hired < shared.load.mode.max_connections() && !shared.is_closed() => wanted += 1,
        }
    }
    let ended = Instant::now();
    // Whoever still waits has lost the right to count.
    callers.shutdown().await;
    let tally = &mut *shared.tally.lock();
    Ok(Report::new(
        shared.load.clone(),
        &run,
        tally,
        &shared.schedule,
        interrupted.then_some(ended),
    ))
}

fn at_first(mode: Mode) -> usize {
    match mode {
        Mode::Open {
            connections: Connections::UpTo(_),
            ..
        } => 1,
        _ => mode.max_connections(),
    }
}

/// Opens the connections of the beginning one after the other, so that ten thousand do not overrun the server's
/// backlog. It ends early when one fails and after the timeout: what is missing then is left to its caller.
async fn open(load: &Load) -> VecDeque<Wire> {
    let deadline = Instant::now() + load.timeout;
    let mut wires = VecDeque::new();
    for target in load.targets.iter().cycle().take(at_first(load.mode)) {
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout(left, Wire::connect(*target)).await {
            Ok(Ok(wire)) => wires.push_back(wire),
            _ => break,
        }
        if wires.len().is_multiple_of(IN_A_ROW) {
            sleep(PAUSE).await;
        }
    }
    wires
}

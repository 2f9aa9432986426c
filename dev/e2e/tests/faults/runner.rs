//! Selects scenarios, runs them one after the other, and reports the results.

use std::{
    any::Any,
    collections::BTreeMap,
    future::Future,
    pin::{Pin, pin},
    process::ExitCode,
    thread,
    time::Duration,
};

use e2e::{binaries, descriptors, engine::Engine, environment::Environment, process};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::{
    fault::Fault,
    table::{Row, Table},
    verdict::Verdict,
};

/// The bound on one scenario. The longest one takes ten minutes.
const LIMIT: Duration = Duration::from_secs(900);

/// The engine of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    BuiltIn,
    Kafka,
}

pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Verdict> + 'a>>;

/// A scenario: one line of the table.
pub(crate) struct Scenario {
    pub(crate) number: u32,
    pub(crate) place: Place,
    pub(crate) what: &'static str,
    pub(crate) pass: &'static str,
    pub(crate) run: for<'a> fn(&'a Fault<'a>) -> Running<'a>,
}

/// Functions as [`Scenario`]s.
macro_rules! scenarios {
    ($($number:literal, $place:ident, $module:ident::$name:ident: $what:literal => $pass:literal;)*) => {
        &[$($crate::runner::Scenario {
            number: $number,
            place: $place,
            what: $what,
            pass: $pass,
            run: |fault| Box::pin($crate::$module::$name(fault)),
        }),*]
    };
}
pub(crate) use scenarios;

/// Runs the scenarios that the command line selects.
pub(crate) fn run(scenarios: &[Scenario]) -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if let Some(word) = words
        .iter()
        .find(|word| !scenarios.iter().any(|scenario| scenario.is(word)))
    {
        say(&format!(
            "{word:?} is no scenario: a number, or an engine (kafka, built_in)"
        ));
        return ExitCode::from(64);
    }
    let chosen: Vec<_> = scenarios.iter().filter(|scenario| scenario.is_chosen(&words)).collect();
    let built = if cfg!(debug_assertions) {
        binaries::build()
    } else {
        binaries::build_static()
    };
    if let Err(error) = built {
        say(&error);
        return ExitCode::FAILURE;
    }
    descriptors::raise();
    thread::spawn(process::end_at_a_signal);
    let environment = Environment::read();
    let ci = environment.ci;
    let begun = Instant::now();
    let rates = Mutex::default();
    let mut table = Table::default();
    // One engine after the other: the nodes of one take CPU from the other.
    for engine in [Engine::built_in(), Engine::kafka(environment)] {
        let missing = engine.cannot_start_nodes().map(str::to_owned);
        for scenario in chosen.iter().filter(|scenario| scenario.place.name() == engine.name()) {
            if let Some(why) = &missing {
                table.skip(scenario, why, ci);
                continue;
            }
            let row = run_one(scenario, &engine, &rates);
            say(&row.to_string());
            table.add(row);
        }
    }
    table.finish(&rates.lock(), begun.elapsed())
}

fn run_one(scenario: &Scenario, engine: &Engine, rates: &Mutex<BTreeMap<String, f64>>) -> Row {
    say(&format!("{:>2} {}: {}", scenario.number, engine.name(), scenario.what));
    let begun = Instant::now();
    let ended = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let fault = Fault::new(engine, rates);
            runtime.block_on(async {
                let mut running = pin!((scenario.run)(&fault));
                // `running` is dropped during the panic: its processes then print their logs.
                match timeout(LIMIT, &mut running).await {
                    Ok(verdict) => verdict,
                    Err(_elapsed) => panic!("hung: it did not end within {LIMIT:?}"),
                }
            })
        });
        thread.join()
    });
    let verdict = ended.unwrap_or_else(|panic| Verdict::broken(message_of(&*panic)));
    Row::new(scenario, verdict, begun.elapsed())
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
        .to_owned()
}

// === impl Scenario ===

impl Scenario {
    fn is(&self, word: &str) -> bool {
        word == self.place.name() || word.parse() == Ok(self.number)
    }

    /// Whether one of the numbers and one of the engines match; no word of a kind matches all.
    fn is_chosen(&self, words: &[String]) -> bool {
        let (numbers, engines): (Vec<_>, Vec<_>) = words.iter().partition(|word| word.parse::<u32>().is_ok());
        [numbers, engines]
            .iter()
            .all(|kind| kind.is_empty() || kind.iter().any(|word| self.is(word)))
    }
}

// === impl Place ===

impl Place {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built_in",
            Self::Kafka => "kafka",
        }
    }
}

#[expect(clippy::print_stderr, reason = "progress is for the developer who runs the suite")]
pub(crate) fn say(text: &str) {
    eprintln!("faults: {text}");
}

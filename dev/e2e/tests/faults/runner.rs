//! Chooses scenarios, plays them one after the other, and says what came of it.

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
    stage::Stage,
    table::{Row, Table},
    verdict::Verdict,
};

/// The bound on one scenario: it ends one that hangs.
const LIMIT: Duration = Duration::from_secs(900);

/// Scenarios that take at most so many seconds are `fast`.
const FAST: u32 = 25;

/// What it is played on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    BuiltIn,
    Kafka,
}

/// A scenario that runs.
pub(crate) type Playing<'a> = Pin<Box<dyn Future<Output = Verdict> + 'a>>;

/// One line of the table.
pub(crate) struct Scenario {
    pub(crate) number: u32,
    pub(crate) place: Place,
    pub(crate) seconds: u32,
    pub(crate) what: &'static str,
    pub(crate) pass: &'static str,
    pub(crate) play: for<'a> fn(&'a Stage<'a>) -> Playing<'a>,
}

/// Functions as scenarios.
macro_rules! scenarios {
    ($($number:literal, $place:ident, $seconds:literal, $module:ident::$name:ident:
        $what:literal => $pass:literal;)*) => {
        &[$($crate::runner::Scenario {
            number: $number,
            place: $place,
            seconds: $seconds,
            what: $what,
            pass: $pass,
            play: |stage| Box::pin($crate::$module::$name(stage)),
        }),*]
    };
}
pub(crate) use scenarios;

/// Plays what the command line names.
pub(crate) fn run(scenarios: &[Scenario]) -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if let Some(word) = words.iter().find(|word| !scenarios.iter().any(|it| it.is(word))) {
        say(&format!(
            "{word:?} is no scenario: a number, an engine (kafka, built_in) or fast"
        ));
        return ExitCode::from(64);
    }
    let chosen: Vec<_> = scenarios.iter().filter(|it| it.is_chosen(&words)).collect();
    if let Err(error) = binaries::build_static() {
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
    // One after the other, so that the nodes of one engine do not disturb the other.
    for engine in [Engine::built_in(), Engine::kafka(environment)] {
        let missing = engine.cannot_stop_nodes().map(str::to_owned);
        for scenario in chosen.iter().filter(|it| it.place.name() == engine.name()) {
            if let Some(why) = &missing {
                table.skip(scenario, why, ci);
                continue;
            }
            let row = play(scenario, &engine, &rates);
            say(&row.to_string());
            table.add(row);
        }
    }
    table.finish(&rates.lock(), begun.elapsed())
}

fn play(scenario: &Scenario, engine: &Engine, rates: &Mutex<BTreeMap<String, f64>>) -> Row {
    say(&format!("{:>2} {}: {}", scenario.number, engine.name(), scenario.what));
    let begun = Instant::now();
    let ended = thread::scope(|scope| {
        let playing = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let stage = Stage::new(engine, rates);
            runtime.block_on(async {
                let mut playing = pin!((scenario.play)(&stage));
                // It is dropped during the panic, not before: that is how its processes know that they should show
                // their logs.
                match timeout(LIMIT, &mut playing).await {
                    Ok(verdict) => verdict,
                    Err(_elapsed) => panic!("it did not end within {LIMIT:?}"),
                }
            })
        });
        playing.join()
    });
    let verdict = ended.unwrap_or_else(|panic| Verdict::broken(words_of(&*panic)));
    Row::new(scenario, verdict, begun.elapsed())
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
        .to_owned()
}

// === impl Scenario ===

impl Scenario {
    fn is(&self, word: &str) -> bool {
        word == self.place.name() || word.parse() == Ok(self.number) || (word == "fast" && self.seconds <= FAST)
    }

    /// Numbers are alternatives to each other, and so are engines; both kinds narrow down.
    fn is_chosen(&self, words: &[String]) -> bool {
        let (numbers, others): (Vec<_>, Vec<_>) = words.iter().partition(|it| it.parse::<u32>().is_ok());
        let (fast, engines): (Vec<_>, Vec<_>) = others.into_iter().partition(|it| *it == "fast");
        [numbers, fast, engines]
            .iter()
            .all(|kind| kind.is_empty() || kind.iter().any(|it| self.is(it)))
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

#[expect(clippy::print_stderr, reason = "progress is for whoever runs the suite")]
pub(crate) fn say(text: &str) {
    eprintln!("faults: {text}");
}

//! Runs the tests on the engines.

use std::{
    future::Future,
    pin::{Pin, pin},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use e2e::{binaries, descriptors, engine::Engine, environment::Environment, process};
use libtest_mimic::{Arguments, Completion, Trial};
use tokio::time::timeout;

/// The bound on one test, its wait for a place for nodes of its own included, which on a busy machine is most of it.
/// None takes nearly as long: it ends a test that hangs.
const LIMIT: Duration = Duration::from_secs(1_800);

/// Tests at the same time, at least: most of them wait most of the time.
const MIN_THREADS: usize = 8;

/// A test that runs on an engine.
type Running<'a> = Pin<Box<dyn Future<Output = Completion> + 'a>>;

/// A test of an engine.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) run: for<'a> fn(&'a Engine) -> Running<'a>,
}

/// A test that compares two engines: the built-in broker, and Apache Kafka.
pub(crate) struct TestOfBoth {
    pub(crate) name: &'static str,
    pub(crate) run: for<'a> fn(&'a Engine, &'a Engine) -> Running<'a>,
}

/// What a test comes to: nothing, or why it was skipped.
pub(crate) trait Outcome {
    fn completion(self) -> Completion;
}

/// Functions as tests, named after their modules.
macro_rules! tests {
    ($($module:ident::{$($name:ident),* $(,)?})*) => {
        &[$($($crate::runner::Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: |engine| Box::pin(async move {
                $crate::runner::Outcome::completion($crate::$module::$name(engine).await)
            }),
        }),*),*]
    };
}
pub(crate) use tests;

/// Functions of two engines as tests.
macro_rules! tests_of_both {
    ($($module:ident::{$($name:ident),* $(,)?})*) => {
        &[$($($crate::runner::TestOfBoth {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: |built_in, kafka| Box::pin(async move {
                $crate::runner::Outcome::completion($crate::$module::$name(built_in, kafka).await)
            }),
        }),*),*]
    };
}
pub(crate) use tests_of_both;

/// Functions that need no engine as tests.
macro_rules! tests_without_engine {
    ($($module:ident::{$($name:ident),* $(,)?})*) => {
        &[$($($crate::runner::Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: |_| Box::pin(async {
                $crate::runner::Outcome::completion($crate::$module::$name().await)
            }),
        }),*),*]
    };
}
pub(crate) use tests_without_engine;

/// Runs the tests that share a cluster, those that stop nodes, those that compare the engines, and those that need none.
pub(crate) fn run(
    shared: &'static [Test],
    stopping: &'static [Test],
    comparing: &'static [TestOfBoth],
    alone: &'static [Test],
) -> ExitCode {
    let mut args = Arguments::from_args();
    let environment = Environment::read();
    let ci = environment.ci;
    if !args.list
        && let Err(error) = binaries::build()
    {
        say(&error);
        return ExitCode::FAILURE;
    }
    if args.test_threads.is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        args.test_threads = Some(cores.max(MIN_THREADS));
    }

    descriptors::raise();
    thread::spawn(process::end_at_a_signal);
    let engines = [Engine::built_in(), Engine::kafka(environment)].map(Run::new);
    let mut trials = Vec::new();
    // These ask for no engine, and are given any.
    trials.extend(
        alone
            .iter()
            .map(|test| trial_on("no_engine", test, &Run::new(Engine::built_in()), None)),
    );
    for run in &engines {
        let name = run.engine.name();
        // Those that stop nodes take longest and mostly wait: the others run meanwhile.
        for (tests, missing) in [
            (stopping, run.engine.cannot_stop_nodes()),
            (shared, run.engine.cannot_share()),
        ] {
            trials.extend(tests.iter().map(|test| trial_on(name, test, run, missing)));
        }
    }
    let [built_in, kafka] = &engines;
    // The built-in broker can always run. Where Kafka cannot, the tests that share a cluster are not run on it either,
    // and the summary says so once.
    let missing = kafka.engine.cannot_share();
    trials.extend(
        comparing
            .iter()
            .map(|test| trial_on_both(test, built_in, kafka, missing)),
    );
    let conclusion = libtest_mimic::run(&args, trials);
    if args.list {
        return ExitCode::SUCCESS;
    }

    let mut complete = true;
    let mut ran = Vec::new();
    // Taking them apart stops the nodes.
    for Run { engine, tests } in engines {
        for (what, missing) in [
            ("the tests that share a cluster", engine.cannot_share()),
            ("the tests that stop nodes", engine.cannot_stop_nodes()),
        ] {
            if let Some(why) = missing {
                complete = false;
                say(&format!("NOT RUN on {}: {what}: {why}", engine.name()));
            }
        }
        match tests.load(Ordering::Relaxed) {
            0 => {}
            tests => ran.push(format!("{} ({tests} tests)", engine.description())),
        }
    }
    if ran.is_empty() {
        ran.push("none".to_owned());
    }
    say(&format!(
        "engines run: {}; {} passed, {} failed, {} skipped, {} filtered out",
        ran.join(", "),
        conclusion.num_passed,
        conclusion.num_failed,
        conclusion.num_ignored,
        conclusion.num_filtered_out
    ));
    if ci && !complete {
        say("with CI=true every engine has to run");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// An engine, and how many tests ran on it: those that were not skipped.
#[derive(Clone)]
struct Run {
    engine: Arc<Engine>,
    tests: Arc<AtomicUsize>,
}

// === impl Run ===

impl Run {
    fn new(engine: Engine) -> Self {
        Self {
            engine: Arc::new(engine),
            tests: Arc::default(),
        }
    }

    /// The engine, for one more test.
    fn counted(&self) -> &Engine {
        self.tests.fetch_add(1, Ordering::Relaxed);
        &self.engine
    }
}

/// A test of one engine.
fn trial_on(engine_name: &str, test: &'static Test, run: &Run, missing: Option<&str>) -> Trial {
    let run = run.clone();
    trial(engine_name, test.name, missing, async move || {
        (test.run)(run.counted()).await
    })
}

/// A test of both engines.
fn trial_on_both(test: &'static TestOfBoth, built_in: &Run, kafka: &Run, missing: Option<&str>) -> Trial {
    let (built_in, kafka) = (built_in.clone(), kafka.clone());
    trial("both", test.name, missing, async move || {
        (test.run)(built_in.counted(), kafka.counted()).await
    })
}

/// A test under its full name.
fn trial(
    first_name: &str,
    name: &str,
    missing: Option<&str>,
    test: impl AsyncFnOnce() -> Completion + Send + 'static,
) -> Trial {
    let missing = missing.map(str::to_owned);
    Trial::ignorable_test(format!("{first_name}::{name}"), move || {
        if let Some(why) = missing {
            return Ok(Completion::ignored_with(why));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut running = pin!(test());
            // It is dropped during the panic, not before: that is how its processes know that they should show
            // their logs.
            match timeout(LIMIT, &mut running).await {
                Ok(completion) => Ok(completion),
                Err(_elapsed) => panic!("the test did not end within {LIMIT:?}"),
            }
        })
    })
}

// === impl Outcome ===

impl Outcome for () {
    fn completion(self) -> Completion {
        Completion::Completed
    }
}

impl Outcome for Completion {
    fn completion(self) -> Completion {
        self
    }
}

#[expect(clippy::print_stderr, reason = "the summary is for whoever runs the tests")]
fn say(text: &str) {
    eprintln!("e2e: {text}");
}

//! Runs the tests: gives each its engine or its nodes, bounds its time, and reports the slowest ones.

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

use e2e::{
    binaries,
    cluster::{Cluster, NodeSettings},
    descriptors,
    engine::Engine,
    environment::Environment,
    examples::{self, InstallError},
    process,
    secure_cluster::SecureCluster,
};
use libtest_mimic::{Arguments, Completion, Trial};
use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::security;

/// The bound on one test. The start of its nodes, the wait for its turn on them and the installation of examples do not count.
const LIMIT: Duration = Duration::from_secs(120);

/// Tests per core that run at the same time. More of them starve the nodes of Kafka, and timeouts expire.
const RUNNING_PER_CORE: usize = 2;

/// The permits of a test of examples, whose services start a JVM or Node.js, and whose limit includes their start.
const EXAMPLE_PERMITS: u32 = 2;

/// Tests in the list of the slowest.
const SLOWEST: usize = 10;

type Running<'a> = Pin<Box<dyn Future<Output = Completion> + 'a>>;

/// A test: its name with the module, and its function.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
}

/// The function of a test, by what the test needs.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// Processes only.
    Alone(fn() -> Running<'static>),
    /// The shared cluster of an engine.
    Shared(for<'a> fn(&'a Engine) -> Running<'a>),
    /// The shared cluster of an engine, and these services of `examples/`.
    Examples(&'static [&'static str], for<'a> fn(&'a Engine) -> Running<'a>),
    /// A node with TLS, SASL and ACLs, with these properties.
    Secured(&'static str, for<'a> fn(&'a SecureCluster) -> Running<'a>),
    /// Nodes to stop.
    OnNodes(u32, NodeSettings, for<'a> fn(&'a Cluster) -> Running<'a>),
    /// The shared clusters of the built-in broker and of Kafka.
    Compared(for<'a> fn(&'a Engine, &'a Engine) -> Running<'a>),
}

/// The engines on which tests run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    BuiltIn,
    Kafka,
    Both,
}

/// The result of a test function: nothing, or the reason of a skip.
pub(crate) trait Outcome {
    fn completion(self) -> Completion;
}

/// Test functions as [`Test`]s, named after their modules.
macro_rules! tests {
    (@ $kind:ident $before:tt $params:tt $($module:ident::{$($name:ident),* $(,)?})*) => {
        vec![$($($crate::runner::Test {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: $crate::runner::run_of!($kind $before $params $module::$name),
        }),*),*]
    };
    (alone: $($tests:tt)*) => { tests!(@ Alone () () $($tests)*) };
    (shared: $($tests:tt)*) => { tests!(@ Shared () (engine) $($tests)*) };
    (examples $names:expr; $($tests:tt)*) => { tests!(@ Examples (&$names) (engine) $($tests)*) };
    (secured $properties:expr; $($tests:tt)*) => { tests!(@ Secured ($properties) (cluster) $($tests)*) };
    (compared: $($tests:tt)*) => { tests!(@ Compared () (built_in, kafka) $($tests)*) };
    ($nodes:literal nodes, $settings:expr; $($tests:tt)*) => {
        tests!(@ OnNodes ($nodes, $settings) (cluster) $($tests)*)
    };
}
pub(crate) use tests;

/// One test function as a [`Run`].
macro_rules! run_of {
    ($kind:ident ($($before:expr),*) ($($param:ident),*) $module:ident::$name:ident) => {
        $crate::runner::Run::$kind($($before,)* |$($param),*| Box::pin(async move {
            $crate::runner::Outcome::completion($crate::$module::$name($($param),*).await)
        }))
    };
}
pub(crate) use run_of;

/// What all tests of a run share.
struct Suite {
    /// A missing program is a failure.
    ci: bool,
    built_in: Counted,
    kafka: Counted,
    /// Bounds the tests that run. Those that wait for nodes hold no permit.
    running: Semaphore,
    /// All permits of `running`.
    permits: u32,
    /// One test with a secured node at a time, like tests on nodes of their own.
    secured: Semaphore,
    times: Mutex<Vec<(Duration, String)>>,
}

/// An engine and the number of tests that ran on it.
struct Counted {
    engine: Engine,
    tests: AtomicUsize,
}

/// Builds the binaries and runs the tests. With `CI=true`, an engine that cannot run is a failure.
pub(crate) fn run(groups: Vec<(On, Vec<Test>)>) -> ExitCode {
    let mut args = Arguments::from_args();
    let environment = Environment::read();
    let ci = environment.ci;
    if !args.list
        && let Err(error) = binaries::build()
    {
        say(&error);
        return ExitCode::FAILURE;
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let running = args.test_threads.unwrap_or(cores * RUNNING_PER_CORE);
    descriptors::raise();
    thread::spawn(process::end_at_a_signal);

    let suite = Arc::new(Suite {
        ci,
        built_in: Counted::new(Engine::built_in()),
        kafka: Counted::new(Engine::kafka(environment)),
        running: Semaphore::new(running),
        permits: u32::try_from(running).unwrap_or(u32::MAX),
        secured: Semaphore::new(1),
        times: Mutex::default(),
    });
    let trials = trials(&suite, groups);
    // Tests that wait for nodes must not take the threads of the others.
    args.test_threads = Some(running + trials.len());
    let conclusion = libtest_mimic::run(&args, trials);
    if args.list {
        return ExitCode::SUCCESS;
    }

    suite.report_slowest();
    let engines: Vec<_> = [&suite.built_in, &suite.kafka]
        .into_iter()
        .filter_map(Counted::summary)
        .collect();
    say(&format!(
        "engines run: {}; {} passed, {} failed, {} skipped, {} filtered out",
        if engines.is_empty() {
            "none".to_owned()
        } else {
            engines.join(", ")
        },
        conclusion.num_passed,
        conclusion.num_failed,
        conclusion.num_ignored,
        conclusion.num_filtered_out
    ));
    let kafka = &suite.kafka.engine;
    if let Some(why) = kafka.cannot_share().or(kafka.cannot_start_nodes()) {
        say(&format!("NOT COMPLETE on {}: {why}", kafka.name()));
        if ci {
            say("with CI=true every engine has to run");
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}

/// Tests on nodes of Kafka come first, because they run one after the other and mostly wait.
fn trials(suite: &Arc<Suite>, groups: Vec<(On, Vec<Test>)>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (on, tests) in groups {
        for test in tests {
            for engine in [On::Kafka, On::BuiltIn] {
                if on == engine || on == On::Both {
                    let is_first = engine == On::Kafka && matches!(test.run, Run::OnNodes(..) | Run::Secured(..));
                    trials.push((!is_first, suite.trial(engine, &test)));
                }
            }
        }
    }
    trials.sort_by_key(|(order, _)| *order);
    trials.into_iter().map(|(_, trial)| trial).collect()
}

// === impl Suite ===

impl Suite {
    /// One test on one engine.
    fn trial(self: &Arc<Self>, on: On, test: &Test) -> Trial {
        let kafka = &self.kafka.engine;
        let (first_name, missing) = match (test.run, on) {
            (Run::Secured(..), _) => ("kafka", kafka.cannot_start_nodes()),
            (Run::Alone(_), _) => ("no_engine", None),
            (Run::Compared(_), _) => ("both", kafka.cannot_share()),
            (_, On::BuiltIn) => ("built_in", None),
            (Run::Shared(_) | Run::Examples(..), _) => ("kafka", kafka.cannot_share()),
            (Run::OnNodes(..), _) => ("kafka", kafka.cannot_start_nodes()),
        };
        let name = format!("{first_name}::{}", test.name);
        let (suite, run, missing) = (Arc::clone(self), test.run, missing.map(str::to_owned));
        Trial::ignorable_test(name.clone(), move || {
            if let Some(why) = missing {
                return Ok(Completion::ignored_with(why));
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(suite.run(on, run, &name)))
        })
    }

    async fn run(&self, on: On, run: Run, name: &str) -> Completion {
        let on = if on == On::Kafka { &self.kafka } else { &self.built_in };
        match run {
            Run::Alone(test) => self.bounded(name, test).await,
            Run::Secured(properties, test) => {
                on.count();
                let _turn = self.secured.acquire().await.expect("it is never closed");
                let cluster = security::cluster(properties).await;
                self.bounded(name, || test(&cluster)).await
            }
            Run::Shared(test) => {
                let engine = on.count();
                engine.brokers().await;
                self.bounded(name, || test(engine)).await
            }
            Run::Examples(names, test) => {
                let engine = on.count();
                for name in names {
                    match examples::find(name).install().await {
                        Ok(()) => {}
                        Err(InstallError::Missing(why)) if !self.ci => return Completion::ignored_with(why),
                        Err(InstallError::Missing(why) | InstallError::Failed(why)) => panic!("{why}"),
                    }
                }
                engine.brokers().await;
                self.bounded_with(EXAMPLE_PERMITS, name, || test(engine)).await
            }
            Run::OnNodes(nodes, settings, test) => {
                let cluster = on.count().reserve(nodes, settings).await;
                self.bounded(name, || test(&cluster)).await
            }
            Run::Compared(test) => {
                let (built_in, kafka) = (self.built_in.count(), self.kafka.count());
                kafka.brokers().await;
                self.bounded(name, || test(built_in, kafka)).await
            }
        }
    }

    /// Runs a test when a permit is free, within its limit.
    async fn bounded<'a>(&self, name: &str, test: impl FnOnce() -> Running<'a>) -> Completion {
        self.bounded_with(1, name, test).await
    }

    /// Runs a test when so many permits, or all that there are, are free, within its limit.
    async fn bounded_with<'a>(&self, permits: u32, name: &str, test: impl FnOnce() -> Running<'a>) -> Completion {
        let permits = permits.min(self.permits);
        let _permits = self.running.acquire_many(permits).await.expect("it is never closed");
        let start = Instant::now();
        let mut running = pin!(test());
        let ended = timeout(LIMIT, &mut running).await;
        self.times.lock().push((start.elapsed(), name.to_owned()));
        // `running` is dropped during the panic: its processes then show their logs.
        let completion = ended.unwrap_or_else(|_elapsed| panic!("{name} hung: it did not end within {LIMIT:?}"));
        if let Completion::Ignored { reason } = &completion
            && self.ci
        {
            panic!(
                "with CI=true every test has to run: {}",
                reason.as_deref().unwrap_or_default()
            );
        }
        completion
    }

    fn report_slowest(&self) {
        let mut times = self.times.lock();
        times.sort_unstable();
        for (time, name) in times.iter().rev().take(SLOWEST) {
            say(&format!("{:6.1} s  {name}", time.as_secs_f64()));
        }
    }
}

// === impl Counted ===

impl Counted {
    fn new(engine: Engine) -> Self {
        Self {
            engine,
            tests: AtomicUsize::new(0),
        }
    }

    /// The engine, for one more test.
    fn count(&self) -> &Engine {
        self.tests.fetch_add(1, Ordering::Relaxed);
        &self.engine
    }

    fn summary(&self) -> Option<String> {
        let tests = self.tests.load(Ordering::Relaxed);
        (tests > 0).then(|| format!("{} ({tests} tests)", self.engine.description()))
    }
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

/// Prints a line beside the results of the tests.
#[expect(clippy::print_stderr, reason = "the summary is for the developer who runs the tests")]
pub(crate) fn say(text: &str) {
    eprintln!("e2e: {text}");
}

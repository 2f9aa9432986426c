//! What was measured, round by round, and the medians over the rounds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bench::{Histogram, Report};
use serde_json::Value;

use crate::{
    machine::Machine,
    meter::{Cost, Role},
    plan::Shape,
    scale::Ask,
};

/// One load on one variant.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) variant: String,
    pub(crate) shape: Shape,
    /// In a contest, the variant that was measured directly before or after.
    pub(crate) beside: Option<String>,
    pub(crate) report: Report,
    pub(crate) costs: BTreeMap<Role, Cost>,
}

/// What was measured several times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Everything of a session.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// In the order of the table.
    pub(crate) variants: Vec<String>,
    /// Those that are foreign commands.
    pub(crate) commands: Vec<String>,
    /// The variant that is judged.
    pub(crate) judged: String,
    /// Its other build.
    pub(crate) other_build: Option<String>,
    pub(crate) rounds: Vec<Round>,
    /// Latency of Kafka alone, by engine, a histogram per round.
    pub(crate) floor: BTreeMap<&'static str, Vec<Histogram<u64>>>,
    /// Of the judged variant's engine.
    pub(crate) engine: &'static str,
    /// From start to ready, by variant: gateway and worker, a pair per start.
    pub(crate) cold_starts: BTreeMap<String, Vec<[Duration; 2]>>,
    /// By variant: gateway and worker after their start, in bytes.
    pub(crate) at_rest: BTreeMap<String, [u64; 2]>,
    /// What fleets of all sizes were asked, if they were.
    pub(crate) scale: Option<[Ask; 3]>,
    /// What can be counted, as the binary `budget` gives it.
    pub(crate) budget: Option<Value>,
    /// What could not be measured, and why.
    pub(crate) notes: Vec<String>,
}

// === impl Round ===

impl Round {
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        self.report.latency_at(quantile).as_secs_f64() * 1e3
    }

    /// CPU time per right answer, in microseconds; `None` where there was no such process or no answer.
    pub(crate) fn cpu_us(&self, role: Role) -> Option<f64> {
        let cost = self.costs.get(&role)?;
        let answers = self.report.ok_in_time;
        (answers > 0).then(|| cost.cpu.as_secs_f64() * 1e6 / answers as f64)
    }

    /// The CPU time per right answer of all that is not Kafka and not the generator.
    pub(crate) fn own_cpu_us(&self) -> Option<f64> {
        let roles = [Role::Gateway, Role::Worker, Role::Server];
        roles.iter().filter_map(|it| self.cpu_us(*it)).reduce(|a, b| a + b)
    }

    /// Right answers per second: a figure, as all that may be missing.
    pub(crate) fn throughput(&self) -> Option<f64> {
        Some(self.report.throughput())
    }

    /// Everything but right answers.
    pub(crate) fn errors(&self) -> u64 {
        let outcomes = &self.report.outcomes;
        let warmup = &self.report.warmup;
        (outcomes.total() - outcomes.ok) + (warmup.total() - warmup.ok)
    }
}

// === impl Figure ===

impl Figure {
    /// `None` where there is none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<_> = values.into_iter().collect();
        Some(Self {
            least: values.iter().copied().reduce(f64::min)?,
            most: values.iter().copied().reduce(f64::max)?,
            median: median(values)?,
        })
    }

    /// How far they lie apart, in percent.
    pub(crate) fn spread_percent(self) -> f64 {
        (self.most - self.least) / self.median * 100.0
    }
}

/// What was measured once.
impl From<f64> for Figure {
    fn from(value: f64) -> Self {
        Self {
            median: value,
            least: value,
            most: value,
        }
    }
}

// === impl Results ===

impl Results {
    /// The rounds of a load on a variant, without its contests: these are with a few others, and at another time.
    pub(crate) fn of<'a>(&'a self, variant: &'a str, shape: Shape) -> impl DoubleEndedIterator<Item = &'a Round> {
        self.all_of(variant, shape).filter(|it| it.beside.is_none())
    }

    fn all_of<'a>(&'a self, variant: &'a str, shape: Shape) -> impl DoubleEndedIterator<Item = &'a Round> {
        self.rounds
            .iter()
            .filter(move |it| it.variant == variant && it.shape == shape)
    }

    /// Everything but right answers, in contests too.
    pub(crate) fn errors(&self, variant: &str, shape: Shape) -> u64 {
        self.all_of(variant, shape).map(Round::errors).sum()
    }

    /// The median of a figure over the rounds.
    pub(crate) fn median(&self, variant: &str, shape: Shape, figure: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        median(self.of(variant, shape).filter_map(figure))
    }

    /// A figure of the judged variant to that of another one, see [`ratio`]: of their contests, if they met in some.
    pub(crate) fn judged_to(
        &self,
        other: &str,
        shape: Shape,
        figure: impl Fn(&Round) -> Option<f64>,
    ) -> Option<Figure> {
        let met = self.met(other, shape);
        let figures = |variant, beside: &str| {
            let beside = met.then(|| beside.to_owned());
            let rounds = self.all_of(variant, shape).filter(move |it| it.beside == beside);
            rounds.map(&figure)
        };
        ratio(figures(&self.judged, other), figures(other, &self.judged))
    }

    /// Whether the judged variant met this one in contests.
    pub(crate) fn met(&self, other: &str, shape: Shape) -> bool {
        self.all_of(other, shape).any(|it| it.beside.is_some())
    }

    /// The settings of one foreign system, which is the first word of their names, the fastest beside the judged variant first:
    /// each with how many times as fast that was.
    pub(crate) fn fastest(&self, system: &str, shape: Shape) -> Vec<(f64, &String)> {
        let ratio = |it: &String| self.judged_to(it, shape, Round::throughput);
        let settings = self.commands.iter().filter(|it| first_word(it) == system);
        let mut settings: Vec<_> = settings.filter_map(|it| Some((ratio(it)?.median, it))).collect();
        settings.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        settings
    }

    pub(crate) fn throughput(&self, variant: &str, shape: Shape) -> Option<f64> {
        self.median(variant, shape, Round::throughput)
    }

    pub(crate) fn quantile_ms(&self, variant: &str, shape: Shape, quantile: f64) -> Option<f64> {
        self.median(variant, shape, |it| Some(it.quantile_ms(quantile)))
    }

    pub(crate) fn cpu_us(&self, variant: &str, shape: Shape, role: Role) -> Option<f64> {
        self.median(variant, shape, |it| it.cpu_us(role))
    }

    /// The best of the closed loops.
    pub(crate) fn capacity(&self, variant: &str) -> Option<f64> {
        let closed: BTreeSet<_> = self
            .rounds
            .iter()
            .filter(|it| matches!(it.shape, Shape::Closed(_)))
            .map(|it| it.shape)
            .collect();
        closed
            .into_iter()
            .filter_map(|it| self.throughput(variant, it))
            .reduce(f64::max)
    }

    /// The medians of Kafka alone on an engine in each round, in milliseconds.
    pub(crate) fn floors_ms(&self, engine: &str) -> impl Iterator<Item = f64> {
        let rounds = self.floor.get(engine).into_iter().flatten();
        rounds.map(|it| it.value_at_quantile(0.5) as f64 / 1e3)
    }

    /// The median over them.
    pub(crate) fn floor_ms(&self, engine: &str) -> Option<f64> {
        median(self.floors_ms(engine))
    }

    /// The median time from start to ready, in milliseconds: gateway 0, worker 1.
    pub(crate) fn cold_start_ms(&self, variant: &str, part: usize) -> Option<f64> {
        let starts = self.cold_starts.get(variant)?;
        median(starts.iter().filter_map(|it| Some(it.get(part)?.as_secs_f64() * 1e3)))
    }
}

fn first_word(name: &str) -> &str {
    name.split(' ').next().unwrap_or(name)
}

/// The ratios within a round, whatever the machine does from one to the next; `None` where a round lacks its figure.
pub(crate) fn ratio(of: impl Iterator<Item = Option<f64>>, to: impl Iterator<Item = Option<f64>>) -> Option<Figure> {
    let ratios: Option<Vec<_>> = of.zip(to).map(|(of, to)| Some(of? / to?)).collect();
    Figure::of(ratios?)
}

/// The middle one, or the mean of the middle two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    Some(if values.len() % 2 == 1 {
        upper
    } else {
        f64::midpoint(*values.get(half - 1)?, upper)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use bench::{Load, Mode, Outcomes};
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    const MANY: Shape = Shape::Closed(1024);

    /// A second on a variant, alone or beside another one.
    pub(crate) fn round(variant: &str, beside: Option<&str>, answers: u64) -> Round {
        let mode = Mode::Closed { connections: 1024 };
        let report = Report {
            load: Load::spread(Vec::new(), mode),
            run: String::new(),
            outcomes: Outcomes::default(),
            warmup: Outcomes::default(),
            latency: Histogram::new(3).unwrap(),
            began: Instant::now(),
            elapsed: Duration::from_secs(1),
            ok_in_time: answers,
            connections_opened: 0,
            retries: 0,
            first_wrong: Vec::new(),
            first_errors: Vec::new(),
            interrupted: false,
        };
        Round {
            variant: variant.to_owned(),
            shape: MANY,
            beside: beside.map(str::to_owned),
            report,
            costs: BTreeMap::new(),
        }
    }

    pub(crate) fn results(commands: &[&str], rounds: Vec<Round>) -> Results {
        Results {
            machine: Machine {
                cpu: String::new(),
                cores: 2,
                memory_bytes: 0,
                kernel: String::new(),
                rustc: String::new(),
                commit: String::new(),
                began: String::new(),
                load_before: 0.0,
            },
            variants: Vec::new(),
            commands: commands.iter().map(|&it| it.to_owned()).collect(),
            judged: "ours".to_owned(),
            other_build: None,
            rounds,
            floor: BTreeMap::new(),
            engine: "",
            cold_starts: BTreeMap::new(),
            at_rest: BTreeMap::new(),
            scale: None,
            budget: None,
            notes: Vec::new(),
        }
    }

    #[test]
    fn in_contests_neighbours_are_compared() {
        let mut rounds = vec![round("ours", None, 100), round("a 1", None, 50), round("a 2", None, 80)];
        let before = results(&["a 1", "a 2"], rounds.split_off(0));
        let ratio = |results: &Results, other| results.judged_to(other, MANY, Round::throughput).map(|it| it.median);
        assert_eq!(ratio(&before, "a 1"), Some(2.0));
        assert!(!before.met("a 1", MANY));

        rounds = before.rounds;
        // The machine is slower for one pair, and the other way round for the next.
        rounds.extend([
            round("ours", Some("a 2"), 30),
            round("a 2", Some("ours"), 20),
            round("b", Some("ours"), 500),
            round("ours", Some("b"), 1000),
        ]);
        let after = results(&["a 1", "a 2", "b"], rounds);
        assert_eq!(ratio(&after, "a 1"), Some(2.0));
        assert_eq!(ratio(&after, "a 2"), Some(1.5));
        assert_eq!(ratio(&after, "b"), Some(2.0));
        assert_eq!(ratio(&after, "c"), None);
        // They are not in the tables: not all variants are in them.
        assert_eq!(after.throughput("a 2", MANY), Some(80.0));
        assert_eq!(after.throughput("b", MANY), None);
    }

    #[test]
    fn errors_count_wherever_they_were() {
        let mut rounds = [
            round("ours", None, 1),
            round("ours", Some("a"), 1),
            round("a", Some("ours"), 1),
        ];
        for (round, timeouts) in rounds.iter_mut().zip([1, 10, 100]) {
            round.report.outcomes.timeouts = timeouts;
        }
        assert_eq!(results(&["a"], rounds.into()).errors("ours", MANY), 11);
    }

    #[test]
    fn the_fastest_setting_of_a_system_is_first() {
        let rounds = vec![
            round("ours", None, 100),
            round("a 1", None, 50),
            round("a 2", None, 80),
            round("ab", None, 90),
        ];
        let results = results(&["a 1", "a 2", "a 3", "ab"], rounds);
        let names: Vec<_> = results.fastest("a", MANY).into_iter().map(|(_, it)| it).collect();
        assert_eq!(names, ["a 2", "a 1"]);
    }

    #[test]
    fn a_ratio_is_that_of_one_round() {
        let ratio = |of: [Option<f64>; 3], to: &[Option<f64>]| ratio(of.into_iter(), to.iter().copied());
        // The machine was slow, fast, and slow again.
        let of = [Some(10.0), Some(40.0), Some(12.0)];
        let figure = Figure {
            median: 0.6,
            least: 0.5,
            most: 0.8,
        };
        assert_eq!(ratio(of, &[Some(20.0), Some(50.0), Some(20.0)]), Some(figure));
        assert_eq!(ratio(of, &[Some(20.0)]), Some(Figure::from(0.5)));
        assert_eq!(ratio(of, &[Some(20.0), None, Some(20.0)]), None);
        assert_eq!(ratio(of, &[]), None);
    }
}

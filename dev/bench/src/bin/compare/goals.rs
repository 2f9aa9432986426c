//! The goals as far as one run can judge them: ratios to what ran beside it, and bounds on memory and start.

use std::cmp::Ordering;

use crate::{
    meter::Role,
    plan::Shape,
    results::{Figure, Results, Round, ratio},
    scale,
};

/// A goal, what was measured, and what that says.
#[derive(Debug, Clone)]
pub(crate) struct Goal {
    pub(crate) name: String,
    pub(crate) bound: Bound,
    /// By its median; `None` if the run has not what it takes.
    pub(crate) measured: Option<Figure>,
    pub(crate) unit: &'static str,
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// One KiB and one MiB, in bytes.
const KB: f64 = 1024.0;
const MB: f64 = 1024.0 * KB;

/// The loads that goals are about.
const FEW: Shape = Shape::Closed(1);
const MANY: Shape = Shape::Closed(1024);
const MOST: Shape = Shape::Closed(10_000);

/// Throughput: with so many connections, to this foreign system, so many times as much at least.
const THROUGHPUTS: [(usize, &str, f64); 9] = [
    (64, LIBRDKAFKA, 1.5),
    (64, TUNED, 1.5),
    (64, "franz-go", 3.0),
    (256, LIBRDKAFKA, 1.15),
    (256, TUNED, 1.15),
    (256, "franz-go", 2.0),
    (256, "sarama", 30.0),
    (1024, LIBRDKAFKA, 1.15),
    (1024, TUNED, 1.15),
];

/// Loads at which the two builds of the pair are compared.
const BUILDS: [Shape; 2] = [Shape::Closed(256), MANY];

/// Settings of a foreign system that are contested, at most. With all of them a run would take twice as long.
const FASTEST: usize = 2;

/// So many times as fast as such a setting the fastest may be, for it to be contested too.
const SLOWER: f64 = 1.25;

/// All goals, in the order of the table.
pub(crate) fn judge(results: &Results) -> Vec<Goal> {
    let mut goals = latency(results);
    goals.extend(throughput(results));
    goals.extend(cpu(results));
    goals.extend(memory(results));
    let [in_all, each] = scale::judged_ratios(results);
    for (name, measured) in [
        (
            "scale: CPU per request, 4 partitions to 1, the same load in all",
            in_all,
        ),
        ("… the same load for each gateway", each),
    ] {
        goals.push(Goal::new(name, Bound::AtMost(1.1), measured, "×"));
    }
    for (part, name) in ["gateway", "worker"].into_iter().enumerate() {
        let measured = results.cold_start_ms(&results.judged, part);
        goals.push(Goal::new(
            format!("cold start to ready, {name}"),
            Bound::AtMost(100.0),
            measured,
            "ms",
        ));
    }
    goals
}

/// Whom the judged variant has to meet, and at which load, after the rounds: everyone whom a goal names there; of a foreign
/// system the fastest settings.
pub(crate) fn opponents(results: &Results) -> Vec<(Shape, &String)> {
    let builds = BUILDS.into_iter().zip(results.other_build.iter().cycle());
    let foreign = THROUGHPUTS.into_iter().flat_map(|(connections, name, _)| {
        let shape = Shape::Closed(connections);
        let settings = results.fastest(name, shape);
        let limit = settings.first().map_or(0.0, |(fastest, _)| fastest * SLOWER);
        let near = settings.into_iter().take_while(move |(ratio, _)| *ratio <= limit);
        near.take(FASTEST).map(move |(_, it)| (shape, it))
    });
    builds.chain(foreign).collect()
}

// === impl Goal ===

impl Goal {
    fn new(name: impl Into<String>, bound: Bound, measured: Option<impl Into<Figure>>, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            bound,
            measured: measured.map(Into::into),
            unit,
        }
    }

    /// A goal that is a ratio.
    fn ratio(name: impl Into<String>, bound: Bound, part: Option<f64>, whole: Option<f64>) -> Self {
        let measured = part.zip(whole).map(|(part, whole)| part / whole);
        Self::new(name, bound, measured, "×")
    }

    /// Whether it is met; `None` if it was not judged.
    pub(crate) fn is_met(&self) -> Option<bool> {
        self.measured.map(|measured| match self.bound {
            Bound::AtMost(bound) => measured.median <= bound,
            Bound::AtLeast(bound) => measured.median >= bound,
        })
    }
}

fn latency(results: &Results) -> Vec<Goal> {
    let p50 = |it: &Round| Some(it.quantile_ms(0.5));
    let of = |variant| results.of(variant, FEW).map(p50);
    let alone = results.floors_ms(results.engine).zip(of(HYPER));
    let alone = alone.map(|(kafka, http)| Some(kafka + http?));
    let to_others = results.commands.iter().filter_map(|it| results.judged_to(it, FEW, p50));
    vec![
        Goal::new(
            "c=1: p50 to Kafka alone + HTTP alone",
            Bound::AtMost(1.10),
            ratio(of(&results.judged), alone),
            "×",
        ),
        Goal::new(
            "c=1: p50 to the best other system",
            Bound::AtMost(1.0),
            to_others.max_by(by_median),
            "×",
        ),
    ]
}

fn throughput(results: &Results) -> Vec<Goal> {
    let to = |other: &str, shape| results.judged_to(other, shape, Round::throughput);
    let mut goals = Vec::new();
    for (connections, name, factor) in THROUGHPUTS {
        let shape = Shape::Closed(connections);
        let text = format!("{shape}: throughput to {name}");
        let to_best = contestants(results, name, shape)
            .filter_map(|it| to(it, shape))
            .min_by(by_median);
        goals.push(Goal::new(text, Bound::AtLeast(factor), to_best, "×"));
    }
    goals.push(Goal::new(
        "c=1024: throughput to hyper alone",
        Bound::AtLeast(0.5),
        to(HYPER, MANY),
        "×",
    ));

    let is_there = results.of(&results.judged, MOST).next().is_some();
    let errors = is_there.then(|| results.errors(&results.judged, MOST) as f64);
    goals.push(Goal::new("c=10000: errors", Bound::AtMost(0.0), errors, ""));
    let at = |shape| results.of(&results.judged, shape).map(Round::throughput);
    goals.push(Goal::new(
        "c=10000: throughput to c=1024",
        Bound::AtLeast(0.85),
        ratio(at(MOST), at(MANY)),
        "×",
    ));
    let at = |variant: &str, quantile| results.quantile_ms(variant, MOST, quantile);
    let allowed = at(&results.judged, 0.5)
        .zip(at(HYPER, 0.99))
        .map(|(p50, hyper)| hyper.max(3.0 * p50));
    let p99 = at(&results.judged, 0.99);
    let name = "c=10000: p99 to the larger of 3 × p50 and hyper alone's p99";
    goals.push(Goal::ratio(name, Bound::AtMost(1.0), p99, allowed));
    goals
}

fn cpu(results: &Results) -> Vec<Goal> {
    let part = |role: Role, bound| {
        let name = format!("c=1024: CPU per request, {} to hyper alone", role.as_str());
        // Hyper alone has neither part, and a server instead.
        let cpu = |it: &Round| it.cpu_us(role).or_else(|| it.cpu_us(Role::Server));
        Goal::new(name, Bound::AtMost(bound), results.judged_to(HYPER, MANY, cpu), "×")
    };
    let to = |other: &str, shape| results.judged_to(other, shape, Round::own_cpu_us);
    let to_best = |system| {
        let name = format!("c=1024: CPU per request, both to {system}");
        let ratios = contestants(results, system, MANY).filter_map(|it| to(it, MANY));
        Goal::new(name, Bound::AtMost(1.0), ratios.max_by(by_median), "×")
    };
    let mut goals = vec![
        part(Role::Gateway, 2.0),
        part(Role::Worker, 0.6),
        to_best(LIBRDKAFKA),
        to_best(TUNED),
    ];
    for shape in BUILDS {
        let name = format!("{shape}: CPU per request, static musl to glibc");
        let measured = results.other_build.as_ref().and_then(|it| to(it, shape));
        goals.push(Goal::new(name, Bound::AtMost(1.03), measured, "×"));
    }
    goals
}

/// The settings of a foreign system that the judged variant met in contests; without contests, all.
fn contestants<'a>(results: &'a Results, system: &str, shape: Shape) -> impl Iterator<Item = &'a String> {
    let settings: Vec<_> = results.fastest(system, shape).into_iter().map(|(_, it)| it).collect();
    let any_met = settings.iter().any(|it| results.met(it, shape));
    settings
        .into_iter()
        .filter(move |it| !any_met || results.met(it, shape))
}

fn by_median(one: &Figure, other: &Figure) -> Ordering {
    one.median.total_cmp(&other.median)
}

/// Memory is that of the first round with a load: what came before it is known.
fn memory(results: &Results) -> Vec<Goal> {
    let gateway = Role::Gateway;
    let first = |shape, role| Some(results.of(&results.judged, shape).next()?.costs.get(&role)?.peak as f64);
    let idle = results.at_rest.get(&results.judged).map(|[gateway, _]| *gateway as f64);
    let open = results.of(&results.judged, Shape::Idle(10_000)).next();
    let open = open.and_then(|it| Some(it.costs.get(&gateway)?.resident as f64));
    let peaks: Vec<_> = results
        .of(&results.judged, MOST)
        .filter_map(|it| Some(it.costs.get(&gateway)?.peak as f64))
        .collect();
    let again = peaks.first().zip(peaks.get(1)).map(|(first, second)| second / first);
    let of_worker = results.rounds.iter().filter(|it| it.variant == results.judged);
    let of_worker = of_worker.filter_map(|it| Some(it.costs.get(&Role::Worker)?.peak as f64));
    let mib = |bytes: Option<f64>| bytes.map(|it| it / MB);
    let each = open.zip(idle).map(|(open, idle)| (open - idle) / 10_000.0 / KB);
    vec![
        Goal::new("memory of the gateway, idle", Bound::AtMost(16.0), mib(idle), "MiB"),
        Goal::new("… at c=1024", Bound::AtMost(24.0), mib(first(MANY, gateway)), "MiB"),
        Goal::new("… at c=10000", Bound::AtMost(128.0), mib(first(MOST, gateway)), "MiB"),
        Goal::new("… per open connection", Bound::AtMost(12.0), each, "KiB"),
        Goal::new("… at c=10000, second round to first", Bound::AtMost(1.1), again, "×"),
        Goal::new(
            "memory of the worker, at most",
            Bound::AtMost(12.0),
            mib(of_worker.reduce(f64::max)),
            "MiB",
        ),
    ]
}

/// The foreign systems by which most is judged: librdkafka as it comes, by the best of its settings, and tuned for many
/// callers.
const LIBRDKAFKA: &str = "librdkafka";
const TUNED: &str = "librdkafka-tuned";

/// The name of the variant that is the ceiling.
pub(crate) const HYPER: &str = "hyper alone";

/// Of no goal, but what the others are read with: the spread of the throughput at c=1,024 over the rounds, in percent.
pub(crate) fn spread_percent(results: &Results) -> Option<f64> {
    let rounds = results.of(&results.judged, MANY);
    Figure::of(rounds.map(|it| it.report.throughput())).map(Figure::spread_percent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{results, round};

    #[test]
    fn whom_a_goal_names_is_met_in_what_may_be_its_fastest_settings() {
        let variants = [
            ("ours", 100),
            ("librdkafka 1", 60),
            ("librdkafka 2", 70),
            ("librdkafka 3", 80),
            ("librdkafka-tuned 1", 50),
            ("librdkafka-tuned 2", 80),
            ("franz-go", 90),
        ];
        let names = variants.map(|(name, _)| name);
        let rounds = variants.map(|(name, answers)| round(name, None, answers));
        let mut results = results(&names[1..], rounds.into());
        results.other_build = Some("other".to_owned());

        let met = opponents(&results);

        let met: Vec<_> = met.iter().map(|(shape, name)| (*shape, name.as_str())).collect();
        let others = BUILDS.map(|shape| (shape, "other"));
        let foreign = ["librdkafka 3", "librdkafka 2", "librdkafka-tuned 2"].map(|name| (MANY, name));
        assert_eq!(met, [&others[..], &foreign].concat());
    }
}

//! Measurements, their summary per variant, and the files they are written to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::{self, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use bench::Report;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde::Serialize;
use serde_json::json;

use crate::{
    cpu::Role,
    machine::Machine,
    plots::{self, Line},
};

/// One variant under one load in one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measurement {
    variant: String,
    round: usize,
    connections: usize,
    requests_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// CPU time of gateway and worker, or of all processes of a command, per right answer.
    cpu_us: f64,
    broker_cpu_us: f64,
    /// The parts of the two above.
    cpu_us_by_role: BTreeMap<&'static str, f64>,
    /// Everything but right answers, the warm-up included.
    errors: u64,
}

/// Of the values of all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

/// A variant at a number of connections, over all rounds. Ratios are to the first variant in the same round.
#[derive(Debug, Clone, Serialize)]
struct Summary {
    connections: usize,
    variant: String,
    rounds: usize,
    requests_per_second: Spread,
    requests_per_second_ratio: Option<Spread>,
    cpu_us: Spread,
    cpu_us_ratio: Option<Spread>,
    broker_cpu_us: Spread,
    p50_ms: Spread,
    p99_ms: Spread,
    errors: u64,
}

/// Prints the table to stdout, and writes run.json and the plots to `out`.
pub(crate) fn write(
    out: &Path,
    machine: &Machine,
    broker: &str,
    variants: &[&str],
    seconds: f64,
    measurements: &[Measurement],
) -> Result<()> {
    let summaries = summarize(variants, measurements);
    if summaries.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let document = json!({
        "machine": machine,
        "broker": broker,
        "seconds": seconds,
        "variants": variants,
        "summary": summaries,
        "measurements": measurements,
    });
    fs::write(out.join("run.json"), format!("{document:#}\n"))?;
    let plot = |file: &str, title, unit, value: fn(&Summary) -> f64| {
        let lines: Vec<_> = variants.iter().map(|name| line(name, &summaries, value)).collect();
        plots::draw(&out.join(file), title, unit, &lines)
    };
    plot("throughput.svg", "Throughput", "requests/s", |summary| {
        summary.requests_per_second.median
    })?;
    plot("p99.svg", "Latency, p99", "ms", |summary| summary.p99_ms.median)?;
    writeln!(
        io::stdout().lock(),
        "\n{machine}\n{broker}; medians of {seconds} s measurements (least..most)\n\n{}\n\nrun.json, throughput.svg and p99.svg are in {}",
        table(&summaries),
        out.display()
    )?;
    Ok(())
}

fn line(name: &str, summaries: &[Summary], value: fn(&Summary) -> f64) -> Line {
    let of_variant = summaries.iter().filter(|summary| summary.variant == name);
    Line {
        name: name.to_owned(),
        points: of_variant
            .map(|summary| (summary.connections as f64, value(summary)))
            .collect(),
    }
}

fn summarize(variants: &[&str], measurements: &[Measurement]) -> Vec<Summary> {
    let connections: BTreeSet<_> = measurements.iter().map(|measurement| measurement.connections).collect();
    let first = variants.first().copied().unwrap_or_default();
    let mut summaries = Vec::new();
    for connections in connections {
        let of = |name: &str| -> Vec<_> {
            let matching = measurements
                .iter()
                .filter(|measurement| measurement.variant == name && measurement.connections == connections);
            matching.collect()
        };
        let baseline = of(first);
        summaries.extend(
            variants
                .iter()
                .filter_map(|name| Summary::new(&of(name), baseline.as_slice())),
        );
    }
    summaries
}

fn table(summaries: &[Summary]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header([
        "c",
        "variant",
        "requests/s",
        "ratio",
        "CPU µs/request",
        "ratio",
        "broker CPU µs",
        "p50 ms",
        "p99 ms",
        "errors",
    ]);
    let ratio = |spread: Option<Spread>| spread.map_or_else(|| "–".to_owned(), |spread| spread.to_string());
    for summary in summaries {
        table.add_row([
            summary.connections.to_string(),
            summary.variant.clone(),
            summary.requests_per_second.to_string(),
            ratio(summary.requests_per_second_ratio),
            summary.cpu_us.to_string(),
            ratio(summary.cpu_us_ratio),
            summary.broker_cpu_us.to_string(),
            summary.p50_ms.to_string(),
            summary.p99_ms.to_string(),
            summary.errors.to_string(),
        ]);
    }
    table
}

/// Three significant digits are more than a measurement is worth.
fn digits(value: f64) -> String {
    match value {
        large if large >= 99.95 => format!("{large:.0}"),
        medium if medium >= 9.995 => format!("{medium:.1}"),
        small => format!("{small:.2}"),
    }
}

// === impl Measurement ===

impl Measurement {
    pub(crate) fn new(
        variant: &str,
        round: usize,
        connections: usize,
        report: &Report,
        cpu: &BTreeMap<Role, Duration>,
    ) -> Self {
        let answers = report.ok_in_time.max(1) as f64;
        let cpu_us_by_role: BTreeMap<_, _> = cpu
            .iter()
            .map(|(role, time)| (role.as_str(), time.as_secs_f64() * 1e6 / answers))
            .collect();
        let broker_cpu_us = cpu_us_by_role.get(Role::Broker.as_str()).copied().unwrap_or_default();
        let quantile_ms = |quantile| report.latency_at(quantile).as_secs_f64() * 1e3;
        let errors = [&report.outcomes, &report.warmup].map(|outcomes| outcomes.total() - outcomes.ok);
        Self {
            variant: variant.to_owned(),
            round,
            connections,
            requests_per_second: report.throughput(),
            p50_ms: quantile_ms(0.5),
            p99_ms: quantile_ms(0.99),
            cpu_us: cpu_us_by_role.values().sum::<f64>() - broker_cpu_us,
            broker_cpu_us,
            cpu_us_by_role,
            errors: errors.iter().sum(),
        }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "c={:<6}{:<20}{:>8.0} requests/s  p50 {:>8.3} ms  p99 {:>8.3} ms  CPU {:>6.1} µs  errors {}",
            self.connections,
            self.variant,
            self.requests_per_second,
            self.p50_ms,
            self.p99_ms,
            self.cpu_us,
            self.errors
        )
    }
}

// === impl Summary ===

impl Summary {
    /// `None` if there are no measurements. `baseline` are those of the first variant at the same connections.
    fn new(measurements: &[&Measurement], baseline: &[&Measurement]) -> Option<Self> {
        let first = measurements.first()?;
        let spread = |value: fn(&Measurement) -> f64| {
            let values = measurements.iter().map(|measurement| value(measurement));
            Spread::new(values.collect())
        };
        let ratio = |value: fn(&Measurement) -> f64| {
            let pairs = measurements.iter().filter_map(|measurement| {
                let mut same_round = baseline.iter().filter(|other| other.round == measurement.round);
                Some(value(measurement) / value(same_round.next()?))
            });
            let ratios: Vec<_> = pairs.collect();
            Spread::new(ratios).filter(|_| !baseline.iter().any(|other| other.variant == first.variant))
        };
        Some(Self {
            connections: first.connections,
            variant: first.variant.clone(),
            rounds: measurements.len(),
            requests_per_second: spread(|measurement| measurement.requests_per_second)?,
            requests_per_second_ratio: ratio(|measurement| measurement.requests_per_second),
            cpu_us: spread(|measurement| measurement.cpu_us)?,
            cpu_us_ratio: ratio(|measurement| measurement.cpu_us),
            broker_cpu_us: spread(|measurement| measurement.broker_cpu_us)?,
            p50_ms: spread(|measurement| measurement.p50_ms)?,
            p99_ms: spread(|measurement| measurement.p99_ms)?,
            errors: measurements.iter().map(|measurement| measurement.errors).sum(),
        })
    }
}

// === impl Spread ===

impl Spread {
    /// `None` if there are no values.
    fn new(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let lower = if values.len().is_multiple_of(2) {
            *values.get(middle - 1)?
        } else {
            upper
        };
        Some(Self {
            median: f64::midpoint(lower, upper),
            min: *values.first()?,
            max: *values.last()?,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, min, max] = [self.median, self.min, self.max].map(digits);
        write!(f, "{median} ({min}..{max})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(variant: &str, round: usize, requests_per_second: f64, cpu_us: f64) -> Measurement {
        Measurement {
            variant: variant.to_owned(),
            round,
            connections: 64,
            requests_per_second,
            p50_ms: 1.0,
            p99_ms: 2.0,
            cpu_us,
            broker_cpu_us: 5.0,
            cpu_us_by_role: BTreeMap::new(),
            errors: 1,
        }
    }

    #[test]
    fn spread_has_median_min_and_max() {
        assert_eq!(Spread::new(Vec::new()), None);
        let odd = Spread::new(vec![3.0, 1.0, 10.0]).unwrap();
        assert_eq!(odd.to_string(), "3.00 (1.00..10.0)");
        assert!((Spread::new(vec![1.0, 2.0, 4.0, 5.0]).unwrap().median - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn ratio_compares_measurements_of_the_same_round() {
        // The machine is twice as fast in round 2; within each round `after` has 1.1 times the throughput.
        let measurements = [
            measurement("before", 1, 100.0, 20.0),
            measurement("after", 1, 110.0, 10.0),
            measurement("after", 2, 220.0, 5.0),
            measurement("before", 2, 200.0, 10.0),
            // Round 3 was interrupted.
            measurement("before", 3, 900.0, 10.0),
        ];
        let summaries = summarize(&["before", "after"], &measurements);
        let [before, after] = summaries.as_slice() else {
            panic!("{summaries:?}");
        };
        assert_eq!((before.rounds, before.requests_per_second_ratio), (3, None));
        let ratio = after.requests_per_second_ratio.unwrap();
        assert!(
            (ratio.min - 1.1).abs() < 1e-9 && (ratio.max - 1.1).abs() < 1e-9,
            "{ratio}"
        );
        assert_eq!(after.cpu_us_ratio.unwrap().to_string(), "0.50 (0.50..0.50)");
        assert_eq!((after.rounds, after.errors), (2, 2));
    }

    #[test]
    fn table_has_a_row_for_each_variant() {
        let measurements = [
            measurement("before", 1, 100.0, 20.0),
            measurement("after", 1, 150.0, 10.0),
        ];
        let text = table(&summarize(&["before", "after"], &measurements)).to_string();
        let row = text.lines().find(|line| line.contains("after")).unwrap();
        assert!(
            row.contains("1.50 (1.50..1.50)") && row.contains("0.50 (0.50..0.50)"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 4, "{text}");
    }

    #[test]
    fn run_writes_json_and_plots() {
        let out = std::env::temp_dir().join(format!("compare-report-{}", std::process::id()));
        let mut many = measurement("ours", 1, 300.0, 10.0);
        many.connections = 256;
        let measurements = [measurement("ours", 1, 100.0, 20.0), many];
        write(&out, &Machine::read(), "none", &["ours"], 1.0, &measurements).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
        assert_eq!(json["summary"][1]["requests_per_second"]["median"], 300.0);
        assert_eq!(json["measurements"].as_array().unwrap().len(), 2);
        for plot in ["throughput.svg", "p99.svg"] {
            let svg = fs::read_to_string(out.join(plot)).unwrap();
            assert!(svg.contains("ours") && svg.contains("polyline"), "{plot}");
        }
        fs::remove_dir_all(&out).unwrap();
    }
}

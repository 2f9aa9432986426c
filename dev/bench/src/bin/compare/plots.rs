//! The results as pictures.

use std::{error::Error, ops::Range, path::Path};

use anyhow::{Context, Result, anyhow};
use plotters::{
    coord::ranged1d::{AsRangedCoord, ValueFormatter},
    prelude::*,
};

use crate::{
    meter::Role,
    plan::Shape,
    results::{Results, Round},
};

/// Of a picture, in pixels.
const SIZE: (u32, u32) = (860, 480);

/// Told apart by those who see no red and green, too (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// A line of a picture.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

struct Axes {
    title: String,
    x: &'static str,
    y: &'static str,
}

/// Draws all of them into a directory; gives their file names.
pub(crate) fn draw(results: &Results, directory: &Path) -> Result<Vec<String>> {
    let mut drawn = Vec::new();
    let mut save = |name: &str, axes: &Axes, lines: Vec<Line>| {
        let lines: Vec<_> = lines.into_iter().filter(|it| it.points.len() > 1).collect();
        if !lines.is_empty() {
            log_log(&directory.join(name), axes, &lines).map_err(|error| anyhow!("{name}: {error}"))?;
            drawn.push(name.to_owned());
        }
        anyhow::Ok(())
    };
    let over_connections = |title: &str, y| Axes {
        title: title.to_owned(),
        x: "connections, closed loop",
        y,
    };
    save(
        "throughput.svg",
        &over_connections("Throughput", "answers/s"),
        by_connections(results, Round::throughput),
    )?;
    for (name, title, quantile) in [
        ("p50.svg", "Latency, p50", 0.5),
        ("p99.svg", "Latency, p99", 0.99),
        ("p99.9.svg", "Latency, p99.9", 0.999),
    ] {
        let lines = by_connections(results, |it| Some(it.quantile_ms(quantile)));
        save(name, &over_connections(title, "ms"), lines)?;
    }
    save(
        "cpu.svg",
        &over_connections("CPU time per request, gateway + worker", "µs"),
        by_connections(results, Round::own_cpu_us),
    )?;
    save(
        "memory.svg",
        &over_connections("Peak memory of what answers", "MiB"),
        by_connections(results, |it| {
            let cost = it.costs.get(&Role::Gateway).or(it.costs.get(&Role::Server))?;
            Some(cost.peak as f64 / f64::from(1 << 20))
        }),
    )?;
    for percent in shares(results) {
        let name = format!("cdf-{percent}.svg");
        let axes = Axes {
            title: format!("Latency at {percent} % of each variant's capacity"),
            x: "ms",
            y: "share of the requests",
        };
        let lines: Vec<_> = distributions(results, percent)
            .filter(|it| it.points.len() > 1)
            .collect();
        let (x, _) = ranges(&lines).context("no latency")?;
        picture(&directory.join(&name), &axes, &lines, x.log_scale(), 0.0..1.0)
            .map_err(|error| anyhow!("{name}: {error}"))?;
        drawn.push(name);
    }
    Ok(drawn)
}

fn by_connections(results: &Results, figure: impl Fn(&Round) -> Option<f64> + Copy) -> Vec<Line> {
    let mut connections: Vec<_> = results
        .rounds
        .iter()
        .filter_map(|it| match it.shape {
            Shape::Closed(connections) => Some(connections),
            _ => None,
        })
        .collect();
    connections.sort_unstable();
    connections.dedup();
    let line = |variant: &String| Line {
        name: variant.clone(),
        points: connections
            .iter()
            .filter_map(|&c| Some((c as f64, results.median(variant, Shape::Closed(c), figure)?)))
            .collect(),
    };
    results.variants.iter().map(line).collect()
}

fn shares(results: &Results) -> Vec<u32> {
    let mut shares: Vec<_> = results
        .rounds
        .iter()
        .filter_map(|it| match it.shape {
            Shape::Share(percent) => Some(percent),
            _ => None,
        })
        .collect();
    shares.sort_unstable();
    shares.dedup();
    shares
}

/// Of all rounds together.
fn distributions(results: &Results, percent: u32) -> impl Iterator<Item = Line> {
    results.variants.iter().map(move |variant| {
        let mut merged = bench::Histogram::<u64>::new(3).ok();
        for round in results.of(variant, Shape::Share(percent)) {
            // It resizes itself: every latency has its place.
            let _ = merged.as_mut().map(|it| it.add(&round.report.latency));
        }
        let points = merged.iter().flat_map(|it| it.iter_quantiles(16));
        Line {
            name: variant.clone(),
            points: points
                .map(|it| (it.value_iterated_to() as f64 / 1e3, it.quantile_iterated_to()))
                .collect(),
        }
    })
}

fn log_log(file: &Path, axes: &Axes, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    let (x, y) = ranges(lines).ok_or("no points")?;
    picture(file, axes, lines, x.log_scale(), y.log_scale())
}

/// From the smallest to the largest, with some room above.
fn ranges(lines: &[Line]) -> Option<(Range<f64>, Range<f64>)> {
    let points = || lines.iter().flat_map(|it| &it.points);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let least = points().map(of).filter(|it| *it > 0.0).reduce(f64::min)?;
        let most = points().map(of).reduce(f64::max)?;
        Some(least..most * 1.1)
    };
    Some((range(|it| it.0)?, range(|it| it.1)?))
}

fn picture<X, Y>(file: &Path, axes: &Axes, lines: &[Line], x: X, y: Y) -> Result<(), Box<dyn Error>>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(&axes.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .y_desc(axes.y)
        .light_line_style(WHITE)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?
            .label(&line.name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    area.present()?;
    Ok(())
}

/// As short as it can be said.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "it is the formatter's signature")]
fn label(value: &f64) -> String {
    let rounded = (value * 1e3).round() / 1e3;
    format!("{rounded}")
}

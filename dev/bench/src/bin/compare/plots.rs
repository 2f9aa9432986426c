//! A figure over the number of connections, as an SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// In pixels.
const SIZE: (u32, u32) = (860, 480);

/// Distinct also for colour-blind readers (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// The points of one variant: number of connections, value.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Draws the lines; both axes are logarithmic.
pub(crate) fn draw(file: &Path, title: &str, unit: &str, lines: &[Line]) -> Result<()> {
    try_draw(file, title, unit, lines).map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn try_draw(file: &Path, title: &str, unit: &str, lines: &[Line]) -> Result<(), Box<dyn std::error::Error>> {
    let (x, y): (Vec<_>, Vec<_>) = lines.iter().flat_map(|line| line.points.iter().copied()).unzip();
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(range(&x).log_scale(), range(&y).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("connections")
        .y_desc(unit)
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

/// From the smallest to the largest positive value, with some room above.
fn range(values: &[f64]) -> std::ops::Range<f64> {
    let positive = || values.iter().copied().filter(|value| *value > 0.0);
    let min = positive().reduce(f64::min).unwrap_or(1.0);
    min..positive().reduce(f64::max).unwrap_or(1.0) * 1.1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature of a formatter in plotters"
)]
fn label(value: &f64) -> String {
    format!("{}", (value * 1e3).round() / 1e3)
}

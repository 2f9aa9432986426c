//! The results for a person: Markdown, which a terminal shows as well.

use std::fmt::{self, Write};

use crate::{
    engine::kafka_version,
    goals::{Bound, Goal, HYPER, judge, spread_percent},
    meter::Role,
    plan::Shape,
    results::Results,
    scale,
};

/// Everything, as a page; `plots` are the files beside it.
pub(crate) fn page(results: &Results, plots: &[String]) -> Result<String, fmt::Error> {
    let mut page = String::new();
    machine(&mut page, results)?;
    goals(&mut page, results)?;
    loads(&mut page, results)?;
    scale::table(&mut page, results)?;
    others(&mut page, results)?;
    for plot in plots {
        writeln!(page, "\n![{plot}]({plot})")?;
    }
    Ok(page)
}

/// The ratios alone.
pub(crate) fn ratios(results: &Results) -> Result<String, fmt::Error> {
    let mut page = String::new();
    let floor = results.floor_ms(results.engine);
    let p50 = |variant: &str| results.quantile_ms(variant, Shape::Closed(1), 0.5);
    let alone = floor.zip(p50(HYPER)).map(|(kafka, http)| kafka + http);
    writeln!(
        page,
        "| | c=1: p50 to Kafka alone + HTTP alone | c=64, c=1024: throughput to hyper alone | c=1024: CPU per request to hyper alone, gateway + worker |"
    )?;
    writeln!(page, "|---|---|---|---|")?;
    for variant in results.variants.iter().filter(|it| *it != HYPER) {
        let engine_floor = results.floor.keys().find(|it| variant.ends_with(&format!(" on {it}")));
        let alone = engine_floor
            .and_then(|it| results.floor_ms(it))
            .zip(p50(HYPER))
            .map_or(alone, |(kafka, http)| Some(kafka + http));
        let throughput = |c| {
            ratio(
                results.throughput(variant, Shape::Closed(c)),
                results.throughput(HYPER, Shape::Closed(c)),
            )
        };
        let cpu = |role| {
            ratio(
                results.cpu_us(variant, Shape::Closed(1024), role),
                results.cpu_us(HYPER, Shape::Closed(1024), Role::Server),
            )
        };
        writeln!(
            page,
            "| {variant} | {} | {}, {} | {} + {} |",
            ratio(p50(variant), alone),
            throughput(64),
            throughput(1024),
            cpu(Role::Gateway),
            cpu(Role::Worker)
        )?;
    }
    notes(&mut page, results)?;
    Ok(page)
}

fn machine(page: &mut String, results: &Results) -> fmt::Result {
    let machine = &results.machine;
    writeln!(
        page,
        "{}, {} cores, {:.0} GiB of memory, Linux {}; {}; Kafka {}; sources {}; {}. Load average before the run: {:.1}; spread of \
         the throughput at c=1024 over the rounds: {} %.",
        machine.cpu,
        machine.cores,
        machine.memory_bytes as f64 / (1 << 30) as f64,
        machine.kernel,
        machine.rustc,
        kafka_version().unwrap_or("–"),
        machine.commit,
        machine.began,
        machine.load_before,
        number(spread_percent(results)),
    )?;
    notes(page, results)
}

fn notes(page: &mut String, results: &Results) -> fmt::Result {
    results.notes.iter().try_for_each(|note| writeln!(page, "\n{note}"))
}

fn goals(page: &mut String, results: &Results) -> fmt::Result {
    writeln!(
        page,
        "\n## Goals: {}\n\nRatios are medians of those within a round or a contest, least and most beside them. The tables below \
         have the rounds alone, but for errors.\n\n| goal | wanted | measured | least, most | |\n|---|---|---|---|---|",
        results.judged
    )?;
    for goal in judge(results) {
        let Goal {
            name,
            bound,
            measured,
            unit,
        } = &goal;
        let wanted = match bound {
            Bound::AtMost(bound) => format!("≤ {bound} {unit}"),
            Bound::AtLeast(bound) => format!("≥ {bound} {unit}"),
        };
        let verdict = match goal.is_met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "not judged",
        };
        let spread = measured.filter(|it| it.least < it.most);
        writeln!(
            page,
            "| {name} | {wanted} | {} | {} | {verdict} |",
            number(measured.map(|it| it.median)),
            spread.map_or_else(String::new, |it| format!(
                "{}, {}",
                number(Some(it.least)),
                number(Some(it.most))
            )),
        )?;
    }
    Ok(())
}

fn loads(page: &mut String, results: &Results) -> fmt::Result {
    let rounds = results.rounds.iter();
    let mut shapes: Vec<_> = rounds
        .filter(|it| results.variants.contains(&it.variant))
        .map(|it| it.shape)
        .collect();
    shapes.sort();
    shapes.dedup();
    for shape in shapes {
        writeln!(
            page,
            "\n## {shape}\n\n| | answers/s | p50 ms | p99 ms | p99.9 ms | errors | CPU per request, µs: gateway + worker \
             (server), broker, generator | peak memory, MiB: gateway + worker (server) |\n|---|---|---|---|---|---|---|---|"
        )?;
        for variant in &results.variants {
            let Some(first) = results.of(variant, shape).next() else {
                continue;
            };
            let quantile = |it| number(results.quantile_ms(variant, shape, it));
            let cpu = |role| results.cpu_us(variant, shape, role);
            let peak = |role| first.costs.get(&role).map(|it| it.peak as f64 / f64::from(1 << 20));
            writeln!(
                page,
                "| {variant} | {:.0} | {} | {} | {} | {} | {}, {}, {} | {} |",
                results.throughput(variant, shape).unwrap_or_default(),
                quantile(0.5),
                quantile(0.99),
                quantile(0.999),
                results.errors(variant, shape),
                ours(cpu),
                number(cpu(Role::Broker)),
                number(cpu(Role::Generator)),
                ours(peak),
            )?;
        }
    }
    Ok(())
}

/// Gateway and worker, or what answers by itself.
fn ours(of: impl Fn(Role) -> Option<f64>) -> String {
    match of(Role::Server) {
        Some(server) => number(Some(server)),
        None => format!("{} + {}", number(of(Role::Gateway)), number(of(Role::Worker))),
    }
}

fn others(page: &mut String, results: &Results) -> fmt::Result {
    writeln!(page, "\n## Beside the loads\n\n| | |\n|---|---|")?;
    for engine in results.floor.keys() {
        writeln!(
            page,
            "| p50 of {engine} alone (produce, fetch, produce, fetch) | {} ms |",
            number(results.floor_ms(engine))
        )?;
    }
    for variant in results.cold_starts.keys() {
        let part = |it| number(results.cold_start_ms(variant, it));
        writeln!(
            page,
            "| {variant}: start to ready, gateway and worker | {} and {} ms |",
            part(0),
            part(1)
        )?;
    }
    if let Some(budget) = &results.budget {
        for part in ["gateway", "worker"] {
            let of = |name: &str| {
                budget
                    .pointer(&format!("/{part}/{name}"))
                    .and_then(serde_json::Value::as_f64)
            };
            writeln!(
                page,
                "| {part}, per request at c=1 | {} allocations of {} bytes, {} bytes to and from Kafka |",
                number(of("allocations")),
                number(of("allocated_bytes")),
                number(of("wire_bytes"))
            )?;
        }
    }
    Ok(())
}

fn ratio(part: Option<f64>, whole: Option<f64>) -> String {
    number(part.zip(whole).map(|(part, whole)| part / whole))
}

/// With three digits, which is more than the figures are worth.
pub(crate) fn number(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(it) if it >= 99.95 => format!("{it:.0}"),
        Some(it) if it >= 9.995 => format!("{it:.1}"),
        Some(it) => format!("{it:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.1234, "0.12"),
            (9.999, "10.0"),
            (12.34, "12.3"),
            (99.96, "100"),
            (1234.5, "1234"),
        ] {
            assert_eq!(number(Some(value)), text);
        }
        assert_eq!(number(None), "–");
    }
}

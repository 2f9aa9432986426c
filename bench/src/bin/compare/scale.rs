//! Scale: whether a request costs more CPU where it is one of several partitions that carries it.
//!
//! A fleet has a gateway and a worker for each partition of both topics. Each gateway reads a reply partition of its own
//! and writes to all request partitions, each worker reads one. All sizes have the same load in total, over the same
//! number of connections.

use std::fmt::{self, Write};

use crate::{
    meter::Role,
    plan::Shape,
    results::{Results, Round, median},
    tables::number,
};

/// Partitions, gateways and workers.
pub(crate) const SIZES: [u16; 3] = [1, 2, 4];

/// Of the closed loop, over all gateways.
pub(crate) const CONNECTIONS: usize = 256;

/// The rate of the open loop, in percent of what the judged variant did at its best in a closed loop.
pub(crate) const SHARE_PERCENT: u32 = 40;

/// The share of its rate that a fleet has to answer, or its costs are those of another load.
const CARRIED: f64 = 0.95;

/// As a variant.
pub(crate) fn name(size: u16) -> String {
    match size {
        1 => "1 partition".to_owned(),
        _ => format!("{size} partitions"),
    }
}

/// CPU time per request of the largest fleet to that of the smallest, at the same rate. `None` where one of all fleets
/// did not carry it.
pub(crate) fn judged_ratio(results: &Results) -> Option<f64> {
    let shape = *results.scale.first()?;
    let Shape::Rate(rate) = shape else {
        return None;
    };
    let [.., largest] = SIZES;
    let carried = |size| {
        let answers = results.throughput(&name(size), shape);
        answers.is_some_and(|it| it >= f64::from(rate) * CARRIED)
    };
    if !SIZES.into_iter().all(carried) {
        return None;
    }
    ratio(results, shape, largest)
}

/// Nothing if it was not measured.
pub(crate) fn table(page: &mut String, results: &Results) -> fmt::Result {
    if results.scale.is_empty() {
        return Ok(());
    }
    writeln!(
        page,
        "\n## Scale\n\nSo many partitions of both topics, gateways and workers, and the same load on all of them together; \
         CPU is that of all processes of a kind.\n\n| | load | answers/s | p50 ms | p99 ms | errors | CPU per request, µs: \
         gateway + worker, broker | all, to 1 partition |\n|---|---|---|---|---|---|---|---|"
    )?;
    for shape in &results.scale {
        for size in SIZES {
            let fleet = name(size);
            let cpu = |role| number(results.cpu_us(&fleet, *shape, role));
            let quantile = |it| number(results.quantile_ms(&fleet, *shape, it));
            writeln!(
                page,
                "| {fleet} | {shape} | {:.0} | {} | {} | {} | {} + {}, {} | {} |",
                results.throughput(&fleet, *shape).unwrap_or_default(),
                quantile(0.5),
                quantile(0.99),
                results.of(&fleet, *shape).map(Round::errors).sum::<u64>(),
                cpu(Role::Gateway),
                cpu(Role::Worker),
                cpu(Role::Broker),
                number(ratio(results, *shape, size)),
            )?;
        }
    }
    Ok(())
}

/// To the smallest fleet: of neighbouring rounds, the median.
fn ratio(results: &Results, shape: Shape, size: u16) -> Option<f64> {
    let cpu = |size| {
        let fleet = name(size);
        let rounds = results.of(&fleet, shape).map(all_cpu_us);
        rounds.collect::<Option<Vec<_>>>()
    };
    let [smallest, ..] = SIZES;
    let both = cpu(size)?.into_iter().zip(cpu(smallest)?);
    median(both.map(|(of, to)| of / to))
}

/// Of gateways, workers and broker.
fn all_cpu_us(round: &Round) -> Option<f64> {
    Some(round.own_cpu_us()? + round.cpu_us(Role::Broker)?)
}

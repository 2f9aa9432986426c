//! Scale: whether a request costs more CPU where it is one of several partitions that carries it.
//!
//! A fleet has a gateway and a worker for each partition of both topics. Each gateway reads a reply partition of its own
//! and writes to all request partitions, each worker reads one.

use std::fmt::{self, Display, Write};

use crate::{
    meter::Role,
    plan::Shape,
    results::{self, Figure, Results, Round},
    tables::number,
};

/// Partitions, gateways and workers.
pub(crate) const SIZES: [u16; 3] = [1, 2, 4];

/// Of the closed loop, over all gateways.
const CONNECTIONS: usize = 256;

/// The rate of the open loop, in percent of what the judged variant did at its best in a closed loop. Two cores carry 84 %
/// of 40 with the fleet of four, beside Kafka and the generator.
const SHARE_PERCENT: f64 = 25.0;

/// The share of its rate that a fleet has to answer, or its costs are those of another load.
const CARRIED: f64 = 0.95;

/// What fleets are asked, spread evenly over the gateways.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    /// The same of all sizes: so many requests per second.
    InAll(u32),
    /// More of a larger one: so many requests per second for each gateway.
    Each(u32),
    /// Over the same number of connections, as fast as they are answered.
    Closed,
}

/// As a variant.
pub(crate) fn name(size: u16) -> String {
    match size {
        1 => "1 partition".to_owned(),
        _ => format!("{size} partitions"),
    }
}

/// What all sizes should carry, where one gateway can do `capacity`. The largest fleet has the same load by both rates.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "requests per second of one machine, and above zero"
)]
pub(crate) fn asks(capacity: f64) -> [Ask; 3] {
    let [.., largest] = SIZES;
    let each = (capacity * SHARE_PERCENT / 100.0 / f64::from(largest)).ceil() as u32;
    [Ask::InAll(each * u32::from(largest)), Ask::Each(each), Ask::Closed]
}

/// CPU time per request of the largest fleet to that of the smallest, by both rates: in all, and for each gateway. `None`
/// where one of the fleets did not carry it.
pub(crate) fn judged_ratios(results: &Results) -> [Option<Figure>; 2] {
    let Some([in_all, each, _closed]) = results.scale else {
        return [None; 2];
    };
    let [.., largest] = SIZES;
    [in_all, each].map(|ask| {
        let all_carry = SIZES.into_iter().all(|size| carries(results, ask, size));
        all_carry.then(|| ratio(results, ask, largest)).flatten()
    })
}

/// Nothing if it was not measured.
pub(crate) fn table(page: &mut String, results: &Results) -> fmt::Result {
    let Some(asks) = results.scale else {
        return Ok(());
    };
    writeln!(
        page,
        "\n## Scale\n\nSo many partitions of both topics, gateways and workers; the load is that of all of them together, and \
         CPU that of all processes of a kind.\n\n| | load | answers/s | p50 ms | p99 ms | errors | CPU per request, µs: \
         gateway + worker, broker | all, to 1 partition |\n|---|---|---|---|---|---|---|---|"
    )?;
    for ask in asks {
        for size in SIZES {
            let (fleet, shape) = (name(size), ask.of(size));
            let cpu = |role| number(results.cpu_us(&fleet, shape, role));
            let quantile = |it| number(results.quantile_ms(&fleet, shape, it));
            writeln!(
                page,
                "| {fleet} | {shape}{ask} | {:.0} | {} | {} | {} | {} + {}, {} | {} |",
                results.throughput(&fleet, shape).unwrap_or_default(),
                quantile(0.5),
                quantile(0.99),
                results.errors(&fleet, shape),
                cpu(Role::Gateway),
                cpu(Role::Worker),
                cpu(Role::Broker),
                number(ratio(results, ask, size).map(|it| it.median)),
            )?;
        }
    }
    Ok(())
}

fn carries(results: &Results, ask: Ask, size: u16) -> bool {
    let shape = ask.of(size);
    let answers = results.throughput(&name(size), shape);
    matches!((shape, answers), (Shape::Rate(rate), Some(it)) if it >= f64::from(rate) * CARRIED)
}

/// To the smallest fleet.
fn ratio(results: &Results, ask: Ask, size: u16) -> Option<Figure> {
    let [smallest, ..] = SIZES;
    let (fleet, to) = (name(size), name(smallest));
    let cpu = |fleet, size| results.of(fleet, ask.of(size)).map(all_cpu_us);
    results::ratio(cpu(&fleet, size), cpu(&to, smallest))
}

/// Of gateways, workers and broker.
fn all_cpu_us(round: &Round) -> Option<f64> {
    Some(round.own_cpu_us()? + round.cpu_us(Role::Broker)?)
}

// === impl Ask ===

impl Ask {
    /// On a fleet of this size.
    pub(crate) fn of(self, size: u16) -> Shape {
        match self {
            Self::InAll(rate) => Shape::Rate(rate),
            Self::Each(rate) => Shape::Rate(rate * u32::from(size)),
            Self::Closed => Shape::Closed(CONNECTIONS),
        }
    }
}

/// What is to be added to the shape.
impl Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InAll(_) | Self::Closed => Ok(()),
            Self::Each(rate) => write!(f, ", {rate} for each gateway"),
        }
    }
}

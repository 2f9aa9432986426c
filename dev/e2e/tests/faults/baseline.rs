//! Scenarios without a fault.

use std::time::Duration;

use bench::Outcome;
use e2e::{fixture::Fixture, http::post};
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    fault::{Fault, Pair},
    invariants::twice,
    traffic::Traffic,
    verdict::{Verdict, ms},
};

pub(crate) async fn steady(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let pair = Pair::ready(&Fixture::shared(fault.engine).await).await;
    let rate = fault.rate(1, &pair.gateway).await;
    verdict.note(format!("{rate}/s"));
    twice(&pair.processes(), &mut verdict, async |verdict| {
        let traffic = Traffic::start(pair.gateway.http(), rate);
        traffic.run_for(Duration::from_secs(60)).await;
        let record = traffic.finish().await;
        record.judge_answers(verdict);
        record.all().judge_share(verdict, "in 60 s", 0.9999);
        record.all().note_latency(verdict);
        let served = record.all().count(|outcome| outcome == Outcome::Ok) as f64 / 60.0;
        verdict.invariant(served >= rate * 0.99, format!("only {served:.0}/s"));
    })
    .await;
    verdict
}

/// The criterion holds below this size.
const SMALL_BYTES: usize = 7 * 1024;

const SIZES: [usize; 18] = [
    1, 64, 512, 1_024, 2_048, 3_072, 4_096, 5_120, 6_144, 7_000, 7_680, 8_192, 9_216, 12_288, 16_384, 32_768, 49_152,
    65_400,
];

/// One client in a closed loop, with values of each size.
pub(crate) async fn sizes(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let pair = Pair::ready(&Fixture::shared(fault.engine).await).await;
    twice(&pair.processes(), &mut verdict, async |verdict| {
        measure_sizes(&pair, verdict).await
    })
    .await;
    verdict
}

async fn measure_sizes(pair: &Pair, verdict: &mut Verdict) {
    let mut medians = Vec::new();
    for size in SIZES {
        let mut connection = pair.gateway.connect().await;
        let mut times = Vec::new();
        for _ in 0..101 {
            let name = Uuid::new_v4().to_string();
            let value = "v".repeat(size);
            let question = post("/ping", json!({ "name": name, "value": value }).to_string());
            let start = Instant::now();
            let response = connection.exchange(question).await;
            times.push(start.elapsed());
            let right = response.message().starts_with(&format!("{name} {value} ( "));
            verdict.invariant(right, format!("I2: a wrong response of {size} B"));
            // The gateway closes the connection after a large response.
            if response.header("connection") == Some("close") {
                connection = pair.gateway.connect().await;
            }
        }
        times.sort_unstable();
        medians.push((size, times.get(times.len() / 2).copied().unwrap_or_default()));
    }
    let step = |pairs: &[(usize, Duration)]| {
        let steps = pairs.windows(2).map(|pair| pair[1].1.saturating_sub(pair[0].1));
        steps.max().unwrap_or_default()
    };
    let small = medians.partition_point(|(size, _)| *size < SMALL_BYTES);
    let (below, above) = (step(&medians[..small]), step(&medians[small - 1..]));
    verdict.judge(
        below <= Duration::from_millis(5),
        format!("largest step of p50 below 7 KiB: {}, above: {}", ms(below), ms(above)),
    );
    let list: Vec<_> = medians
        .iter()
        .map(|(size, time)| format!("{size} B {}", ms(*time)))
        .collect();
    verdict.note(format!("p50: {}", list.join(", ")));
}

//! A middlebox between gateway, worker and broker that forgets idle flows without a word.

use std::time::Duration;

use e2e::{cluster::NodeSettings, fixture::Fixture, forgetting_proxy::ForgettingProxy};
use tokio::time::{Instant, sleep};

use crate::{
    fault::{Common, Fault, Pair},
    invariants::twice,
    verdict::{Verdict, ms},
};

/// How long a flow may be idle: the shortest limit of the criterion.
const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// Time for both to find out that their flows are forgotten: a probe is due after 2 s and waits for 1 s; then they reconnect.
const NOTICE: Duration = Duration::from_secs(4);

/// The bound on the next request.
const NEXT_LIMIT: Duration = Duration::from_secs(2);

pub(crate) async fn forgotten(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let proxy = ForgettingProxy::listen(IDLE_LIMIT).await;
    let settings = NodeSettings {
        advertised_port: Some(proxy.addr().port()),
        ..NodeSettings::default()
    };
    let cluster = fault.engine.own(1, settings).await;
    proxy.forward_to(cluster.brokers());
    for in_group in [false, true] {
        let fixture = Fixture::at(&proxy.addr().to_string());
        let worker = if in_group { fixture.member() } else { fixture.worker() };
        // Without heartbeats, nothing but a reply uses the producer of the worker.
        let worker = worker.set("ANNOUNCE_INTERVAL", "0s").set("DRAIN_TIMEOUT", "5s");
        let (gateway, worker) = tokio::join!(fixture.gateway().common().ready(), worker.ready());
        let pair = Pair { gateway, worker };
        twice(&pair.processes(), &mut verdict, async |verdict| {
            // The flows of a client without traffic are forgotten.
            let idle_client = fixture.ping().await;
            let forgotten_before = proxy.forgotten();
            next_request(&pair, verdict, "before").await;
            sleep(3 * IDLE_LIMIT).await;
            next_request(
                &pair,
                verdict,
                &format!("after {} without a request", ms(3 * IDLE_LIMIT)),
            )
            .await;
            let forgotten = proxy.forgotten() - forgotten_before;
            verdict.judge(forgotten > 0, format!("{forgotten} idle flows forgotten"));
            drop(idle_client);

            proxy.forget_all();
            sleep(NOTICE).await;
            next_request(
                &pair,
                verdict,
                &format!("{} after all flows were forgotten", ms(NOTICE)),
            )
            .await;
        })
        .await;
    }
    verdict
}

/// Two requests, because the first may only have repaired the way for the second.
async fn next_request(pair: &Pair, verdict: &mut Verdict, what: &str) {
    for turn in ["first", "second"] {
        let from = Instant::now();
        let status = pair.gateway.get("/ping").await.status;
        let took = from.elapsed();
        verdict.judge(
            status == 200 && took <= NEXT_LIMIT,
            format!("{what}: {turn} {status} in {}", ms(took)),
        );
    }
}

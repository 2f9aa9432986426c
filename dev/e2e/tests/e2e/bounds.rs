//! Connections to Kafka: as many as the work takes, however much of it there is.

use std::time::Duration;

use e2e::{
    engine::Engine,
    process::Process,
    scene::Scene,
    topic::create,
    wait::{SOON, until},
};

use crate::load::{assert_answered, open_loop};

const PARTITIONS: i32 = 6;

/// Partitions of the reply topic, in each of which the worker announces itself.
const PLACES: i32 = 3;

/// For lists of topics, and for the leaders of partitions.
const METADATA: usize = 1;

/// Connections to produce with, where there are fewer places than that.
const MAX_PRODUCER_CONNECTIONS: usize = 4;

/// The most connections seen during a load.
async fn most(scene: &Scene, processes: &[&Process]) -> Vec<usize> {
    let gateway = processes[0].http();
    let load = tokio::spawn(open_loop(gateway, 300, Duration::from_secs(3)).run());
    let mut most = vec![0; processes.len()];
    until("the load ends", SOON, async || {
        for (most, process) in most.iter_mut().zip(processes) {
            *most = process.connections(scene.brokers()).await.max(*most);
        }
        load.is_finished().then_some(())
    })
    .await;
    assert_answered(&load.await.unwrap().unwrap(), &[]);
    most
}

/// Both read and write all partitions.
pub(crate) async fn of_connections(engine: &Engine) {
    let scene = Scene::shared(engine).await;
    create(scene.brokers(), scene.ping_name(), PARTITIONS).await;
    create(scene.brokers(), scene.pong_name(), PLACES).await;
    let [partitions, places] = [PARTITIONS, PLACES].map(|it| usize::try_from(it).unwrap());
    for (worker, group) in [(scene.worker().set("PARTITIONS", "all"), 0), (scene.member(), 1)] {
        let gateway = scene.gateway().set("REQUEST_PARTITIONS", "all");
        let (gateway, worker) = tokio::join!(gateway.ready(), worker.ready());
        worker.until_metric("worker_partitions", i64::from(PARTITIONS)).await;

        let found = most(&scene, &[&gateway, &worker]).await;

        let reading = 1;
        let of_gateway = MAX_PRODUCER_CONNECTIONS.max(partitions) + reading + METADATA;
        let positions = 1;
        let of_worker = partitions + MAX_PRODUCER_CONNECTIONS.max(places) + METADATA + positions + group;
        assert!(found[0] <= of_gateway, "the gateway had {}, not {of_gateway}", found[0]);
        assert!(found[1] <= of_worker, "the worker had {}, not {of_worker}", found[1]);
        // Nothing is left out of the count.
        assert!(found[0] > partitions && found[1] > partitions, "{found:?}");
    }
}

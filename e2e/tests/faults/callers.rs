//! Callers who are too many, too slow, malformed or gone.

use std::{net::SocketAddr, time::Duration};

use bench::{Load, Mode, Until};
use e2e::{
    http::{Connection, get, request},
    scene::Scene,
    wait::until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};

use crate::{
    stage::{Before, Common, MAX_IN_FLIGHT, Pair, Stage, no_caller_is_left},
    traffic::Traffic,
    verdict::{Verdict, mib, ms},
};

const SECOND: Duration = Duration::from_secs(1);

/// Ten times the in-flight cap.
const CROWD: usize = 10_240;

/// What the crowd may take: for each connection, and beside that.
const BYTES_PER_CONNECTION: u64 = 12 * 1024;
const BYTES_BESIDE: u64 = 16 << 20;

pub(crate) async fn crowd(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut pair = Pair::ready(&Scene::shared(stage.engine).await).await;
    stage.rate(1, &pair.gateway).await;
    let idle = pair.gateway.footprint().memory_bytes;
    pair.twice(&mut verdict, async |pair, verdict| {
        let load = Load {
            until: Until::Elapsed(30 * SECOND),
            ..Load::new(pair.gateway.http(), Mode::Closed { connections: CROWD })
        };
        let traffic = Traffic::of(load);
        let ended = Instant::now() + 30 * SECOND;
        let (mut pending, mut memory, mut open) = (0, 0, 0);
        while Instant::now() < ended {
            pending = pending.max(pair.gateway.metric("gateway_in_flight").await);
            let footprint = pair.gateway.footprint();
            (memory, open) = (memory.max(footprint.memory_bytes), open.max(footprint.descriptors));
            sleep(SECOND / 10).await;
        }
        let record = traffic.ended().await;
        record.judge_answers(verdict);
        verdict.judge(open > CROWD, format!("{open} descriptors"));
        verdict.judge(pending <= MAX_IN_FLIGHT, format!("at most {pending} pending"));
        let bound = idle + BYTES_PER_CONNECTION * u64::try_from(CROWD).unwrap() + BYTES_BESIDE;
        verdict.judge(
            memory <= bound,
            format!("{} of {} (idle {})", mib(memory), mib(bound), mib(idle)),
        );
        verdict.note(record.all().summary());
    })
    .await;
    verdict
}

/// Of 1,000 slow connections half send a head, the others a body.
const SLOW: usize = 1_000;

/// The gateway's own default.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends a byte per second until the server closes; gives how long that took.
async fn drip(addr: SocketAddr, start: &'static [u8], byte: &'static [u8]) -> Duration {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let connected = Instant::now();
    let mut ticks = interval(SECOND);
    stream.write_all(start).await.unwrap();
    let mut read = [0; 1_024];
    loop {
        tokio::select! {
            got = stream.read(&mut read) => if !matches!(got, Ok(1..)) {
                return connected.elapsed();
            },
            // It may be closed already: the read says so.
            _ = ticks.tick() => {
                let _ = stream.write_all(byte).await;
            }
        }
    }
}

pub(crate) async fn slow(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut pair = Pair::ready(&Scene::shared(stage.engine).await).await;
    let rate = stage.rate(1, &pair.gateway).await;
    verdict.note(format!("{rate}/s"));
    pair.twice(&mut verdict, async |pair, verdict| {
        let addr = pair.gateway.http();
        let traffic = Traffic::start(addr, rate);
        traffic.run_for(SECOND).await;
        let mut slow = JoinSet::new();
        for number in 0..SLOW {
            if number % 2 == 0 {
                slow.spawn(drip(addr, b"POST /ping HTTP/1.1\r\nhost: slow\r\nx-slow: ", b"x"));
            } else {
                let head = b"POST /ping HTTP/1.1\r\nhost: slow\r\ncontent-length: 1000\r\n\r\n{";
                slow.spawn(drip(addr, head, b" "));
            }
        }
        let mut times = Vec::new();
        let bound = HEADER_TIMEOUT + SECOND;
        while let Ok(Some(time)) = timeout(2 * bound, slow.join_next()).await {
            times.push(time.unwrap());
        }
        times.sort_unstable();
        let (first, last) = (times.first().copied(), times.last().copied());
        let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
        verdict.judge(
            times.len() == SLOW && HEADER_TIMEOUT - SECOND <= first && last <= bound,
            format!("{} of {SLOW} closed after {} to {}", times.len(), ms(first), ms(last)),
        );
        let record = traffic.finish().await;
        record.judge_answers(verdict);
        record.all().judge_share(verdict, "good callers", 0.999);
    })
    .await;
    verdict
}

/// Requests that are none, and the statuses that may answer them; a connection that closes without one is fine, too.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let words = r#"{"name":"n","value":"v"}"#;
    let chunked = |body: &str| {
        format!(
            "POST /ping HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{body}"
        )
    };
    let get_with = |headers: String| format!("GET /ping HTTP/1.1\r\nhost: test\r\n{headers}\r\n");
    let over = "x".repeat(70 * 1_024);
    let over = format!(r#"{{"name":"n","value":"{over}"}}"#);
    vec![
        (
            "CL and TE",
            format!(
                "POST /ping HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{words}",
                words.len()
            )
            .into(),
        ),
        ("bad chunk size", chunked(&format!("xyz\r\n{words}\r\n0\r\n\r\n")).into()),
        ("chunk too short", chunked(&format!("1\r\n{words}\r\n0\r\n\r\n")).into()),
        ("bad length", get_with("content-length: -1\r\n".to_owned()).into()),
        ("two lengths", get_with("content-length: 1\r\ncontent-length: 2\r\n".to_owned()).into()),
        ("101 headers", get_with((0..101).map(|it| format!("x-{it}: y\r\n")).collect()).into()),
        ("500 KiB header", get_with(format!("x: {}\r\n", "y".repeat(500 * 1_024))).into()),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("bad method", b"\0 /ping HTTP/1.1\r\nhost: test\r\n\r\n".to_vec()),
        ("too large", request("POST", "/ping", &["content-type: application/json"], &over)),
        (
            "too large without a length",
            chunked(&format!("{:x}\r\n{over}\r\n0\r\n\r\n", over.len())).into(),
        ),
    ]
}

pub(crate) async fn hostile(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    let mut pair = Pair::ready(&scene).await;
    let ping = scene.ping().await;
    pair.twice(&mut verdict, async |pair, verdict| {
        let end = ping.end().await;
        let mut seen = Vec::new();
        for (name, bytes) in malformed() {
            for _ in 0..20 {
                let mut connection = TcpStream::connect(pair.gateway.http()).await.unwrap();
                // The server may hang up before it has read all of it.
                let _ = connection.write_all(&bytes).await;
                let mut answer = Vec::new();
                // One that stays open after its answer is closed from here; a reset is an end, too.
                let _ = timeout(SECOND / 10, connection.read_to_end(&mut answer)).await;
                let text = String::from_utf8_lossy(&answer);
                let status = text.split(' ').nth(1).unwrap_or("closed").to_owned();
                let fine = ["400", "413", "431", "closed"].contains(&&*status);
                verdict.invariant(fine, format!("{name}: {text}"));
                let line = format!("{name} {status}");
                if !seen.contains(&line) {
                    seen.push(line);
                }
            }
        }
        verdict.note(seen.join(", "));
        let produced = ping.end().await - end;
        verdict.judge(produced == 0, format!("{produced} produced"));
        verdict.judge(pair.gateway.get("/ping").await.status == 200, "then 200");
    })
    .await;
    verdict
}

/// So many leave at once.
const LEAVING: usize = 10_000;

pub(crate) async fn gone(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    // All of them wait at the same time, and until they leave.
    let setup = scene
        .gateway()
        .common()
        .set("MAX_IN_FLIGHT", "16384")
        .set("REPLY_TIMEOUT", "60s");
    let mut gateway = setup.ready().await;
    let before = Before::of(&[&gateway]);
    let mut memory = Vec::new();
    for _ in 0..2 {
        let mut callers = Vec::with_capacity(LEAVING);
        for _ in 0..LEAVING {
            let mut caller = Connection::open(gateway.http()).await.unwrap();
            caller.send(get("/ping")).await.unwrap();
            callers.push(caller);
        }
        gateway
            .until_metric("gateway_in_flight", i64::try_from(LEAVING).unwrap())
            .await;
        drop(callers);
        let left = Instant::now();
        let baseline = before.first_descriptors() + 5;
        until("all are gone", 30 * SECOND, async || {
            let pending = gateway.metric("gateway_in_flight").await;
            (pending == 0 && gateway.footprint().descriptors <= baseline).then_some(())
        })
        .await;
        verdict.judge(
            left.elapsed() <= SECOND,
            format!(
                "{LEAVING} gone: nothing pending, descriptors back after {}",
                ms(left.elapsed())
            ),
        );
        memory.push(gateway.footprint().memory_bytes);
    }
    crate::stage::judge_memory("gateway", memory[0], memory[1], &mut verdict);
    no_caller_is_left(&gateway, &mut verdict).await;
    before.judge(&mut [&mut gateway], &mut verdict).await;
    verdict
}

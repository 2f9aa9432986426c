//! Callers who are too many, too slow, malformed or gone.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use bench::{Load, Mode, Until};
use e2e::{
    http::{Connection, get, request},
    process::Process,
    scene::Scene,
    wait::until,
};
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};

use crate::{
    stage::{Common, MAX_IN_FLIGHT, Pair, Stage},
    traffic::Traffic,
    verdict::{Verdict, mib, ms},
    watch::twice,
};

const SECOND: Duration = Duration::from_secs(1);

/// Ten times the in-flight cap.
const CROWD: usize = 10_240;

/// What the crowd may take: for each connection, and beside that.
const BYTES_PER_CONNECTION: u64 = 12 * 1024;
const BYTES_BESIDE: u64 = 16 << 20;

pub(crate) async fn crowd(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let pair = Pair::ready(&Scene::shared(stage.engine).await).await;
    stage.rate(1, &pair.gateway).await;
    let idle = pair.gateway.footprint().memory_bytes;
    twice(&pair.processes(), &mut verdict, async |verdict| {
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

/// So many send nothing.
const SILENT: usize = 10_000;

/// Half of the gateway's own default: it is waited for again and again.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long after a timeout the gateway may close.
const CLOSING: Duration = Duration::from_secs(1);

/// How much the descriptors may differ from before, while there is traffic.
const DESCRIPTORS: usize = 5;

/// Connections of the good callers: a fixed number, so that only the others move the gateway's descriptors.
const GOOD: usize = 256;

/// Both ready, with the gateway's patience for heads and bodies.
async fn impatient(scene: &Scene, header_timeout: Duration) -> Pair {
    let header_timeout = format!("{}s", header_timeout.as_secs());
    let (gateway, worker) = tokio::join!(
        scene.gateway().common().set("HEADER_TIMEOUT", header_timeout).ready(),
        scene.worker().set("DRAIN_TIMEOUT", "5s").ready()
    );
    Pair { gateway, worker }
}

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

/// Half of them with the head, half with the body.
async fn judge_drips(addr: SocketAddr, verdict: &mut Verdict) {
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
    let bound = HEADER_TIMEOUT + CLOSING;
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
}

/// The gateway's descriptors rise by so many, and are back in time after the last of them, whose other ends stay open.
async fn judge_closing(gateway: &Process, before: usize, at_least: usize, what: &str, verdict: &mut Verdict) {
    let bound = HEADER_TIMEOUT + CLOSING;
    let deadline = Instant::now() + 3 * bound;
    let (mut most, mut reached) = (before, Instant::now());
    let left = loop {
        let open = gateway.footprint().descriptors;
        if open > most {
            (most, reached) = (open, Instant::now());
        }
        let is_back = open <= before + DESCRIPTORS;
        if (is_back && most >= before + at_least) || Instant::now() > deadline {
            break open.saturating_sub(before);
        }
        sleep(SECOND / 20).await;
    };
    let closed = reached.elapsed();
    verdict.judge(
        most >= before + at_least && left <= DESCRIPTORS && closed <= bound,
        format!(
            "{what}: {} opened, {left} left {} after the last",
            most - before,
            ms(closed)
        ),
    );
}

/// Connections of a tool that many have at hand. It opens none a second time, and ends when all are closed.
async fn judge_slowhttptest(gateway: &Process, mode: &str, verdict: &mut Verdict) {
    let before = gateway.footprint().descriptors;
    let mut tool = tokio::process::Command::new("slowhttptest")
        // All connect within a second, and each of them sends something every second.
        .args([mode, "-c", &SLOW.to_string(), "-r", "10000", "-i", "1", "-x", "8"])
        .args(["-f", "application/json", "-s", "4096"])
        .args(["-u", &format!("http://{}/ping", gateway.http())])
        // It asks whether the server is there still, at the start and after so many seconds: that would be a connection.
        .args(["-p", "60", "-l", "30"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it is installed");
    let what = format!("slowhttptest {mode}");
    judge_closing(gateway, before, SLOW * 95 / 100, &what, verdict).await;
    let ended = timeout(2 * SECOND, tool.wait()).await;
    verdict.invariant(matches!(ended, Ok(Ok(_))), format!("{what} has connections left"));
    // It has ended already where all is well.
    let _ = tool.kill().await;
}

async fn judge_silent(gateway: &Process, verdict: &mut Verdict) {
    let before = gateway.footprint().descriptors;
    let mut silent = Vec::with_capacity(SILENT);
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(gateway.http()).await.unwrap());
    }
    judge_closing(gateway, before, SILENT, "silent", verdict).await;
}

/// Good callers beside bad ones.
async fn judge_beside(
    gateway: &Process,
    rate: f64,
    verdict: &mut Verdict,
    bad: impl AsyncFnOnce(&Process, &mut Verdict),
) {
    let traffic = Traffic::over(gateway.http(), rate, GOOD);
    traffic.run_for(SECOND).await;
    bad(gateway, verdict).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    record.all().judge_share(verdict, "good callers", 0.999);
}

pub(crate) async fn slow(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let usage = Command::new("slowhttptest").arg("-h").stderr(Stdio::null()).output();
    if usage.is_err() {
        return Verdict::broken("slowhttptest is not installed (Debian, Ubuntu: slowhttptest)".to_owned());
    }
    let pair = impatient(&Scene::shared(stage.engine).await, HEADER_TIMEOUT).await;
    let rate = stage.rate(1, &pair.gateway).await;
    verdict.note(stage.load(1));
    twice(&pair.processes(), &mut verdict, async |verdict| {
        let gateway = &pair.gateway;
        judge_beside(gateway, rate, verdict, async |it, verdict| {
            judge_drips(it.http(), verdict).await;
        })
        .await;
        for mode in ["-H", "-B"] {
            judge_beside(gateway, rate, verdict, async |it, verdict| {
                judge_slowhttptest(it, mode, verdict).await;
            })
            .await;
        }
        judge_beside(gateway, rate, verdict, judge_silent).await;
    })
    .await;
    verdict
}

/// Requests that are none, and the one status that is right.
fn malformed() -> Vec<(&'static str, u16, Vec<u8>)> {
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
            400,
            format!(
                "POST /ping HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{words}",
                words.len()
            )
            .into(),
        ),
        ("bad chunk size", 400, chunked(&format!("xyz\r\n{words}\r\n0\r\n\r\n")).into()),
        ("chunk too short", 400, chunked(&format!("1\r\n{words}\r\n0\r\n\r\n")).into()),
        ("bad length", 400, get_with("content-length: -1\r\n".to_owned()).into()),
        ("two lengths", 400, get_with("content-length: 1\r\ncontent-length: 2\r\n".to_owned()).into()),
        ("101 headers", 431, get_with((0..101).map(|it| format!("x-{it}: y\r\n")).collect()).into()),
        ("500 KiB header", 431, get_with(format!("x: {}\r\n", "y".repeat(500 * 1_024))).into()),
        ("no HTTP", 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("bad method", 400, b"\0 /ping HTTP/1.1\r\nhost: test\r\n\r\n".to_vec()),
        ("too large", 413, request("POST", "/ping", &["content-type: application/json"], &over)),
        (
            "too large without a length",
            413,
            chunked(&format!("{:x}\r\n{over}\r\n0\r\n\r\n", over.len())).into(),
        ),
    ]
}

/// Of each so many at once.
const HOSTILE: usize = 20;

/// Where whoever stays silent is waited for.
const SHORT_HEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// What reading has begun with is answered for certain. Of more, the rest is not read, so that the close is a reset, which
/// may overtake the answer.
const READ_AT_ONCE: usize = 8 * 1024;

/// Sends it and reads until the connection is closed, in order or by a reset; `None` where it stays open.
async fn said(addr: SocketAddr, bytes: &[u8]) -> Option<String> {
    let mut answer = Vec::new();
    let exchange = async {
        let mut connection = TcpStream::connect(addr).await.unwrap();
        // The server may hang up before it has read all of it.
        let _ = connection.write_all(bytes).await;
        let _ = connection.read_to_end(&mut answer).await;
    };
    timeout(SHORT_HEADER_TIMEOUT + CLOSING, exchange).await.ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

pub(crate) async fn hostile(stage: &Stage<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let scene = Scene::shared(stage.engine).await;
    let pair = impatient(&scene, SHORT_HEADER_TIMEOUT).await;
    let ping = scene.ping().await;
    twice(&pair.processes(), &mut verdict, async |verdict| {
        let end = ping.end().await;
        for (name, right, bytes) in malformed() {
            let all = join_all((0..HOSTILE).map(|_| said(pair.gateway.http(), &bytes))).await;
            let mut answered = 0;
            for text in all {
                match text.as_deref() {
                    None => verdict.invariant(false, format!("{name}: it stays open")),
                    Some("") => {
                        verdict.invariant(bytes.len() > READ_AT_ONCE, format!("{name}: closed without an answer"));
                    }
                    Some(text) => {
                        let status = text.split(' ').nth(1).unwrap_or_default();
                        verdict.invariant(status == right.to_string(), format!("{name}: {text}"));
                        answered += 1;
                    }
                }
            }
            verdict.note(format!("{name} {answered} × {right}"));
        }
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
    let gateway = setup.ready().await;
    let baseline = gateway.footprint().descriptors + DESCRIPTORS;
    twice(&[&gateway], &mut verdict, async |verdict| {
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
    })
    .await;
    verdict
}

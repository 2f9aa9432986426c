//! Faults of clients: too many, too slow, malformed, or disconnected.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use bench::{Load, Mode, Until};
use e2e::{
    fixture::Fixture,
    http::{Connection, get, request},
    process::Process,
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
    fault::{Common, Fault, MAX_IN_FLIGHT, Pair},
    invariants::twice,
    traffic::Traffic,
    verdict::{Verdict, mib, ms},
};

const SECOND: Duration = Duration::from_secs(1);

/// Ten times `MAX_IN_FLIGHT`.
const CROWD: usize = 10_240;

/// The memory criterion: per connection, and in addition. A crowd takes 14 KiB a connection the first time. The allocator reuses
/// freed memory in parts only: from the fifth crowd on it is 20 KiB, and stays there.
const BYTES_PER_CONNECTION: u64 = 20 * 1024;
const BYTES_BESIDE: u64 = 16 << 20;

pub(crate) async fn crowd(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let pair = Pair::ready(&Fixture::shared(fault.engine).await).await;
    fault.rate(1, &pair.gateway).await;
    let idle = pair.gateway.footprint().memory_bytes;
    twice(&pair.processes(), &mut verdict, async |verdict| {
        let load = Load {
            until: Until::Elapsed(30 * SECOND),
            ..Load::new(pair.gateway.http(), Mode::Closed { connections: CROWD })
        };
        let traffic = Traffic::of(load);
        let ended = Instant::now() + 30 * SECOND;
        let (mut in_flight, mut memory, mut open) = (0, 0, 0);
        while Instant::now() < ended {
            in_flight = in_flight.max(pair.gateway.metric("gateway_in_flight").await);
            let footprint = pair.gateway.footprint();
            (memory, open) = (memory.max(footprint.memory_bytes), open.max(footprint.descriptors));
            sleep(SECOND / 10).await;
        }
        let record = traffic.ended().await;
        record.judge_answers(verdict);
        verdict.judge(open > CROWD, format!("{open} descriptors"));
        verdict.judge(in_flight <= MAX_IN_FLIGHT, format!("at most {in_flight} in flight"));
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

/// Connections that send nothing.
const SILENT: usize = 10_000;

/// Half of the default, to shorten the scenario.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The bound on the close after a timeout.
const CLOSING: Duration = Duration::from_secs(1);

/// The tolerance for descriptors under load: the producer opens three more connections, each with two descriptors.
const DESCRIPTORS: usize = 8;

/// Connections of the load, a fixed number: only the other connections change the number of descriptors.
const LOAD_CONNECTIONS: usize = 256;

/// Both ready, with this `HEADER_TIMEOUT`.
async fn pair_with_header_timeout(fixture: &Fixture, header_timeout: Duration) -> Pair {
    let header_timeout = format!("{}s", header_timeout.as_secs());
    let (gateway, worker) = tokio::join!(
        fixture.gateway().common().set("HEADER_TIMEOUT", header_timeout).ready(),
        fixture.worker().set("DRAIN_TIMEOUT", "5s").ready()
    );
    Pair { gateway, worker }
}

/// Sends a byte per second until the server closes, and returns the time until then.
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
            // After a close the write fails, and the read ends the loop.
            _ = ticks.tick() => {
                let _ = stream.write_all(byte).await;
            }
        }
    }
}

/// Slow connections, half of them with a slow head, half with a slow body.
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

/// The number of descriptors rises by `at_least`, and is back in time after the maximum. The clients keep their ends open.
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

/// Connections of slowhttptest, which ends when the server has closed all of them.
async fn judge_slowhttptest(gateway: &Process, mode: &str, verdict: &mut Verdict) {
    let before = gateway.footprint().descriptors;
    let mut tool = tokio::process::Command::new("slowhttptest")
        // All connect within a second, and each sends data every second.
        .args([mode, "-c", &SLOW.to_string(), "-r", "10000", "-i", "1", "-x", "8"])
        .args(["-f", "application/json", "-s", "4096"])
        .args(["-u", &format!("http://{}/ping", gateway.http())])
        // Its probe of the server would be another connection, so its interval is longer than the run.
        .args(["-p", "60", "-l", "30"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("slowhttptest is installed");
    let what = format!("slowhttptest {mode}");
    judge_closing(gateway, before, SLOW * 95 / 100, &what, verdict).await;
    let ended = timeout(2 * SECOND, tool.wait()).await;
    verdict.invariant(matches!(ended, Ok(Ok(_))), format!("{what} has connections left"));
    // Fails if it has ended.
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

/// Judges the load beside bad connections.
async fn judge_beside(
    gateway: &Process,
    rate: f64,
    verdict: &mut Verdict,
    bad: impl AsyncFnOnce(&Process, &mut Verdict),
) {
    let traffic = Traffic::over(gateway.http(), rate, LOAD_CONNECTIONS);
    traffic.run_for(SECOND).await;
    bad(gateway, verdict).await;
    let record = traffic.finish().await;
    record.judge_answers(verdict);
    record.all().judge_share(verdict, "other clients", 0.999);
}

pub(crate) async fn slow(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let usage = Command::new("slowhttptest").arg("-h").stderr(Stdio::null()).output();
    if usage.is_err() {
        return Verdict::broken("slowhttptest is not installed (Debian, Ubuntu: slowhttptest)".to_owned());
    }
    let pair = pair_with_header_timeout(&Fixture::shared(fault.engine).await, HEADER_TIMEOUT).await;
    let rate = fault.rate(1, &pair.gateway).await;
    verdict.note(fault.load(1));
    twice(&pair.processes(), &mut verdict, async |verdict| {
        let gateway = &pair.gateway;
        judge_beside(gateway, rate, verdict, async |gateway, verdict| {
            judge_drips(gateway.http(), verdict).await;
        })
        .await;
        for mode in ["-H", "-B"] {
            judge_beside(gateway, rate, verdict, async |gateway, verdict| {
                judge_slowhttptest(gateway, mode, verdict).await;
            })
            .await;
        }
        judge_beside(gateway, rate, verdict, judge_silent).await;
    })
    .await;
    verdict
}

/// Malformed requests, and the right status for each.
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
        ("101 headers", 431, get_with((0..101).map(|n| format!("x-{n}: y\r\n")).collect()).into()),
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

/// Concurrent requests of each kind.
const HOSTILE: usize = 20;

/// For scenario 25, in which all connections send at once.
const SHORT_HEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// Up to this size the response is certain. The gateway does not read a longer request to its end, so the close is a reset,
/// which may discard the response.
const READ_AT_ONCE: usize = 8 * 1024;

/// Sends bytes and reads until a close or a reset; `None` if the connection stays open.
async fn send_and_read(addr: SocketAddr, bytes: &[u8]) -> Option<String> {
    let mut response = Vec::new();
    let exchange = async {
        let mut connection = TcpStream::connect(addr).await.unwrap();
        // The server may close before it has read all of it.
        let _ = connection.write_all(bytes).await;
        let _ = connection.read_to_end(&mut response).await;
    };
    timeout(SHORT_HEADER_TIMEOUT + CLOSING, exchange).await.ok()?;
    Some(String::from_utf8_lossy(&response).into_owned())
}

pub(crate) async fn hostile(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let fixture = Fixture::shared(fault.engine).await;
    let pair = pair_with_header_timeout(&fixture, SHORT_HEADER_TIMEOUT).await;
    let ping = fixture.ping().await;
    twice(&pair.processes(), &mut verdict, async |verdict| {
        let end = ping.end().await;
        for (name, right, bytes) in malformed() {
            let all = join_all((0..HOSTILE).map(|_| send_and_read(pair.gateway.http(), &bytes))).await;
            let mut answered = 0;
            for text in all {
                match text.as_deref() {
                    None => verdict.invariant(false, format!("{name}: the connection stays open")),
                    Some("") => {
                        verdict.invariant(bytes.len() > READ_AT_ONCE, format!("{name}: closed without a response"));
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

/// Clients that disconnect at once.
const LEAVING: usize = 10_000;

pub(crate) async fn gone(fault: &Fault<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let fixture = Fixture::shared(fault.engine).await;
    // All of them wait at the same time until they disconnect.
    let setup = fixture
        .gateway()
        .common()
        .set("MAX_IN_FLIGHT", "16384")
        .set("REPLY_TIMEOUT", "60s");
    let gateway = setup.ready().await;
    let baseline = gateway.footprint().descriptors + DESCRIPTORS;
    // After a FIN the client may still read, so its request goes on for 2 s.
    let ways = [("RST", SECOND), ("FIN", 3 * SECOND)];
    twice(&[&gateway], &mut verdict, async |verdict| {
        for (way, bound) in ways {
            let mut callers = Vec::with_capacity(LEAVING);
            for _ in 0..LEAVING {
                let mut caller = Connection::open(gateway.http()).await.unwrap();
                caller.send(get("/ping")).await.unwrap();
                callers.push(caller);
            }
            gateway
                .until_metric("gateway_in_flight", i64::try_from(LEAVING).unwrap())
                .await;
            match way {
                "RST" => callers.into_iter().for_each(Connection::reset),
                _ => drop(callers),
            }
            let left = Instant::now();
            until("all disconnects are noticed", 30 * SECOND, async || {
                let in_flight = gateway.metric("gateway_in_flight").await;
                (in_flight == 0 && gateway.footprint().descriptors <= baseline).then_some(())
            })
            .await;
            let took = left.elapsed();
            verdict.judge(
                took <= bound,
                format!("{LEAVING} × {way}: all freed after {}", ms(took)),
            );
        }
    })
    .await;
    verdict
}

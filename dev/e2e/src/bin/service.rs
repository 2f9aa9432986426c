//! A service on the worker library, for tests: the path of a request says what its handler does.
//!
//! `service RUNTIME TOPIC...`, where RUNTIME is `multi` or `single`. The file of EXECUTIONS gets a line for each call of the
//! handler: the body of its request.

#![forbid(unsafe_code)]

use std::{
    env,
    error::Error,
    fs::OpenOptions,
    io::{self, Write},
    process::ExitCode,
    thread,
    time::Duration,
};

use serde_json::json;
use tokio::{runtime::Builder, time::sleep};
use worker::{Failure, Reply, Request, Worker};

/// Appends the body of a request to the file of EXECUTIONS. Lines of several processes do not mix: each is one write.
#[expect(clippy::disallowed_methods, reason = "the command line is that of the library")]
fn note_execution(request: &Request) -> io::Result<()> {
    let Some(path) = env::var_os("EXECUTIONS") else {
        return Ok(());
    };
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(&[request.body(), b"\n"].concat())
}

async fn handle(request: Request) -> Result<Reply, Failure> {
    note_execution(&request)?;
    let millis = request
        .query()
        .and_then(|query| query.parse().ok())
        .map(Duration::from_millis);
    match request.path() {
        "/fail" => Err(Failure::new(422, "not like this")),
        "/error" => Err(io::Error::other("a secret").into()),
        "/panic" => panic!("on purpose"),
        "/sleep" => {
            sleep(millis.unwrap_or_default()).await;
            Ok(Reply::text("slept"))
        }
        "/block" => {
            thread::sleep(millis.unwrap_or_default());
            Ok(Reply::text("blocked"))
        }
        _ => {
            let echo = json!({
                "topic": request.topic(),
                "method": request.method(),
                "id": request.param("id"),
                "body": String::from_utf8_lossy(request.body()),
            });
            Ok(Reply::json(&echo)?.status(201).header("location", request.path()))
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let runtime = match args.next().as_deref() {
        Some("single") => Builder::new_current_thread().enable_all().build()?,
        _ => Builder::new_multi_thread().worker_threads(2).enable_all().build()?,
    };
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(io::stderr)
        .init();
    let worker = args.fold(Worker::from_env(), |worker, topic| worker.topic(&topic, handle));
    let served = runtime.block_on(worker.identity("service", "1.2.3").serve());
    // A handler may block its thread for ever.
    runtime.shutdown_background();
    Ok(match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(worker::Error::Settings(line)) => {
            tracing::error!(line, "bad setting");
            ExitCode::from(64)
        }
        Err(error) => {
            tracing::error!(%error, "ended");
            ExitCode::FAILURE
        }
    })
}

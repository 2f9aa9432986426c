//! The least rights: those in docs/operations.md suffice, and each is needed and named.

use std::time::Duration;

use e2e::{
    process::{Process, Setup},
    secure_cluster::{Listener, SecureCluster},
    wait::until,
};

use crate::security::{CAUSE_LIMIT, log_in, request, until_cause};

const DOCS: &str = include_str!("../../../../docs/operations.md");

/// What a new cluster of `scripts/kafka` has instead.
const ACLS: &str = include_str!("../../../../scripts/kafka.d/acls");

/// A row of the table in the docs.
#[derive(Debug)]
struct Right {
    user: &'static str,
    operation: &'static str,
    kind: &'static str,
    /// A prefix of the names if it ends in `*`.
    name: &'static str,
}

/// The table under `## Rights`, with the default names of the topics.
fn rights() -> Vec<Right> {
    let (_, section) = DOCS.split_once("\n## Rights\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let (kind, names) = cells[2].split_once(' ').unwrap();
        let name = match names.split([' ', ',']).next().unwrap() {
            "PING_TOPIC" => "ping",
            "PONG_TOPIC" => "pong",
            "WORKER_GROUP" => "worker*",
            other => panic!("{other} in {row}"),
        };
        Right {
            user: cells[1],
            operation: cells[3],
            kind,
            name,
        }
    })
    .collect()
}

impl Right {
    fn acl(&self, action: &str) -> String {
        let Self {
            user,
            operation,
            kind,
            name,
        } = self;
        format!("acl {action} {user} {operation} {kind} {name}\n")
    }

    /// What the cause says, of a group or a topic.
    fn cause(&self, name: &str) -> String {
        let Self {
            user, operation, kind, ..
        } = self;
        format!("user {user} may not {operation} {kind} {name:?}: allow {operation} on it to the user")
    }
}

/// Requests notice that the gateway may not write any more: an idle connection writes nothing.
async fn until_denied(process: &Process, gateway: &Process, cause: &str) {
    until(&format!("{cause:?} in the log"), CAUSE_LIMIT, async || {
        request(gateway).await;
        process.log().iter().any(|line| line.contains(cause)).then_some(())
    })
    .await;
}

pub(crate) async fn missing_right_is_named_until_it_is_granted(cluster: &SecureCluster) {
    let rights = rights();
    assert_eq!(rights.len(), 5, "{rights:?}");
    let removed = ACLS.lines().filter(|line| line.starts_with("acl add "));
    let removed: String = removed
        .map(|line| line.replace("acl add", "acl remove") + "\n")
        .collect();
    let added: String = rights.iter().map(|right| right.acl("add")).collect();
    cluster.administer(&(removed + &added)).await;

    let login = async |setup, user| log_in(cluster, setup, user, Listener::SaslSsl, "PLAIN").await;
    let gateway = login(Setup::gateway().set("REPLY_TIMEOUT", "500ms"), "gateway").await;
    let member = login(Setup::worker(), "worker").await.set("WORKER_GROUP", "workers");
    let worker = login(Setup::worker(), "worker").await;
    let (gateway, member, worker) = tokio::join!(gateway.ready(), member.ready(), worker.ready());
    assert_eq!(request(&gateway).await, 200);
    for right in &rights {
        cluster.administer(&right.acl("remove")).await;
        match (right.user, right.kind) {
            ("gateway", _) => {
                let cause = right.cause(right.name);
                until_denied(&gateway, &gateway, &cause).await;
                until_cause(&gateway, &[&cause], CAUSE_LIMIT).await;
            }
            (_, "topic") => {
                for process in [&member, &worker] {
                    until_cause(process, &[&right.cause(right.name)], CAUSE_LIMIT).await;
                }
            }
            _ => {
                until_cause(&member, &[&right.cause("workers")], CAUSE_LIMIT).await;
                // It serves on, and commits nothing.
                let cause = right.cause("worker-static");
                until_denied(&worker, &gateway, &cause).await;
                assert_eq!(worker.page("/ready").await.0, 200);
            }
        }
        cluster.administer(&right.acl("add")).await;
        for process in [&gateway, &member, &worker] {
            process.until_ready().await;
        }
        until(
            &format!("a request is answered after {right:?}"),
            Duration::from_secs(10),
            async || (request(&gateway).await == 200).then_some(()),
        )
        .await;
    }
    worker.until_logged("offsets are committed again").await;
}

//! The connections of a process, as Linux lists them.

use std::{collections::HashSet, fs, path::Path};

use rustix::process::Pid;

/// The state of an established connection in `proc_net_tcp(5)`.
const ESTABLISHED: &str = "01";

/// How many established connections a process of ours has to one of these addresses (`host:port`, by commas). 0 when it
/// has ended.
pub(crate) fn count(pid: Pid, brokers: &str) -> usize {
    let ports: HashSet<u16> = brokers.split(',').filter_map(port).collect();
    let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())) else {
        return 0;
    };
    // One that is closed meanwhile is none.
    let targets = descriptors.flatten().filter_map(|it| fs::read_link(it.path()).ok());
    let sockets: HashSet<String> = targets.filter_map(|it| inode(&it)).collect();
    let tables = ["tcp", "tcp6"].map(|it| fs::read_to_string(format!("/proc/{}/net/{it}", pid.as_raw_nonzero())));
    let tables = tables.map(Result::unwrap_or_default);
    tables
        .iter()
        .flat_map(|it| it.lines())
        .filter(|line| is_one(line, &ports, &sockets).unwrap_or(false))
        .count()
}

/// Whether a line is an established connection to one of the ports, of one of the sockets.
fn is_one(line: &str, ports: &HashSet<u16>, sockets: &HashSet<String>) -> Option<bool> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, port) = fields.get(2)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(*fields.get(3)? == ESTABLISHED && ports.contains(&port) && sockets.contains(*fields.get(9)?))
}

fn port(broker: &str) -> Option<u16> {
    broker.rsplit_once(':')?.1.parse().ok()
}

/// `7` of `socket:[7]`.
fn inode(target: &Path) -> Option<String> {
    let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
    Some(inode.to_owned())
}

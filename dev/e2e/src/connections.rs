//! The connections of a process, as Linux lists them.

use std::{collections::HashSet, fs, path::Path};

use rustix::process::Pid;

/// The state of an established connection in `proc_net_tcp(5)`.
const ESTABLISHED: &str = "01";

/// The number of established connections of a process to these brokers (`host:port,...`). 0 when it has ended.
pub(crate) fn count(pid: Pid, brokers: &str) -> usize {
    let ports: HashSet<u16> = brokers.split(',').filter_map(port).collect();
    let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())) else {
        return 0;
    };
    // A descriptor may be closed meanwhile.
    let targets = descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    let sockets: HashSet<String> = targets.filter_map(|target| inode(&target)).collect();
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{}/net/{table}", pid.as_raw_nonzero())));
    let tables = tables.map(Result::unwrap_or_default).concat();
    established(&tables, &ports).intersection(&sockets).count()
}

/// The inodes of the established connections to these ports. Linux may list a line twice when connections change meanwhile.
fn established(table: &str, ports: &HashSet<u16>) -> HashSet<String> {
    table.lines().filter_map(|line| inode_of(line, ports)).collect()
}

/// The inode of a line with an established connection to one of the ports.
fn inode_of(line: &str, ports: &HashSet<u16>) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, port) = fields.get(2)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let inode = *fields.get(9)?;
    (*fields.get(3)? == ESTABLISHED && ports.contains(&port)).then(|| inode.to_owned())
}

fn port(broker: &str) -> Option<u16> {
    broker.rsplit_once(':')?.1.parse().ok()
}

/// `7` of `socket:[7]`.
fn inode(target: &Path) -> Option<String> {
    let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
    Some(inode.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2384 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0000000000000000 100 0 0 10 0
   1: 0100007F:C001 0100007F:2384 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:C002 0100007F:2384 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:C003 0100007F:2385 01 00000000:00000000 00:00000000 00000000     0        0 14 1 0000000000000000 20 4 30 10 -1
   4: 0100007F:C004 0100007F:2384 08 00000000:00000000 00:00000000 00000000     0        0 15 1 0000000000000000 20 4 30 10 -1
   5: 0100007F:C001 0100007F:2384 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0000000000000000 20 4 30 10 -1
";

    #[test]
    fn duplicate_line_counts_once() {
        let found = established(TABLE, &HashSet::from([0x2384]));
        assert_eq!(found, HashSet::from(["12".to_owned(), "13".to_owned()]));
    }
}

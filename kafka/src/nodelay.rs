//! Sets `TCP_NODELAY` on rskafka's sockets from outside: rskafka neither sets it nor exposes its sockets.
//!
//! - A TCP socket of this process without the option is rskafka's or a listener's: all other code sets the option when it
//!   connects. On a listener it does no harm.
//! - A socket is identified by its descriptor and its cookie, which is unique. While all known sockets exist, rskafka has not
//!   replaced one of them.
//! - Where `/proc/self/fd` cannot be read, or the option not be set, it never counts as set.

use std::{
    fs, io,
    os::fd::{BorrowedFd, RawFd},
};

use parking_lot::Mutex;
use rustix::net::sockopt::{set_tcp_nodelay, socket_cookie, tcp_nodelay};

/// A TCP socket that got the option here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    descriptor: RawFd,
    cookie: u64,
}

/// Global, because the table of descriptors is one for the process.
static KNOWN: Mutex<Vec<Socket>> = Mutex::new(Vec::new());

/// Sets the option on every socket without it. Returns whether all have it.
pub(crate) fn set() -> bool {
    set_all(&mut KNOWN.lock()).is_ok()
}

/// Whether all sockets have the option. If a known socket is gone, another may have replaced it, and the option is set again.
pub(crate) fn is_set() -> bool {
    let mut known = KNOWN.lock();
    known.iter().all(Socket::exists) || set_all(&mut known).is_ok()
}

fn set_all(known: &mut Vec<Socket>) -> io::Result<()> {
    known.retain(Socket::exists);
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let descriptor = name.to_str().and_then(|name| name.parse().ok());
        known.extend(descriptor.map(Socket::set_nodelay).transpose()?.flatten());
    }
    Ok(())
}

// === impl Socket ===

impl Socket {
    /// Sets the option, unless it is set or this is no TCP socket.
    fn set_nodelay(descriptor: RawFd) -> io::Result<Option<Self>> {
        let borrowed = borrow(descriptor);
        if !matches!(tcp_nodelay(borrowed), Ok(false)) {
            return Ok(None);
        }
        set_tcp_nodelay(borrowed, true)?;
        let cookie = socket_cookie(borrowed)?;
        Ok(Some(Self { descriptor, cookie }))
    }

    fn exists(&self) -> bool {
        socket_cookie(borrow(self.descriptor)) == Ok(self.cookie)
    }
}

/// Borrows a descriptor that other code owns.
#[expect(
    unsafe_code,
    reason = "rskafka does not lend its sockets, and there is no safe way to name a descriptor"
)]
fn borrow(descriptor: RawFd) -> BorrowedFd<'static> {
    // SAFETY: `borrow_raw` asks for a descriptor that is not -1 and stays open. It is not -1: it comes from the names in
    // `/proc/self/fd`, which are not negative. Its owner may close it meanwhile, and its number be used again. The only calls
    // on it read two socket options and set one. They touch no foreign memory, and close or read nothing. On a closed
    // descriptor and on any other file they fail, and another socket that gets `TCP_NODELAY` works as before. The value never
    // leaves this file.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connect(listener: &TcpListener) -> TcpStream {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!stream.nodelay().unwrap(), "the option is not set yet");
        stream
    }

    #[test]
    fn nodelay_is_set_on_every_socket_and_on_its_replacement() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (first, second) = (connect(&listener), connect(&listener));
        assert!(set());
        assert!(first.nodelay().unwrap() && second.nodelay().unwrap());
        assert!(is_set());
        drop(first);
        // The same descriptor, most likely.
        let third = connect(&listener);
        assert!(is_set());
        assert!(third.nodelay().unwrap());
    }

    #[test]
    fn other_files_are_left_alone() {
        let file = fs::File::open("/dev/null").unwrap();
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
        assert_eq!(Socket::set_nodelay(descriptor).unwrap(), None);
        assert_eq!(Socket::set_nodelay(i32::MAX).unwrap(), None);
    }
}

//! `TCP_NODELAY` on the sockets of the Kafka client, set from outside: the client neither sets it nor shows its sockets.
//!
//! - Whatever TCP socket of this process is without the option is the client's, or a listener's: everybody else sets it
//!   as soon as there is a connection. On a listener it does no harm.
//! - A socket is known by its descriptor and its cookie, which the kernel gives to no other. As long as all that are
//!   known are still there, the client has made none in the place of one of them.
//! - Where descriptors cannot be looked through, or the option not be set, it never counts as set.

use std::{
    fs, io,
    os::fd::{BorrowedFd, RawFd},
};

use parking_lot::Mutex;
use rustix::net::sockopt::{set_tcp_nodelay, socket_cookie, tcp_nodelay};

/// A TCP socket that had the option from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    descriptor: RawFd,
    cookie: u64,
}

/// The process has one table of descriptors, whatever number of clients.
static KNOWN: Mutex<Vec<Socket>> = Mutex::new(Vec::new());

/// Sets the option on every socket that is without. Returns whether all have it.
pub(crate) fn set() -> bool {
    look_through(&mut KNOWN.lock()).is_ok()
}

/// Whether all sockets have the option still: if one is gone, another may have taken its place, and it is set again.
pub(crate) fn is_set() -> bool {
    let mut known = KNOWN.lock();
    known.iter().all(Socket::is_there) || look_through(&mut known).is_ok()
}

fn look_through(known: &mut Vec<Socket>) -> io::Result<()> {
    known.retain(Socket::is_there);
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let descriptor = name.to_str().and_then(|it| it.parse().ok());
        known.extend(descriptor.map(Socket::undelay).transpose()?.flatten());
    }
    Ok(())
}

// === impl Socket ===

impl Socket {
    /// Sets the option, unless it is set or this is no TCP socket.
    fn undelay(descriptor: RawFd) -> io::Result<Option<Self>> {
        let borrowed = borrow(descriptor);
        if !matches!(tcp_nodelay(borrowed), Ok(false)) {
            return Ok(None);
        }
        set_tcp_nodelay(borrowed, true)?;
        let cookie = socket_cookie(borrowed)?;
        Ok(Some(Self { descriptor, cookie }))
    }

    fn is_there(&self) -> bool {
        socket_cookie(borrow(self.descriptor)) == Ok(self.cookie)
    }
}

/// A descriptor whose owner is somebody else.
#[expect(
    unsafe_code,
    reason = "the client does not lend its sockets, and there is no safe way to name a descriptor"
)]
fn borrow(descriptor: RawFd) -> BorrowedFd<'static> {
    // SAFETY: `borrow_raw` asks for a descriptor that is not -1 and stays open. It is not -1: it comes from the names in
    // `/proc/self/fd`, which are not negative. It may be closed by its owner meanwhile, and be somebody else's by now. All that
    // is done with it is reading two socket options and setting one: nothing of it touches memory that is not ours, nothing
    // is closed or read from, on a closed descriptor and on what is no TCP socket it is an error, and a socket of
    // somebody else's that gets `TCP_NODELAY` works as before. The value never leaves this file.
    unsafe { BorrowedFd::borrow_raw(descriptor) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connect(listener: &TcpListener) -> TcpStream {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!stream.nodelay().unwrap(), "nobody has set it yet");
        stream
    }

    #[test]
    fn every_socket_has_it_and_so_has_one_that_takes_its_place() {
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
    fn what_is_no_tcp_socket_is_left_alone() {
        let file = fs::File::open("/dev/null").unwrap();
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
        assert_eq!(Socket::undelay(descriptor).unwrap(), None);
        assert_eq!(Socket::undelay(i32::MAX).unwrap(), None);
    }
}

//! Answers on their way out: each a frame with its length in front, whose records are shared with the log, not copied.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, ResponseHeader},
    protocol::Encodable,
};

/// From this size on bytes are shared. A copy of less is cheaper than one more piece for the kernel to gather.
const SHARE_FROM_BYTES: usize = 2048;
/// What most answers need.
const USUAL_BYTES: usize = 128;
const LENGTH_BYTES: usize = 4;

/// An answer that does not fit its own format, which is a bug of the broker.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode the answer to {api:?} v{version}: {reason}")]
pub(crate) struct Unencodable {
    api: ApiKey,
    version: i16,
    reason: String,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Reply {
    api: ApiKey,
    version: i16,
    /// The first piece, which begins with the length and so stays writable.
    head: BytesMut,
    parts: Vec<Bytes>,
    /// What comes after the parts, still growing.
    tail: BytesMut,
}

impl Reply {
    /// An answer to this call, so far with its header only.
    pub(crate) fn new(api: ApiKey, version: i16, correlation_id: i32) -> Result<Self, Unencodable> {
        let tail = BytesMut::with_capacity(USUAL_BYTES);
        let mut reply = Reply {
            api,
            version,
            head: BytesMut::new(),
            parts: Vec::new(),
            tail,
        };
        reply.tail.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(correlation_id);
        reply.encode_as(&header, api.response_header_version(version))?;
        Ok(reply)
    }

    /// Adds a message.
    pub(crate) fn encode(&mut self, message: &impl Encodable) -> Result<(), Unencodable> {
        self.encode_as(message, self.version)
    }

    /// Where plain values are added.
    pub(crate) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Adds bytes that the log holds.
    pub(crate) fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_FROM_BYTES {
            self.tail.put_slice(bytes);
            return;
        }
        self.close_tail();
        self.parts.push(bytes.clone());
    }

    /// Takes back the last bytes added.
    pub(crate) fn take_back(&mut self, bytes: usize) {
        self.tail.truncate(self.tail.len().saturating_sub(bytes));
    }

    fn encode_as(&mut self, message: &impl Encodable, version: i16) -> Result<(), Unencodable> {
        let (api, reply_version) = (self.api, self.version);
        message.encode(&mut self.tail, version).map_err(|error| Unencodable {
            api,
            version: reply_version,
            reason: error.to_string(),
        })
    }

    fn close_tail(&mut self) {
        if self.head.is_empty() {
            self.head = self.tail.split();
        } else if !self.tail.is_empty() {
            self.parts.push(self.tail.split().freeze());
        }
    }
}

/// Answers that wait to be written, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    parts: VecDeque<Bytes>,
    len_bytes: usize,
}

impl Outbox {
    /// Puts an answer behind the others.
    pub(crate) fn push(&mut self, mut reply: Reply) {
        reply.close_tail();
        let bytes = reply.head.len() + reply.parts.iter().map(Bytes::len).sum::<usize>();
        // An answer never comes near 2 GiB: `handlers::fetch` sees to it.
        let length = i32::try_from(bytes.saturating_sub(LENGTH_BYTES)).unwrap_or(i32::MAX);
        if let Some(place) = reply.head.get_mut(..LENGTH_BYTES) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        self.parts.push_back(reply.head.freeze());
        self.parts.extend(reply.parts);
        self.len_bytes += bytes;
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.len_bytes
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], Bytes::as_ref)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.parts);
        filled.map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut written: usize) {
        self.len_bytes = self.len_bytes.saturating_sub(written);
        while let Some(part) = self.parts.front_mut() {
            if written < part.len() {
                part.advance(written);
                return;
            }
            written -= part.len();
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(shared: &[&Bytes]) -> Reply {
        let mut reply = Reply::new(ApiKey::Fetch, 4, 7).unwrap();
        for bytes in shared {
            reply.tail().put_u8(b'<');
            reply.share(bytes);
            reply.tail().put_u8(b'>');
        }
        reply
    }

    #[test]
    fn a_frame_has_its_length_whatever_it_shares() {
        let small = Bytes::from_static(b"small");
        let large = Bytes::from(vec![b'x'; SHARE_FROM_BYTES]);
        for shared in [&[][..], &[&small], &[&large], &[&large, &small, &large]] {
            let mut outbox = Outbox::default();
            outbox.push(reply(shared));
            let mut frame = outbox.copy_to_bytes(outbox.remaining());
            assert_eq!(usize::try_from(frame.get_i32()).unwrap(), frame.len());
            assert_eq!(frame.get_i32(), 7);
            let inner: Vec<u8> = shared
                .iter()
                .flat_map(|bytes| [b"<", &bytes[..], b">"].concat())
                .collect();
            assert_eq!(frame, inner);
        }
    }

    #[test]
    fn large_bytes_are_not_copied() {
        let large = Bytes::from(vec![b'x'; SHARE_FROM_BYTES]);
        let mut outbox = Outbox::default();
        outbox.push(reply(&[&large]));
        assert!(outbox.parts.iter().any(|part| part.as_ptr() == large.as_ptr()));
    }

    #[test]
    fn short_writes_go_on_where_they_stopped() {
        let large = Bytes::from(vec![b'x'; SHARE_FROM_BYTES]);
        let (mut whole, mut outbox) = (Outbox::default(), Outbox::default());
        for _ in 0..3 {
            whole.push(reply(&[&large]));
            outbox.push(reply(&[&large]));
        }
        let whole = whole.copy_to_bytes(whole.remaining());
        let mut written = Vec::new();
        while outbox.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 2];
            let filled = outbox.chunks_vectored(&mut slices);
            let gathered: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
            let short = gathered.len().min(999);
            written.extend_from_slice(&gathered[..short]);
            outbox.advance(short);
        }
        assert_eq!(written, whole);
    }
}

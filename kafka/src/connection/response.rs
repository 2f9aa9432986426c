//! Decodes responses without believing the lengths in them.
//!
//! kafka-protocol reserves room for as many elements as an array claims before it reads the first, and a failed allocation
//! ends the process. An element takes a byte at least, so a length above the bytes that are left is refused.

use std::ops::Range;

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::{Decodable, buf::ByteBuf};

/// Below this a length is let pass whatever follows: room for so many elements is little.
const SMALL_LENGTH: usize = 1 << 16;

/// The bytes of a varint of 32 bits, at most.
const MAX_VARINT_BYTES: usize = 5;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The body of a response: all of it, or an error.
pub(crate) fn decode<R: Decodable>(body: Bytes, version: i16) -> Result<R, Error> {
    let mut body = BoundedLengths {
        rest: body,
        last: [0; MAX_VARINT_BYTES],
    };
    let response = R::decode(&mut body, version)?;
    match body.remaining() {
        0 => Ok(response),
        left => Err(format!("{left} bytes are left over").into()),
    }
}

/// Bytes to decode whose lengths claim no more than there is.
///
/// In flexible versions (KIP-482) a length is a varint, which the decoder reads byte by byte with [`Buf::try_get_u8`]. It reads a
/// boolean the same way, and that may be any byte: so where a varint begins is not known, and what counts is the most that
/// the last bytes can mean. The only call in another version, the handshake of SASL, has its one length as 32 bits.
#[derive(Debug)]
struct BoundedLengths {
    rest: Bytes,
    /// The last bytes that were read one by one.
    last: [u8; MAX_VARINT_BYTES],
}

// === impl BoundedLengths ===

impl BoundedLengths {
    fn check(&self, claimed: usize) -> Result<(), TryGetError> {
        if claimed > self.remaining().max(SMALL_LENGTH) {
            return Err(TryGetError {
                requested: claimed,
                available: self.remaining(),
            });
        }
        Ok(())
    }
}

impl Buf for BoundedLengths {
    fn remaining(&self) -> usize {
        self.rest.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.rest.chunk()
    }

    fn advance(&mut self, bytes: usize) {
        self.rest.advance(bytes);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.rest.try_get_u8()?;
        self.last.rotate_left(1);
        if let Some(newest) = self.last.last_mut() {
            *newest = byte;
        }
        let has_more = |byte: &&u8| **byte >= 0x80;
        let bytes = 1 + self.last.iter().rev().skip(1).take_while(has_more).count();
        if byte >= 0x80 && bytes < MAX_VARINT_BYTES {
            return Ok(byte);
        }
        let varint = self.last.iter().rev().take(bytes);
        let varint = varint.fold(0, |high, low| (high << 7) | usize::from(low & 0x7f));
        // A compact length is one more than what it stands for.
        self.check(varint.saturating_sub(1))?;
        Ok(byte)
    }
}

impl ByteBuf for BoundedLengths {
    fn peek_bytes(&mut self, range: Range<usize>) -> Bytes {
        self.rest.peek_bytes(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.rest.get_bytes(size)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::{
        messages::{FetchResponse, MetadataResponse},
        protocol::Encodable,
    };

    use super::*;

    #[test]
    fn a_response_is_decoded_whole_or_not_at_all() {
        let mut bytes = Vec::new();
        MetadataResponse::default()
            .with_throttle_time_ms(7)
            .encode(&mut bytes, 12)
            .unwrap();
        let decoded: MetadataResponse = decode(bytes.clone().into(), 12).unwrap();
        assert_eq!(decoded.throttle_time_ms, 7);
        bytes.push(0);
        let error = decode::<MetadataResponse>(bytes.clone().into(), 12).unwrap_err();
        assert!(error.to_string().contains("1 bytes are left over"), "{error}");
        bytes.truncate(3);
        assert!(decode::<MetadataResponse>(bytes.into(), 12).is_err());
    }

    #[test]
    fn an_array_that_claims_gigabytes_is_refused() {
        // Throttle time, error code, session id, and then an array of 2^31 topics.
        let bytes = [&[0; 10][..], &[0xff, 0xff, 0xff, 0xff, 0x07]].concat();
        assert!(decode::<FetchResponse>(bytes.into(), 12).is_err());
    }
}

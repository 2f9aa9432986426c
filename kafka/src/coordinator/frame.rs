//! One call as bytes: length, header, body.
//!
//! - Nothing is allocated because an answer says so: its length is bounded, and so is each length inside.
//! - An answer is used whole or not at all.

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use kafka_protocol::{
    messages::{RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, HeaderVersion, StrBytes, buf::ByteBuf},
};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    calls::Call,
    error::{Error, InvalidResponse},
};

/// The largest answer taken: the answers used here are about one group and one topic, and far smaller.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Below this a varint is let pass whatever follows, as it may be the number of a token; room for so many elements is
/// little.
const SMALL: usize = 1 << 16;

/// The bytes of a varint, at most.
const VARINT_BYTES: usize = 5;

/// Before each answer's body: the number of the call it answers.
const CORRELATION_BYTES: usize = 4;

/// The bytes of a call.
pub(crate) fn encode<C: Call>(
    call: &C,
    version: i16,
    correlation: i32,
    client_id: &'static str,
) -> Result<BytesMut, Error> {
    let header = RequestHeader::default()
        .with_request_api_key(C::KEY as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str(client_id)));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header
        .encode(&mut frame, C::header_version(version))
        .map_err(Error::garbled)?;
    call.encode(&mut frame, version).map_err(Error::garbled)?;
    let length = i32::try_from(frame.len() - size_of::<i32>()).map_err(Error::garbled)?;
    if let Some(mut prefix) = frame.get_mut(..size_of::<i32>()) {
        prefix.put_i32(length);
    }
    Ok(frame)
}

/// Reads one answer.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, Error> {
    let length = stream.read_i32().await?;
    let allowed = CORRELATION_BYTES..=MAX_ANSWER_BYTES;
    let bytes = usize::try_from(length).ok().filter(|it| allowed.contains(it));
    let mut answer = vec![0; bytes.ok_or(InvalidResponse::Length(length))?];
    stream.read_exact(&mut answer).await?;
    Ok(answer.into())
}

/// The body of an answer to `call` number `correlation`.
pub(crate) fn decode<A: Decodable + HeaderVersion>(answer: Bytes, version: i16, asked: i32) -> Result<A, Error> {
    let mut rest = Covered {
        rest: answer,
        last: [0; VARINT_BYTES],
    };
    let header = ResponseHeader::decode(&mut rest, A::header_version(version)).map_err(Error::garbled)?;
    let found = header.correlation_id;
    if found != asked {
        return Err(InvalidResponse::Correlation { asked, found }.into());
    }
    let body = A::decode(&mut rest, version).map_err(Error::garbled)?;
    match rest.remaining() {
        0 => Ok(body),
        left => Err(InvalidResponse::LeftOver(left).into()),
    }
}

/// Bytes to decode that claim no more than there is.
///
/// The decoder reserves room for as many elements as an array claims before it reads the first, and a failed allocation
/// ends the process. In the versions spoken here every length is a varint, which the decoder reads byte by byte with
/// [`Buf::try_get_u8`], and an element takes a byte at least: what is above the bytes that are left is refused there,
/// unless it is small.
///
/// It reads a boolean the same way, and that may be any byte: so it is not known where a varint begins, and what counts is
/// the most that the last bytes can mean.
#[derive(Debug)]
struct Covered {
    rest: Bytes,
    /// The last bytes that were read one by one.
    last: [u8; VARINT_BYTES],
}

// === impl Covered ===

impl Buf for Covered {
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
        let [_, before @ ..] = self.last;
        for (to, from) in self.last.iter_mut().zip(before.into_iter().chain([byte])) {
            *to = from;
        }
        let goes_on = |it: &&u8| **it >= 0x80;
        let bytes = 1 + self.last.iter().rev().skip(1).take_while(goes_on).count();
        if byte >= 0x80 && bytes < VARINT_BYTES {
            return Ok(byte);
        }
        let varint = self.last.iter().rev().take(bytes);
        let varint = varint.fold(0, |high, low| (high << 7) | usize::from(low & 0x7f));
        // A compact length is one more than what it stands for.
        let claimed = varint.saturating_sub(1);
        if claimed > self.remaining().max(SMALL) {
            return Err(TryGetError {
                requested: claimed,
                available: self.remaining(),
            });
        }
        Ok(byte)
    }
}

impl ByteBuf for Covered {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.rest.peek_bytes(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.rest.get_bytes(size)
    }
}

#[cfg(test)]
mod tests;

//! Encodes requests and decodes answers: length, header, body.
//!
//! - The length of an answer is bounded before it is allocated, and so is each length inside.
//! - An answer with bytes left over is an error.

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

/// The largest accepted answer, in bytes. Answers about one group or one topic are far smaller.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A varint below this is not checked against the bytes left. It may be the number of a tagged field, and room for as many
/// elements is little.
const SMALL: usize = 1 << 16;

/// The longest varint, in bytes.
const VARINT_BYTES: usize = 5;

/// The correlation id before each answer's body, in bytes.
const CORRELATION_BYTES: usize = 4;

/// Encodes a request with its length.
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
        .map_err(Error::invalid_response)?;
    call.encode(&mut frame, version).map_err(Error::invalid_response)?;
    let length = i32::try_from(frame.len() - size_of::<i32>()).map_err(Error::invalid_response)?;
    if let Some(mut prefix) = frame.get_mut(..size_of::<i32>()) {
        prefix.put_i32(length);
    }
    Ok(frame)
}

/// Reads one answer, without its length.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, Error> {
    let length = stream.read_i32().await?;
    let allowed = CORRELATION_BYTES..=MAX_ANSWER_BYTES;
    let bytes = usize::try_from(length).ok().filter(|bytes| allowed.contains(bytes));
    let mut answer = vec![0; bytes.ok_or(InvalidResponse::Length(length))?];
    stream.read_exact(&mut answer).await?;
    Ok(answer.into())
}

/// Decodes the answer to the request with correlation id `asked`.
pub(crate) fn decode<A: Decodable + HeaderVersion>(answer: Bytes, version: i16, asked: i32) -> Result<A, Error> {
    let mut rest = BoundedBuf {
        rest: answer,
        last: [0; VARINT_BYTES],
    };
    let header = ResponseHeader::decode(&mut rest, A::header_version(version)).map_err(Error::invalid_response)?;
    let found = header.correlation_id;
    if found != asked {
        return Err(InvalidResponse::Correlation { asked, found }.into());
    }
    let body = A::decode(&mut rest, version).map_err(Error::invalid_response)?;
    match rest.remaining() {
        0 => Ok(body),
        left => Err(InvalidResponse::LeftOver(left).into()),
    }
}

/// A buffer in which no length may exceed the bytes left.
///
/// kafka-protocol reserves room for all elements of an array before it reads the first, and a failed allocation ends the
/// process. In flexible versions every length is a varint, which the decoder reads byte by byte with [`Buf::try_get_u8`].
/// An element takes at least one byte, so a length above the bytes left is refused, unless it is small.
///
/// The decoder reads a boolean the same way, and a boolean may be any byte. So it is unknown where a varint begins, and the
/// largest value that the last bytes can have is checked.
#[derive(Debug)]
struct BoundedBuf {
    rest: Bytes,
    /// The last bytes that were read one by one, the newest at the end.
    last: [u8; VARINT_BYTES],
}

// === impl BoundedBuf ===

impl Buf for BoundedBuf {
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

impl ByteBuf for BoundedBuf {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.rest.peek_bytes(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.rest.get_bytes(size)
    }
}

#[cfg(test)]
mod tests;

//! Decompression of record batches: the four codecs of the record format, in pure Rust.
//!
//! The size of what comes out is bounded. A size that is announced is the producer's claim, and is not allocated unseen.

use std::io::{self, Read};

use bytes::Bytes;

/// What the records of one batch may have in bytes when they are decompressed: 32 times the largest batch that a broker
/// takes by default (`max.message.bytes`).
pub(crate) const MAX_DECOMPRESSED_BYTES: usize = 32 << 20;

/// The header of snappy-java's framing ("xerial"): magic, version, lowest compatible version.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_VERSION_BYTES: usize = 8;

/// The most bytes that one byte of snappy can stand for: a copy of 64 bytes takes three.
const SNAPPY_MAX_RATIO: usize = 22;

/// How the records of a batch are compressed: the lowest three bits of its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

// === impl Compression ===

impl Compression {
    /// The codec of a batch with these attributes; `None` for one that the record format does not have.
    pub(crate) fn of_attributes(attributes: i16) -> Option<Self> {
        match attributes & 0b111 {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The bytes that were compressed.
    ///
    /// # Errors
    /// When `compressed` is malformed, or stands for more than `max_bytes`.
    pub(crate) fn decompress(self, compressed: Bytes, max_bytes: usize) -> io::Result<Bytes> {
        match self {
            Self::None => Ok(compressed),
            Self::Gzip => read_all(flate2::read::MultiGzDecoder::new(&*compressed), max_bytes),
            Self::Snappy => snappy(&compressed, max_bytes),
            Self::Lz4 => read_all(lz4_flex::frame::FrameDecoder::new(&*compressed), max_bytes),
            Self::Zstd => zstd(&compressed, max_bytes),
        }
    }
}

fn read_all(decoder: impl Read, max_bytes: usize) -> io::Result<Bytes> {
    let mut out = Vec::new();
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    decoder.take(limit.saturating_add(1)).read_to_end(&mut out)?;
    if out.len() > max_bytes {
        return Err(too_large(max_bytes));
    }
    Ok(out.into())
}

fn too_large(max_bytes: usize) -> io::Error {
    io::Error::other(format!("more than {max_bytes} bytes when decompressed"))
}

fn zstd(compressed: &[u8], max_bytes: usize) -> io::Result<Bytes> {
    // The decoder allocates a window of the announced size, which need not be larger than the largest batch.
    let max_window = u64::try_from(MAX_DECOMPRESSED_BYTES).unwrap_or(u64::MAX);
    let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(compressed, max_window);
    read_all(decoder.map_err(io::Error::other)?, max_bytes)
}

/// One block, as librdkafka writes it, or the blocks of snappy-java's framing, as Java does.
fn snappy(compressed: &[u8], max_bytes: usize) -> io::Result<Bytes> {
    let mut out = Vec::new();
    let Some(rest) = compressed.strip_prefix(XERIAL_MAGIC) else {
        snappy_block(compressed, &mut out, max_bytes)?;
        return Ok(out.into());
    };
    let mut rest = rest.get(XERIAL_VERSION_BYTES..).ok_or(io::ErrorKind::UnexpectedEof)?;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(io::Error::other)?;
        let (block, after) = after.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        snappy_block(block, &mut out, max_bytes)?;
        rest = after;
    }
    if rest.is_empty() {
        Ok(out.into())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>, max_bytes: usize) -> io::Result<()> {
    let (start, length) = (out.len(), snap::raw::decompress_len(block)?);
    if length > max_bytes - start {
        return Err(too_large(max_bytes));
    }
    if length > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(io::Error::other("the block announces more bytes than it can stand for"));
    }
    out.resize(start + length, 0);
    let target = out.get_mut(start..).unwrap_or_default();
    snap::raw::Decoder::new().decompress(block, target)?;
    Ok(())
}

#[cfg(test)]
mod tests;

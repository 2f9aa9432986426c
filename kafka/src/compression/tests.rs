use std::io::Write;

use super::*;

/// 100,000 bytes that compress well, but not to nothing.
fn text() -> Vec<u8> {
    (0..12_500_u32)
        .flat_map(|n| (n * n).to_be_bytes().into_iter().chain([b'x'; 4]))
        .collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn snappy_raw(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

fn xerial(blocks: &[&[u8]]) -> Vec<u8> {
    let mut out = [XERIAL_MAGIC, &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
    for block in blocks {
        let block = snappy_raw(block);
        out.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
        out.extend(block);
    }
    out
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// One frame of uncompressed blocks (LZ4 frame format 1.6.1), since only the decoder is built in.
fn lz4(bytes: &[u8]) -> Vec<u8> {
    // Magic; version 1, independent blocks; blocks of 64 KiB; and the second byte of xxHash-32 of those two bytes.
    let mut out = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
    for block in bytes.chunks(64 << 10) {
        let length = u32::try_from(block.len()).unwrap();
        out.extend((length | 1 << 31).to_le_bytes());
        out.extend(block);
    }
    out.extend([0; 4]);
    out
}

fn decompress(codec: Compression, bytes: &[u8], max_bytes: usize) -> io::Result<Bytes> {
    codec.decompress(Bytes::copy_from_slice(bytes), max_bytes)
}

#[test]
fn every_codec_is_decompressed() {
    let text = text();
    let (first, second) = text.split_at(40_000);
    for (codec, compressed) in [
        (Compression::None, text.clone()),
        (Compression::Gzip, gzip(&text)),
        (Compression::Gzip, [gzip(first), gzip(second)].concat()),
        (Compression::Snappy, snappy_raw(&text)),
        (Compression::Snappy, xerial(&[first, second])),
        (Compression::Lz4, lz4(&text)),
        (Compression::Zstd, zstd(&text)),
    ] {
        let decompressed = decompress(codec, &compressed, text.len()).unwrap();
        assert!(decompressed == text, "{codec:?}");
    }
}

#[test]
fn more_than_the_bound_is_an_error() {
    let text = text();
    for (codec, compressed) in [
        (Compression::Gzip, gzip(&text)),
        (Compression::Snappy, snappy_raw(&text)),
        (Compression::Snappy, xerial(&[&text])),
        (Compression::Lz4, lz4(&text)),
        (Compression::Zstd, zstd(&text)),
    ] {
        let error = decompress(codec, &compressed, text.len() - 1).unwrap_err();
        assert!(!error.to_string().is_empty(), "{codec:?}");
    }
}

#[test]
fn a_snappy_block_that_announces_too_much_is_not_allocated() {
    // 2 GiB announced by a block of six bytes.
    let error = decompress(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x07, 0], usize::MAX).unwrap_err();
    assert!(error.to_string().contains("announces"), "{error}");
}

#[test]
fn malformed_bytes_are_an_error() {
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        for bytes in [&b""[..], b"\xff", b"not compressed at all", XERIAL_MAGIC, &[0xff; 100]] {
            if codec == Compression::Lz4 && bytes.is_empty() {
                // An empty frame stands for nothing.
                continue;
            }
            if codec == Compression::Gzip && bytes.is_empty() {
                continue;
            }
            assert!(decompress(codec, bytes, 1_000).is_err(), "{codec:?} {bytes:?}");
        }
    }
}

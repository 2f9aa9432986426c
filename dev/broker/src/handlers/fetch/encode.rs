//! The fetch answer, written so that records go from the log to the socket without a copy.
//!
//! The generated encoder copies the records it is given. So it encodes each partition without them, and the frame around
//! the partitions is written here, by
//! <https://github.com/apache/kafka/blob/4.3/clients/src/main/resources/common/message/FetchResponse.json>.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Found, FoundPartition};
use crate::{
    call::{Call, Refused},
    reply::Reply,
};

/// From this version on lengths are compact and structs end with tagged fields.
const FLEXIBLE: i16 = 12;
/// From this version on topics go by their id.
const BY_ID: i16 = 13;
/// From this version on there is an error for the whole fetch, and a session.
const SESSIONS: i16 = 7;

/// Writes the answer.
pub(super) fn encode(call: &Call<'_>, error_code: i16, found: &Found) -> Result<Reply, Refused> {
    let version = call.version;
    let mut reply = call.begin_reply()?;
    let tail = reply.tail();
    tail.put_i32(call.throttle_ms());
    if version >= SESSIONS {
        tail.put_i16(error_code);
        tail.put_i32(0);
    }
    put_count(tail, version, found.topics.len());
    for topic in &found.topics {
        let tail = reply.tail();
        if version >= BY_ID {
            tail.put_slice(topic.id.as_bytes());
        } else {
            put_name(tail, version, &topic.name);
        }
        put_count(tail, version, topic.partitions.len());
        for partition in &topic.partitions {
            put_partition(&mut reply, version, partition)?;
        }
        put_tags(reply.tail(), version);
    }
    put_tags(reply.tail(), version);
    Ok(reply)
}

fn put_partition(reply: &mut Reply, version: i16, partition: &FoundPartition) -> Result<(), Refused> {
    if partition.batches.is_empty() {
        let data = partition.data.clone().with_records(Some(Bytes::new()));
        return Ok(reply.encode(&data)?);
    }
    // Null records are the last field: four bytes, or one and then the count of tagged fields, of which there are none.
    reply.encode(&partition.data.clone().with_records(None))?;
    reply.take_back(if version >= FLEXIBLE { 2 } else { 4 });
    put_count(reply.tail(), version, partition.len_bytes);
    for batch in &partition.batches {
        reply.share(batch);
    }
    put_tags(reply.tail(), version);
    Ok(())
}

/// The length of an array or of bytes. None comes near 2^31: an answer is at most 55 MiB, or one batch.
fn put_count(tail: &mut BytesMut, version: i16, count: usize) {
    let count = u32::try_from(count).unwrap_or(u32::MAX - 1);
    if version >= FLEXIBLE {
        put_varint(tail, count + 1)
    } else {
        tail.put_u32(count)
    }
}

fn put_name(tail: &mut BytesMut, version: i16, name: &str) {
    // It came with the request, so its length fits.
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
    if version >= FLEXIBLE {
        put_varint(tail, u32::from(length) + 1)
    } else {
        tail.put_u16(length)
    }
    tail.put_slice(name.as_bytes());
}

fn put_tags(tail: &mut BytesMut, version: i16) {
    if version >= FLEXIBLE {
        tail.put_u8(0);
    }
}

fn put_varint(tail: &mut BytesMut, mut value: u32) {
    while let [low, _, _, _] = value.to_le_bytes()
        && value >= 0x80
    {
        tail.put_u8(low | 0x80);
        value >>= 7;
    }
    tail.put_u8(value.to_le_bytes()[0]);
}

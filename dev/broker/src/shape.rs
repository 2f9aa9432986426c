//! The check that comes before decoding: is every length in a request covered by bytes that are really there?
//!
//! `kafka-protocol` reserves room for as many array elements as a request claims before it reads the first one. A claim of
//! two billion would end the process (a failed allocation aborts, it does not unwind), so a request is walked by its
//! shape first, and only what passes is decoded.
//!
//! Tagged fields are skipped by their length. That is sound as long as no array follows a tagged field the decoder knows:
//! the decoder reads a known tag by its type, whatever its length says. No served version has one (see `versions`).

pub(crate) mod requests;

use bytes::Buf;

/// The most array elements and tagged fields in one request. Decoded, an element takes about 100 bytes.
const MAX_ELEMENTS: usize = 100_000;

/// A request whose lengths do not add up.
#[derive(Debug, thiserror::Error)]
#[error("the lengths in the request do not fit its bytes")]
pub(crate) struct Malformed;

impl From<bytes::TryGetError> for Malformed {
    fn from(_: bytes::TryGetError) -> Self {
        Malformed
    }
}

/// What a field is made of, as far as its length is concerned.
#[derive(Debug)]
pub(crate) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string, which may be null.
    Text,
    /// Bytes with a length, which may be null.
    Blob,
    /// An array of structs, which may be null.
    Structs(&'static [Field]),
    /// An array of plain values, which may be null.
    Values(&'static Kind),
}

/// A field and the versions that carry it.
#[derive(Debug)]
pub(crate) struct Field {
    from: i16,
    to: i16,
    kind: Kind,
}

const fn always(kind: Kind) -> Field {
    between(0, i16::MAX, kind)
}

const fn since(from: i16, kind: Kind) -> Field {
    between(from, i16::MAX, kind)
}

const fn until(to: i16, kind: Kind) -> Field {
    between(0, to, kind)
}

const fn between(from: i16, to: i16, kind: Kind) -> Field {
    Field { from, to, kind }
}

/// Walks the bytes of a request without keeping any.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl<'a> Walk<'a> {
    /// A walk over `rest`, which is laid out as `version` says.
    pub(crate) fn new(rest: &'a [u8], version: i16, flexible: bool) -> Self {
        Walk {
            rest,
            version,
            flexible,
            elements: 0,
        }
    }

    /// Passes the fields and their tagged fields; what is left are the bytes behind them.
    pub(crate) fn fields(&mut self, fields: &[Field]) -> Result<&'a [u8], Malformed> {
        for field in fields {
            if (field.from..=field.to).contains(&self.version) {
                self.field(&field.kind)?;
            }
        }
        self.tags()
    }

    /// Passes the client id of a request header: a string with a 16 bit length in every version (KIP-511).
    pub(crate) fn client_id(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.rest.try_get_i16()?;
        let (id, rest) = self
            .rest
            .split_at_checked(usize::try_from(length).unwrap_or(0))
            .ok_or(Malformed)?;
        self.rest = rest;
        Ok(id)
    }

    /// Passes tagged fields, where the version has them.
    pub(crate) fn tags(&mut self) -> Result<&'a [u8], Malformed> {
        if self.flexible {
            for _ in 0..self.varint()? {
                self.count()?;
                let _tag = self.varint()?;
                let length = self.varint()?;
                self.skip(length)?;
            }
        }
        Ok(self.rest)
    }

    fn field(&mut self, kind: &Kind) -> Result<(), Malformed> {
        match kind {
            Kind::Fixed(bytes) => self.skip(*bytes),
            Kind::Text if self.flexible => self.compact_length().and_then(|length| self.skip(length)),
            // A null has the length -1; lower ones are for the decoder to refuse.
            Kind::Text => {
                let length = self.rest.try_get_i16()?;
                self.skip(usize::try_from(length).unwrap_or(0))
            }
            Kind::Blob => self.length().and_then(|length| self.skip(length)),
            Kind::Structs(fields) => {
                for _ in 0..self.length()? {
                    self.count()?;
                    self.fields(fields)?;
                }
                Ok(())
            }
            Kind::Values(kind) => {
                for _ in 0..self.length()? {
                    self.count()?;
                    self.field(kind)?;
                }
                Ok(())
            }
        }
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        if self.flexible {
            return self.compact_length();
        }
        Ok(usize::try_from(self.rest.try_get_i32()?).unwrap_or(0))
    }

    /// A compact length is one more than what it stands for, and 0 for null.
    fn compact_length(&mut self) -> Result<usize, Malformed> {
        Ok(self.varint()?.saturating_sub(1))
    }

    /// Reads as the decoder does: at most five bytes, the bits beyond 32 lost.
    fn varint(&mut self) -> Result<usize, Malformed> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.rest.try_get_u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        usize::try_from(value).map_err(|_| Malformed)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.rest = self.rest.get(bytes..).ok_or(Malformed)?;
        Ok(())
    }

    fn count(&mut self) -> Result<(), Malformed> {
        self.elements += 1;
        if self.elements > MAX_ELEMENTS {
            Err(Malformed)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;

//! Checks the lengths in a request against its size, before the request is decoded.
//!
//! `kafka-protocol` reserves memory for as many array elements as a request claims. A claim of two billion would abort
//! the process, because a failed allocation does not unwind. So the request is walked by its layout first.
//!
//! Tagged fields are skipped by their length. The decoder reads the tags that it knows by their type. That is safe as
//! long as no array comes after a known tag, which holds for all served versions (see `apis`).

pub(crate) mod requests;

use bytes::Buf;

/// The most array elements and tagged fields in one request. A decoded element takes about 100 bytes.
const MAX_ELEMENTS: usize = 100_000;

/// The lengths in a request do not match its size.
#[derive(Debug, thiserror::Error)]
#[error("the lengths in the request do not match its size")]
pub(crate) struct Malformed;

/// The type of a field, as far as its length is concerned.
#[derive(Debug)]
pub(crate) enum Type {
    /// This many bytes.
    Fixed(usize),
    /// A nullable string.
    Str,
    /// Nullable bytes.
    Bytes,
    /// A nullable array of structs.
    Structs(&'static [Field]),
    /// A nullable array of another type.
    Array(&'static Type),
}

/// A field and the versions that have it.
#[derive(Debug)]
pub(crate) struct Field {
    min_version: i16,
    max_version: i16,
    field_type: Type,
}

/// A position in a request.
#[derive(Debug)]
pub(crate) struct Walker<'a> {
    rest: &'a [u8],
    version: i16,
    /// Compact lengths and tagged fields (KIP-482).
    flexible: bool,
    elements: usize,
}

const fn always(field_type: Type) -> Field {
    between(0, i16::MAX, field_type)
}

const fn since(version: i16, field_type: Type) -> Field {
    between(version, i16::MAX, field_type)
}

const fn until(version: i16, field_type: Type) -> Field {
    between(0, version, field_type)
}

const fn between(min_version: i16, max_version: i16, field_type: Type) -> Field {
    Field {
        min_version,
        max_version,
        field_type,
    }
}

impl From<bytes::TryGetError> for Malformed {
    fn from(_: bytes::TryGetError) -> Self {
        Malformed
    }
}

// === impl Field ===

impl Field {
    fn is_in(&self, version: i16) -> bool {
        (self.min_version..=self.max_version).contains(&version)
    }
}

// === impl Walker ===

impl<'a> Walker<'a> {
    pub(crate) fn new(rest: &'a [u8], version: i16, flexible: bool) -> Self {
        Walker {
            rest,
            version,
            flexible,
            elements: 0,
        }
    }

    /// Skips the fields of a struct with its tagged fields, and gives the bytes behind it.
    pub(crate) fn skip_fields(&mut self, fields: &[Field]) -> Result<&'a [u8], Malformed> {
        for field in fields {
            if field.is_in(self.version) {
                self.skip_type(&field.field_type)?;
            }
        }
        self.skip_tagged_fields()
    }

    /// Skips and gives the client id of the request header: its length has 16 bits in every version (KIP-511).
    pub(crate) fn skip_client_id(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.rest.try_get_i16()?;
        let length = usize::try_from(length).unwrap_or(0);
        let (id, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(id)
    }

    /// Skips the tagged fields of a flexible version, and gives the bytes behind them.
    pub(crate) fn skip_tagged_fields(&mut self) -> Result<&'a [u8], Malformed> {
        if self.flexible {
            for _ in 0..self.varint()? {
                self.count_element()?;
                let _tag = self.varint()?;
                let length = self.varint()?;
                self.skip(length)?;
            }
        }
        Ok(self.rest)
    }

    fn skip_type(&mut self, field_type: &Type) -> Result<(), Malformed> {
        match field_type {
            Type::Fixed(bytes) => self.skip(*bytes),
            Type::Str if self.flexible => self.compact_length().and_then(|length| self.skip(length)),
            // The length of null is -1. The decoder rejects other negative lengths.
            Type::Str => {
                let length = self.rest.try_get_i16()?;
                self.skip(usize::try_from(length).unwrap_or(0))
            }
            Type::Bytes => self.length().and_then(|length| self.skip(length)),
            Type::Structs(fields) => {
                for _ in 0..self.length()? {
                    self.count_element()?;
                    self.skip_fields(fields)?;
                }
                Ok(())
            }
            Type::Array(element) => {
                for _ in 0..self.length()? {
                    self.count_element()?;
                    self.skip_type(element)?;
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

    /// A compact length is the length plus 1, and 0 for null.
    fn compact_length(&mut self) -> Result<usize, Malformed> {
        Ok(self.varint()?.saturating_sub(1))
    }

    /// As in the decoder: at most five bytes, and bits above 32 are ignored.
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

    fn count_element(&mut self) -> Result<(), Malformed> {
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

//! The headers of a record, kept in the encoding of the record format: writing them into a batch is a copy, and reading
//! them from one allocates nothing.
//!
//! A name may occur more than once, and a value may be null. [`HeaderBuf`] owns the bytes, [`Headers`] borrows them.

use std::fmt;

use crate::varint::{put_bytes, take_bytes};

/// Headers of a record, borrowed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    count: usize,
    encoded: &'a [u8],
}

/// Headers of a record, owned.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderBuf {
    count: usize,
    encoded: Vec<u8>,
}

/// Goes through headers in their order: names and values.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
    left: usize,
}

// === impl Headers ===

impl<'a> Headers<'a> {
    /// Reads `count` headers off the front of `bytes`, which are left at what follows them. `None` when they are
    /// malformed.
    #[must_use]
    pub fn take(count: usize, bytes: &mut &'a [u8]) -> Option<Self> {
        let all = *bytes;
        for _ in 0..count {
            // A name cannot be null.
            take_bytes(bytes)??;
            take_bytes(bytes)?;
        }
        let encoded = all.get(..all.len() - bytes.len())?;
        Some(Self { count, encoded })
    }

    /// `count` headers in these bytes, which [`Headers::take`] must have read before.
    #[must_use]
    pub fn of_encoded(count: usize, encoded: &'a [u8]) -> Self {
        let headers = Self { count, encoded };
        debug_assert_eq!(Self::take(count, &mut { encoded }), Some(headers));
        headers
    }

    /// The value of the last header of this name; an empty one for null. The last, as Kafka's `Headers.lastHeader`.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        let [value] = self.get_each([name]);
        value
    }

    /// [`Headers::get`] for several names in one pass: each pass decodes all headers.
    #[must_use]
    pub fn get_each<const N: usize>(self, names: [&str; N]) -> [Option<&'a [u8]>; N] {
        let mut values = [None; N];
        for (found, value) in self {
            let index = names.iter().position(|name| name.as_bytes() == found);
            if let Some(last) = index.and_then(|index| values.get_mut(index)) {
                *last = Some(value.unwrap_or_default());
            }
        }
        values
    }

    /// All of them, in their order.
    #[must_use]
    pub fn iter(self) -> Iter<'a> {
        Iter {
            rest: self.encoded,
            left: self.count,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// Their bytes in a record, without their number.
    #[must_use]
    pub fn encoded(self) -> &'a [u8] {
        self.encoded
    }

    /// A copy that owns its bytes.
    #[must_use]
    pub fn to_buf(self) -> HeaderBuf {
        HeaderBuf {
            count: self.count,
            encoded: self.encoded.to_vec(),
        }
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.iter().map(|(name, value)| {
            let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
            (text(name), value.map(text))
        });
        f.debug_map().entries(entries).finish()
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // They were written or read once before: this cannot fail.
        Some((take_bytes(&mut self.rest)??, take_bytes(&mut self.rest)?))
    }
}

// === impl HeaderBuf ===

impl HeaderBuf {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            count: 0,
            encoded: Vec::new(),
        }
    }

    /// No headers, with room for so many bytes of them.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            count: 0,
            encoded: Vec::with_capacity(bytes),
        }
    }

    /// Makes room for so many more bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.encoded.reserve(bytes);
    }

    /// Appends a header; one of the same name stays.
    #[inline]
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.push_nullable(name, Some(value));
    }

    /// Appends a header whose value may be null.
    #[inline]
    pub fn push_nullable(&mut self, name: &str, value: Option<&[u8]>) {
        put_bytes(&mut self.encoded, Some(name.as_bytes()));
        put_bytes(&mut self.encoded, value);
        self.count += 1;
    }

    /// Appends copies of other headers.
    #[inline]
    pub fn extend(&mut self, other: Headers<'_>) {
        self.encoded.extend_from_slice(other.encoded);
        self.count += other.count;
    }

    /// Borrows them.
    #[inline]
    #[must_use]
    pub fn as_headers(&self) -> Headers<'_> {
        Headers {
            count: self.count,
            encoded: &self.encoded,
        }
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for HeaderBuf {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(headers: I) -> Self {
        let mut all = Self::new();
        for (name, value) in headers {
            all.push(name, value);
        }
        all
    }
}

impl fmt::Debug for HeaderBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_headers().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_names_and_null_values_are_kept_in_order() {
        let mut headers = HeaderBuf::new();
        headers.push("a", b"1");
        headers.push_nullable("b", None);
        headers.push("a", b"");
        let all: Vec<_> = headers.as_headers().iter().collect();
        assert_eq!(all, [(&b"a"[..], Some(&b"1"[..])), (b"b", None), (b"a", Some(b""))]);
        assert_eq!(headers.as_headers().get("a"), Some(&b""[..]), "the last one counts");
        assert_eq!(headers.as_headers().get("b"), Some(&b""[..]));
        assert_eq!(headers.as_headers().get("c"), None);
        let each = headers.as_headers().get_each(["c", "b", "a"]);
        assert_eq!(each, [None, Some(&b""[..]), Some(&b""[..])]);
    }

    #[test]
    fn headers_are_read_back_from_their_bytes() {
        let mut headers = HeaderBuf::with_capacity(16);
        headers.push("name", b"value");
        headers.push("other", &[0xff; 200]);
        let bytes = [headers.as_headers().encoded(), b"rest"].concat();
        let mut rest = bytes.as_slice();
        assert_eq!(Headers::take(2, &mut rest), Some(headers.as_headers()));
        assert_eq!(rest, b"rest");
        assert_eq!(
            Headers::take(4, &mut bytes.as_slice()),
            None,
            "more announced than there are"
        );
    }

    #[test]
    fn a_null_name_is_malformed() {
        assert_eq!(Headers::take(1, &mut &[1, 1][..]), None);
    }
}

//! Changes of rows, one behind the other in a buffer: so a commit puts them together, the journal writes them, a layer
//! takes them, and a start-up reads them again.
//!
//! ```text
//! change    table (u8), length of the key (u16), of the value (u32; all ones: the row is deleted), key, value
//! ```
//!
//! Numbers are little endian.

const DELETED: u32 = u32::MAX;
const HEADER: usize = 7;

/// A change of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    /// The number of the table.
    pub(crate) table: u8,
    pub(crate) key: &'a [u8],
    /// `None` deletes the row.
    pub(crate) value: Option<&'a [u8]>,
}

/// Changes in their order; of two of one row the later counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    bytes: Vec<u8>,
    /// A key of 64 KiB or more, or a value of 4 GiB: it is not among them.
    is_too_long: bool,
}

impl Changes {
    /// None, with room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Changes {
        Changes {
            bytes: Vec::with_capacity(bytes),
            is_too_long: false,
        }
    }

    pub(crate) fn push(&mut self, change: Change<'_>) {
        let value = change.value.unwrap_or_default();
        let length = match change.value {
            Some(value) => u32::try_from(value.len()).ok().filter(|n| *n != DELETED),
            None => Some(DELETED),
        };
        let (Ok(key), Some(length)) = (u16::try_from(change.key.len()), length) else {
            self.is_too_long = true;
            return;
        };
        let ([k0, k1], [v0, v1, v2, v3]) = (key.to_le_bytes(), length.to_le_bytes());
        self.bytes.reserve(HEADER + change.key.len() + value.len());
        self.bytes
            .extend_from_slice(&[change.table, k0, k1, v0, v1, v2, v3]);
        self.bytes.extend_from_slice(change.key);
        self.bytes.extend_from_slice(value);
    }

    /// As they are written; `None` if one of them cannot be.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        (!self.is_too_long).then_some(self.bytes.as_slice())
    }

    /// How many bytes they have.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The changes that begin at this byte or behind it.
    pub(crate) fn since(&self, byte: usize) -> Reading<'_> {
        read(self.bytes.get(byte..).unwrap_or_default())
    }
}

/// The changes in some bytes, up to the first that is not whole.
pub(crate) fn read(bytes: &[u8]) -> Reading<'_> {
    Reading { rest: bytes }
}

/// See [`read`].
#[derive(Clone, Debug)]
pub(crate) struct Reading<'a> {
    rest: &'a [u8],
}

impl Reading<'_> {
    /// Whether all bytes were changes.
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Reading<'a> {
    type Item = Change<'a>;

    fn next(&mut self) -> Option<Change<'a>> {
        let (header, rest) = self.rest.split_first_chunk::<HEADER>()?;
        let &[table, k0, k1, v0, v1, v2, v3] = header;
        let (key, rest) = rest.split_at_checked(u16::from_le_bytes([k0, k1]).into())?;
        let (value, rest) = match u32::from_le_bytes([v0, v1, v2, v3]) {
            DELETED => (None, rest),
            length => {
                let (value, rest) = rest.split_at_checked(length as usize)?;
                (Some(value), rest)
            }
        };
        self.rest = rest;
        Some(Change { table, key, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_as_far_as_they_are_whole() {
        let long = vec![7; 70_000];
        let all = [
            Change {
                table: 1,
                key: b"key",
                value: Some(&long),
            },
            Change {
                table: 2,
                key: b"",
                value: None,
            },
            Change {
                table: 12,
                key: &long[..65_535],
                value: Some(b""),
            },
        ];
        let mut changes = Changes::default();
        let mut begins = Vec::new();
        for change in all {
            begins.push(changes.len());
            changes.push(change);
        }
        for (before, begin) in begins.iter().enumerate() {
            assert!(changes.since(*begin).eq(all[before..].iter().copied()));
        }
        let bytes = changes.bytes().unwrap();
        for cut in (0..bytes.len()).step_by(97) {
            let mut reading = read(&bytes[..cut]);
            let whole = reading.by_ref().count();
            assert!(whole < all.len());
            assert_eq!(reading.is_at_end(), begins.contains(&cut), "{cut}");
        }
        changes.push(Change {
            table: 1,
            key: &long,
            value: None,
        });
        assert_eq!(changes.bytes(), None);
    }
}

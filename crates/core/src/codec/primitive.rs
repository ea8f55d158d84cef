//! Writing and reading of integers, texts and ids.

use std::fmt;

/// Stored bytes could not be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end too early, or a length or number in them is impossible.
    Malformed,
    /// A newer program wrote them.
    UnknownVersion(u8),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Malformed => write!(f, "stored bytes are malformed"),
            DecodeError::UnknownVersion(version) => {
                write!(f, "stored bytes are of the unknown version {version}")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A writer whose buffer begins with this version.
    #[must_use]
    pub fn versioned(version: u8, capacity: usize) -> Writer {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(version);
        Writer { bytes }
    }

    /// The buffer.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// One byte.
    pub fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// True or false, a byte.
    pub fn flag(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    /// An integer, 7 bits a byte, least significant first.
    pub fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// 16 bytes as they are.
    pub fn id(&mut self, id: &[u8; 16]) {
        self.bytes.extend_from_slice(id);
    }

    /// Bytes with their length in front.
    pub fn blob(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// A text with its length in bytes in front.
    pub fn text(&mut self, value: &str) {
        self.blob(value.as_bytes());
    }

    /// 0 for none, 1 and the value for some.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// The number of items, then each.
    pub fn list<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Writer, T),
    ) {
        self.number(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }
}

/// Takes values from the front of stored bytes.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over bytes that begin with a version, which must be `version`.
    ///
    /// # Errors
    /// When there is no version, or a newer one.
    pub fn versioned(version: u8, bytes: &'a [u8]) -> Result<Reader<'a>, DecodeError> {
        let mut reader = Reader { rest: bytes };
        match reader.byte()? {
            found if found == version => Ok(reader),
            found => Err(DecodeError::UnknownVersion(found)),
        }
    }

    /// Whether nothing is left: what a later version adds stands behind what this one reads.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses bytes that are left over.
    ///
    /// # Errors
    /// When there are any.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed)
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// At the end of the bytes; so do all of these.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.rest.split_first().ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(first)
    }

    /// True or false.
    ///
    /// # Errors
    /// When the byte is neither 0 nor 1.
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Malformed),
        }
    }

    /// An integer.
    ///
    /// # Errors
    /// When it does not fit in 64 bits.
    pub fn number(&mut self) -> Result<u64, DecodeError> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Malformed);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed)
    }

    /// An integer of 32 bits.
    ///
    /// # Errors
    /// When it is larger.
    pub fn number32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.number()?).map_err(|_| DecodeError::Malformed)
    }

    /// 16 bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn id(&mut self) -> Result<[u8; 16], DecodeError> {
        self.take(16)?
            .try_into()
            .map_err(|_| DecodeError::Malformed)
    }

    /// Bytes.
    ///
    /// # Errors
    /// When fewer are left than their length says.
    pub fn blob(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.number()?).map_err(|_| DecodeError::Malformed)?;
        self.take(length)
    }

    /// A text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&mut self) -> Result<String, DecodeError> {
        std::str::from_utf8(self.blob()?)
            .map(str::to_owned)
            .map_err(|_| DecodeError::Malformed)
    }

    /// A value or none.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    /// A list.
    ///
    /// # Errors
    /// Those of `read`. A number of items that cannot be there is refused before anything is allocated.
    pub fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = usize::try_from(self.number()?).map_err(|_| DecodeError::Malformed)?;
        if count > self.rest.len() {
            return Err(DecodeError::Malformed);
        }
        (0..count).map(|_| read(self)).collect()
    }

    /// The bytes that are left.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}

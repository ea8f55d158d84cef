//! In come bytes that nobody has vouched for, out go heads, lengths and strings (RFC 8949, section 3), or why not; what
//! they make is known to `decode`. Nothing here indexes the input or trusts a length: a claim is compared with what is
//! left of the input before anything is made of it.

use super::{DEPTH_MAX, Error, Failure, initial, major};
use crate::encoding::FrameKind;

/// How many items follow; none for as many as there are before a break.
pub(super) type Length = Option<usize>;

/// What a value begins with; its tags are gone and its length is known to fit the input.
pub(super) enum Head {
    Unsigned(u64),
    /// The value n of a negative integer -1 - n.
    Negative(u64),
    Bytes(Length),
    Text(Length),
    Array(Length),
    Map(Length),
    Bool(bool),
    Null,
    Float(f64),
}

/// Reads values from the front of a slice.
pub(super) struct Decoder<'de> {
    input: &'de [u8],
    pub(super) depth_left: u8,
}

impl<'de> Decoder<'de> {
    pub(super) fn new(input: &'de [u8]) -> Self {
        Self {
            input,
            depth_left: DEPTH_MAX,
        }
    }

    /// Checks that nothing is left to read.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        if self.input.is_empty() {
            Ok(())
        } else {
            Err(Error::TrailingBytes.into())
        }
    }

    /// The request id in `{variant: {0 or "id": id, …}}`.
    pub(super) fn peek_id(&mut self) -> Result<Option<u64>, Failure> {
        let Head::Map(frame) = self.head()? else {
            return Ok(None);
        };
        if frame == Some(0) || self.at_break()? {
            return Ok(None);
        }
        self.skip()?;
        let Head::Map(mut fields) = self.head()? else {
            return Ok(None);
        };
        while self.another(&mut fields)? {
            let is_id = match self.head()? {
                Head::Unsigned(index) => index == 0,
                Head::Text(Some(length)) => self.take(length)? == b"id",
                head => self.skip_after(head).map(|()| false)?,
            };
            match self.head()? {
                Head::Unsigned(id) if is_id => return Ok(Some(id)),
                _ if is_id => return Ok(None),
                head => self.skip_after(head)?,
            }
        }
        Ok(None)
    }

    /// The variant in `{variant: …}`, by number or name, if that is all there is.
    pub(super) fn peek_kind(&mut self) -> Result<Option<FrameKind>, Failure> {
        let Head::Map(mut left) = self.head()? else {
            return Ok(None);
        };
        if !self.another(&mut left)? {
            return Ok(None);
        }
        let kind = match self.head()? {
            Head::Unsigned(number) => FrameKind::Number(number),
            Head::Text(Some(length)) => FrameKind::Name(self.take_text(length)?.to_owned()),
            _ => return Ok(None),
        };
        self.skip()?;
        let more = self.another(&mut left)?;
        Ok(Some(kind).filter(|_| !more && self.input.is_empty()))
    }

    #[inline]
    pub(super) fn peek(&self) -> Result<u8, Failure> {
        self.input.first().copied().ok_or_else(ends_early)
    }

    #[inline]
    fn at_break(&self) -> Result<bool, Failure> {
        Ok(self.peek()? == initial::BREAK)
    }

    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Result<&'de [u8], Failure> {
        let (taken, rest) = self.input.split_at_checked(length).ok_or_else(ends_early)?;
        self.input = rest;
        Ok(taken)
    }

    #[inline]
    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let (taken, rest) = self.input.split_first_chunk().ok_or_else(ends_early)?;
        self.input = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn take_text(&mut self, length: usize) -> Result<&'de str, Failure> {
        Ok(std::str::from_utf8(self.take(length)?).map_err(|_| Error::NotUtf8)?)
    }

    /// Joins the chunks of a byte string of indefinite length.
    pub(super) fn take_byte_chunks(&mut self) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while self.another(&mut None)? {
            let Head::Bytes(Some(length)) = self.head()? else {
                return Err(Error::Malformed("a byte string holds another type").into());
            };
            bytes.extend_from_slice(self.take(length)?);
        }
        Ok(bytes)
    }

    /// Joins the chunks of a text of indefinite length.
    pub(super) fn take_text_chunks(&mut self) -> Result<String, Failure> {
        let mut text = String::new();
        while self.another(&mut None)? {
            let Head::Text(Some(length)) = self.head()? else {
                return Err(Error::Malformed("a text holds another type").into());
            };
            text.push_str(self.take_text(length)?);
        }
        Ok(text)
    }

    /// The argument of the head that comes next, if it is one of this major type that has an argument; otherwise nothing
    /// is read. What a type mostly looks like is read by this, and all else (tags, open lengths, another type) by
    /// [`Self::head`].
    #[inline]
    pub(super) fn expected(&mut self, major: u8) -> Result<Option<u64>, Failure> {
        let Some((initial, rest)) = self.input.split_first() else {
            return Err(ends_early());
        };
        let information = initial ^ major << 5;
        if information >= 28 {
            return Ok(None);
        }
        self.input = rest;
        self.argument(information).map(Some)
    }

    /// As [`Self::expected`], of a length of items that take at least `item_bytes_min` each.
    #[inline]
    pub(super) fn expected_length(
        &mut self,
        major: u8,
        item_bytes_min: usize,
    ) -> Result<Length, Failure> {
        match self.expected(major)? {
            Some(length) => self.fitting(length, item_bytes_min).map(Some),
            None => Ok(None),
        }
    }

    /// Skips tags and reads a head (RFC 8949, section 3).
    pub(super) fn head(&mut self) -> Result<Head, Failure> {
        loop {
            let [initial] = self.take_array()?;
            let (major, information) = (initial >> 5, initial & 0x1f);
            return Ok(match major {
                major::UNSIGNED => Head::Unsigned(self.argument(information)?),
                major::NEGATIVE => Head::Negative(self.argument(information)?),
                major::BYTES => Head::Bytes(self.length(information, 1)?),
                major::TEXT => Head::Text(self.length(information, 1)?),
                major::ARRAY => Head::Array(self.length(information, 1)?),
                major::MAP => Head::Map(self.length(information, 2)?),
                major::TAG => {
                    self.argument(information)?;
                    continue;
                }
                _ => self.simple(initial)?,
            });
        }
    }

    #[inline]
    fn argument(&mut self, information: u8) -> Result<u64, Failure> {
        if information < 24 {
            Ok(u64::from(information))
        } else {
            self.wide_argument(information)
        }
    }

    fn wide_argument(&mut self, information: u8) -> Result<u64, Failure> {
        Ok(match information {
            24 => u64::from(u8::from_be_bytes(self.take_array()?)),
            25 => u64::from(u16::from_be_bytes(self.take_array()?)),
            26 => u64::from(u32::from_be_bytes(self.take_array()?)),
            27 => u64::from_be_bytes(self.take_array()?),
            _ => return Err(Error::Malformed("a head that is reserved").into()),
        })
    }

    /// A length of items that take at least `item_bytes_min` each.
    #[inline]
    fn length(&mut self, information: u8, item_bytes_min: usize) -> Result<Length, Failure> {
        if information == 31 {
            return Ok(None);
        }
        let length = self.argument(information)?;
        self.fitting(length, item_bytes_min).map(Some)
    }

    /// A map whose length is not told in advance, or badly.
    #[cold]
    pub(super) fn open_map(&mut self) -> Result<Length, Failure> {
        match self.head()? {
            Head::Map(length) => Ok(length),
            _ => Err(Error::WrongLength.into()),
        }
    }

    /// The claim of a length, if the input can hold it.
    #[inline]
    fn fitting(&self, length: u64, item_bytes_min: usize) -> Result<usize, Failure> {
        match usize::try_from(length) {
            Ok(length) if length <= self.input.len() / item_bytes_min => Ok(length),
            _ => Err(ends_early()),
        }
    }

    fn simple(&mut self, initial: u8) -> Result<Head, Failure> {
        Ok(match initial {
            initial::FALSE => Head::Bool(false),
            initial::TRUE => Head::Bool(true),
            initial::NULL | initial::UNDEFINED => Head::Null,
            initial::FLOAT_16 => Head::Float(half(u16::from_be_bytes(self.take_array()?))),
            initial::FLOAT_32 => Head::Float(f64::from(f32::from_be_bytes(self.take_array()?))),
            initial::FLOAT_64 => Head::Float(f64::from_be_bytes(self.take_array()?)),
            initial::BREAK => return Err(Error::Malformed("a break where a value belongs").into()),
            _ => return Err(Error::Malformed("a simple value without a meaning").into()),
        })
    }

    /// Counts down to the end of an array or a map, or reads its break.
    #[inline]
    pub(super) fn another(&mut self, left: &mut Length) -> Result<bool, Failure> {
        match left {
            Some(0) => Ok(false),
            Some(count) => {
                *count -= 1;
                Ok(true)
            }
            None if self.at_break()? => {
                self.take(1)?;
                *left = Some(0);
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// Requires that an array or a map has no more.
    #[inline]
    pub(super) fn at_end(&mut self, left: &mut Length) -> Result<(), Failure> {
        if self.another(left)? {
            return Err(Error::WrongLength.into());
        }
        Ok(())
    }

    /// Reads what an array, a map or a variant holds, unless that is too deep.
    #[inline]
    pub(super) fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.deeper()?;
        let value = read(self);
        self.depth_left += 1;
        value
    }

    #[inline]
    pub(super) fn deeper(&mut self) -> Result<(), Failure> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or(Error::TooDeep)?;
        Ok(())
    }

    pub(super) fn skip(&mut self) -> Result<(), Failure> {
        let head = self.head()?;
        self.skip_after(head)
    }

    fn skip_after(&mut self, head: Head) -> Result<(), Failure> {
        match head {
            Head::Bytes(Some(length)) | Head::Text(Some(length)) => self.take(length).map(drop),
            Head::Bytes(None) => self.take_byte_chunks().map(drop),
            Head::Text(None) => self.take_text_chunks().map(drop),
            Head::Array(mut left) => self.nested(|decoder| {
                while decoder.another(&mut left)? {
                    decoder.skip()?;
                }
                Ok(())
            }),
            Head::Map(mut left) => self.nested(|decoder| {
                while decoder.another(&mut left)? {
                    decoder.skip()?;
                    decoder.skip()?;
                }
                Ok(())
            }),
            Head::Unsigned(_) | Head::Negative(_) | Head::Bool(_) | Head::Null | Head::Float(_) => {
                Ok(())
            }
        }
    }

    #[inline]
    pub(super) fn skip_tags(&mut self) -> Result<(), Failure> {
        while let Some(initial) = self.input.first()
            && initial >> 5 == major::TAG
        {
            self.take(1)?;
            self.argument(initial & 0x1f)?;
        }
        Ok(())
    }
}

/// Apart, so that those who may fail by it need not make room for an error.
#[cold]
#[inline(never)]
fn ends_early() -> Failure {
    Error::EndsEarly.into()
}

/// A number of 16 bits (RFC 8949, appendix D).
fn half(bits: u16) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2f64.powi(exponent - 25),
    };
    if bits >> 15 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

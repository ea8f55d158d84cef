//! In come bytes that nobody has vouched for, out goes a value through serde, or why not. Nothing here indexes the
//! input or trusts a length: a claim is compared with what is left of the input before anything is made of it.

use serde::de::{self, DeserializeSeed, Visitor};
use serde::forward_to_deserialize_any;

use super::{DEPTH_MAX, Error, initial, major};
use crate::encoding::FrameKind;

/// How many items follow; none for as many as there are before a break.
type Length = Option<usize>;

/// What a value begins with; its tags are gone and its length is known to fit the input.
enum Head {
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
    depth_left: u8,
}

impl<'de> Decoder<'de> {
    pub(super) fn new(input: &'de [u8]) -> Self {
        Self {
            input,
            depth_left: DEPTH_MAX,
        }
    }

    /// Checks that nothing is left to read.
    pub(super) fn finish(&self) -> Result<(), Error> {
        if self.input.is_empty() {
            Ok(())
        } else {
            Err(Error::TrailingBytes)
        }
    }

    /// The request id in `{variant: {0 or "id": id, …}}`.
    pub(super) fn peek_id(&mut self) -> Result<Option<u64>, Error> {
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
    pub(super) fn peek_kind(&mut self) -> Result<Option<FrameKind>, Error> {
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
    fn peek(&self) -> Result<u8, Error> {
        self.input.first().copied().ok_or(Error::EndsEarly)
    }

    #[inline]
    fn at_break(&self) -> Result<bool, Error> {
        Ok(self.peek()? == initial::BREAK)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'de [u8], Error> {
        let (taken, rest) = self
            .input
            .split_at_checked(length)
            .ok_or(Error::EndsEarly)?;
        self.input = rest;
        Ok(taken)
    }

    #[inline]
    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.input.split_first_chunk().ok_or(Error::EndsEarly)?;
        self.input = rest;
        Ok(*taken)
    }

    #[inline]
    fn take_text(&mut self, length: usize) -> Result<&'de str, Error> {
        std::str::from_utf8(self.take(length)?).map_err(|_| Error::NotUtf8)
    }

    /// Joins the chunks of a byte string of indefinite length.
    fn take_byte_chunks(&mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while self.another(&mut None)? {
            let Head::Bytes(Some(length)) = self.head()? else {
                return Err(Error::Malformed("a byte string holds another type"));
            };
            bytes.extend_from_slice(self.take(length)?);
        }
        Ok(bytes)
    }

    /// Joins the chunks of a text of indefinite length.
    fn take_text_chunks(&mut self) -> Result<String, Error> {
        let mut text = String::new();
        while self.another(&mut None)? {
            let Head::Text(Some(length)) = self.head()? else {
                return Err(Error::Malformed("a text holds another type"));
            };
            text.push_str(self.take_text(length)?);
        }
        Ok(text)
    }

    /// Skips tags and reads a head (RFC 8949, section 3).
    #[inline]
    fn head(&mut self) -> Result<Head, Error> {
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
    fn argument(&mut self, information: u8) -> Result<u64, Error> {
        Ok(match information {
            0..24 => u64::from(information),
            24 => u64::from(u8::from_be_bytes(self.take_array()?)),
            25 => u64::from(u16::from_be_bytes(self.take_array()?)),
            26 => u64::from(u32::from_be_bytes(self.take_array()?)),
            27 => u64::from_be_bytes(self.take_array()?),
            _ => return Err(Error::Malformed("a head that is reserved")),
        })
    }

    /// A length of items that take at least `item_bytes_min` each.
    #[inline]
    fn length(&mut self, information: u8, item_bytes_min: usize) -> Result<Length, Error> {
        if information == 31 {
            return Ok(None);
        }
        let length = usize::try_from(self.argument(information)?).map_err(|_| Error::EndsEarly)?;
        if length > self.input.len() / item_bytes_min {
            return Err(Error::EndsEarly);
        }
        Ok(Some(length))
    }

    fn simple(&mut self, initial: u8) -> Result<Head, Error> {
        Ok(match initial {
            initial::FALSE => Head::Bool(false),
            initial::TRUE => Head::Bool(true),
            initial::NULL | initial::UNDEFINED => Head::Null,
            initial::FLOAT_16 => Head::Float(half(u16::from_be_bytes(self.take_array()?))),
            initial::FLOAT_32 => Head::Float(f64::from(f32::from_be_bytes(self.take_array()?))),
            initial::FLOAT_64 => Head::Float(f64::from_be_bytes(self.take_array()?)),
            initial::BREAK => return Err(Error::Malformed("a break where a value belongs")),
            _ => return Err(Error::Malformed("a simple value without a meaning")),
        })
    }

    /// Counts down to the end of an array or a map, or reads its break.
    #[inline]
    fn another(&mut self, left: &mut Length) -> Result<bool, Error> {
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

    /// Reads what an array, a map or a variant holds, unless that is too deep.
    #[inline]
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or(Error::TooDeep)?;
        let value = read(self)?;
        self.depth_left += 1;
        Ok(value)
    }

    fn skip(&mut self) -> Result<(), Error> {
        let head = self.head()?;
        self.skip_after(head)
    }

    fn skip_after(&mut self, head: Head) -> Result<(), Error> {
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

    fn skip_tags(&mut self) -> Result<(), Error> {
        while let Some(initial) = self.input.first()
            && initial >> 5 == major::TAG
        {
            self.take(1)?;
            self.argument(initial & 0x1f)?;
        }
        Ok(())
    }

    /// Gives the visitor what an array or a map holds, and requires that it takes all of it.
    #[inline]
    fn items<T>(
        &mut self,
        left: Length,
        visit: impl FnOnce(&mut Items<'_, 'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.nested(|decoder| {
            let mut items = Items { decoder, left };
            let value = visit(&mut items)?;
            if items.decoder.another(&mut items.left)? {
                Err(Error::WrongLength)
            } else {
                Ok(value)
            }
        })
    }
}

impl<'de> de::Deserializer<'de> for &mut Decoder<'de> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.head()? {
            Head::Unsigned(value) => visitor.visit_u64(value),
            Head::Negative(value) => match i64::try_from(value) {
                Ok(value) => visitor.visit_i64(!value),
                Err(_) => visitor.visit_i128(!i128::from(value)),
            },
            Head::Bytes(Some(length)) => visitor.visit_borrowed_bytes(self.take(length)?),
            Head::Bytes(None) => visitor.visit_byte_buf(self.take_byte_chunks()?),
            Head::Text(Some(length)) => visitor.visit_borrowed_str(self.take_text(length)?),
            Head::Text(None) => visitor.visit_string(self.take_text_chunks()?),
            Head::Array(length) => self.items(length, |items| visitor.visit_seq(items)),
            Head::Map(length) => self.items(length, |items| visitor.visit_map(items)),
            Head::Bool(value) => visitor.visit_bool(value),
            Head::Null => visitor.visit_unit(),
            Head::Float(value) => visitor.visit_f64(value),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skip_tags()?;
        match self.peek()? {
            initial::NULL | initial::UNDEFINED => {
                self.take(1)?;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// A map of one entry, or a bare index or name.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.skip_tags()?;
        if self.peek()? >> 5 != major::MAP {
            return visitor.visit_enum(Variant {
                decoder: self,
                has_content: false,
            });
        }
        let Head::Map(mut left) = self.head()? else {
            return Err(Error::WrongLength);
        };
        self.nested(|decoder| {
            if !decoder.another(&mut left)? {
                return Err(Error::WrongLength);
            }
            let value = visitor.visit_enum(Variant {
                decoder: &mut *decoder,
                has_content: true,
            })?;
            if decoder.another(&mut left)? {
                Err(Error::WrongLength)
            } else {
                Ok(value)
            }
        })
    }

    /// The derive's visitors take a declaration index or a name. A negative index is nobody's, like one too large.
    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek()? >> 5 {
            major::NEGATIVE => {
                self.skip()?;
                visitor.visit_u64(u64::MAX)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct
    }
}

/// What is left of an array or a map.
struct Items<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: Length,
}

impl<'de> de::SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.decoder.another(&mut self.left)? {
            seed.deserialize(&mut *self.decoder).map(Some)
        } else {
            Ok(None)
        }
    }

    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

impl<'de> de::MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        if self.decoder.another(&mut self.left)? {
            seed.deserialize(&mut *self.decoder).map(Some)
        } else {
            Ok(None)
        }
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

/// An enum's variant, at its index or name.
struct Variant<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    has_content: bool,
}

impl<'a, 'de> Variant<'a, 'de> {
    fn content(self, expected: &str) -> Result<&'a mut Decoder<'de>, Error> {
        if self.has_content {
            Ok(self.decoder)
        } else {
            Err(de::Error::invalid_type(
                de::Unexpected::UnitVariant,
                &expected,
            ))
        }
    }
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = seed.deserialize(&mut *self.decoder)?;
        Ok((name, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    /// Content is skipped: a later version may have given this variant some, or it is the `serde(other)` one.
    fn unit_variant(self) -> Result<(), Error> {
        if self.has_content {
            self.decoder.skip()
        } else {
            Ok(())
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.content("a variant with a value")?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.content("a variant with values")?, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.content("a variant with fields")?, visitor)
    }
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

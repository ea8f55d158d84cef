//! In comes what `read` finds in the bytes, out goes a value through serde, or why not. Each type is read as it mostly
//! looks like first; all that it may look like besides is left to what the input says of itself.

use serde::de::{self, DeserializeSeed, Visitor};
use serde::forward_to_deserialize_any;

use super::read::{Decoder, Head, Length};
use super::{Error, Failure, initial, major};

/// Numbers are read alike.
macro_rules! numbers_are {
    ($($method:ident),+) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            match self.expected(major::UNSIGNED)? {
                Some(value) => visitor.visit_u64(value),
                None => self.unexpected(visitor),
            }
        }
    )+};
}

impl<'de> de::Deserializer<'de> for &mut Decoder<'de> {
    type Error = Failure;

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
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

    numbers_are!(
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64,
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64
    );

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let value = match self.peek()? {
            initial::FALSE => false,
            initial::TRUE => true,
            _ => return self.unexpected(visitor),
        };
        self.take(1)?;
        visitor.visit_bool(value)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.expected_length(major::TEXT, 1)? {
            Some(length) => visitor.visit_borrowed_str(self.take_text(length)?),
            None => self.unexpected(visitor),
        }
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.expected_length(major::BYTES, 1)? {
            Some(length) => visitor.visit_borrowed_bytes(self.take(length)?),
            None => self.unexpected(visitor),
        }
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.expected_length(major::ARRAY, 1)? {
            Some(length) => self.items(Some(length), |items| visitor.visit_seq(items)),
            None => self.unexpected(visitor),
        }
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.expected_length(major::MAP, 2)? {
            Some(length) => self.items(Some(length), |items| visitor.visit_map(items)),
            None => self.unexpected(visitor),
        }
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_map(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.skip_tags()?;
        match self.peek()? {
            initial::NULL | initial::UNDEFINED => {
                self.take(1)?;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    /// A map of one entry, or a bare index or name.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.skip_tags()?;
        let mut left = if let Some(length) = self.expected_length(major::MAP, 2)? {
            Some(length)
        } else if self.peek()? >> 5 == major::MAP {
            self.open_map()?
        } else {
            return visitor.visit_enum(Variant {
                decoder: self,
                left: None,
            });
        };
        self.deeper()?;
        if !self.another(&mut left)? {
            return Err(Error::WrongLength.into());
        }
        visitor.visit_enum(Variant {
            decoder: self,
            left: Some(left),
        })
    }

    /// The derive's visitors take a declaration index or a name. A negative index is nobody's, like one too large.
    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if let Some(index) = self.expected(major::UNSIGNED)? {
            return visitor.visit_u64(index);
        }
        if self.peek()? >> 5 == major::NEGATIVE {
            self.skip()?;
            return visitor.visit_u64(u64::MAX);
        }
        self.unexpected(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char unit unit_struct tuple tuple_struct
    }
}

impl<'de> Decoder<'de> {
    /// What comes next is not what the type mostly looks like.
    #[cold]
    #[inline(never)]
    fn unexpected<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Failure> {
        de::Deserializer::deserialize_any(self, visitor)
    }

    /// Gives the visitor what an array or a map holds, and requires that it takes all of it.
    #[inline]
    fn items<T>(
        &mut self,
        left: Length,
        visit: impl FnOnce(&mut Items<'_, 'de>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.nested(|decoder| {
            let mut items = Items { decoder, left };
            let mut value = visit(&mut items);
            if value.is_ok()
                && let Err(failure) = items.decoder.at_end(&mut items.left)
            {
                value = Err(failure);
            }
            value
        })
    }
}

/// What is left of an array or a map.
struct Items<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: Length,
}

impl<'de> de::SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = Failure;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Failure> {
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
    type Error = Failure;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failure> {
        if self.decoder.another(&mut self.left)? {
            seed.deserialize(&mut *self.decoder).map(Some)
        } else {
            Ok(None)
        }
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

/// An enum's variant, at its index or name.
struct Variant<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    /// What the map holds beside this variant; none if the variant stands alone, without a map and content.
    left: Option<Length>,
}

impl<'de> Variant<'_, 'de> {
    /// Reads the content and requires that the map ends with it. Here, where it is still what the variant holds:
    /// afterwards it would be moved once more, as large as the largest variant.
    #[inline]
    fn content<T>(
        self,
        expected: &str,
        read: impl FnOnce(&mut Decoder<'de>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Some(mut left) = self.left else {
            return Err(no_content(expected));
        };
        let value = read(self.decoder);
        if value.is_ok() {
            self.decoder.at_end(&mut left)?;
            self.decoder.depth_left += 1;
        }
        value
    }
}

#[cold]
fn no_content(expected: &str) -> Failure {
    de::Error::invalid_type(de::Unexpected::UnitVariant, &expected)
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Failure;
    type Variant = Self;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Failure> {
        let name = seed.deserialize(&mut *self.decoder)?;
        Ok((name, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Failure;

    /// Content is skipped: a later version may have given this variant some, or it is the `serde(other)` one.
    #[inline]
    fn unit_variant(self) -> Result<(), Failure> {
        if self.left.is_none() {
            return Ok(());
        }
        self.content("a variant with anything", Decoder::skip)
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        self.content("a variant with a value", |decoder| {
            seed.deserialize(decoder)
        })
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.content("a variant with values", |decoder| {
            de::Deserializer::deserialize_seq(decoder, visitor)
        })
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.content("a variant with fields", |decoder| {
            de::Deserializer::deserialize_map(decoder, visitor)
        })
    }
}

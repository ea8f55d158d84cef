//! In comes a value through serde, out go its bytes at the end of a vector.

use serde::ser::{self, Serialize};

use super::{Error, Failure, initial, major};

/// The initial byte, and an argument of 64 bits.
const HEAD_BYTES_MAX: usize = 9;

/// Appends one value to a vector.
pub(super) struct Encoder<'a> {
    output: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    #[inline]
    pub(super) fn new(output: &'a mut Vec<u8>) -> Self {
        Self { output }
    }

    /// A head (RFC 8949, section 3): major type and argument, in as few bytes as it fits. Most fit one.
    #[inline]
    fn head(&mut self, major: u8, argument: u64) {
        if argument < 24 {
            self.output.push(major << 5 | argument as u8);
        } else {
            self.wide_head(major << 5, argument);
        }
    }

    /// Asks for room before anything else: the compiler then sees that what follows always has it.
    fn wide_head(&mut self, kind: u8, argument: u64) {
        if self.output.capacity() - self.output.len() < HEAD_BYTES_MAX {
            return self.wide_head_in_new_room(kind, argument);
        }
        if let Ok(argument) = u8::try_from(argument) {
            self.output.extend_from_slice(&[kind | 24, argument]);
        } else if let Ok(argument) = u16::try_from(argument) {
            let [a, b] = argument.to_be_bytes();
            self.output.extend_from_slice(&[kind | 25, a, b]);
        } else if let Ok(argument) = u32::try_from(argument) {
            let [a, b, c, d] = argument.to_be_bytes();
            self.output.extend_from_slice(&[kind | 26, a, b, c, d]);
        } else {
            let [a, b, c, d, e, f, g, h] = argument.to_be_bytes();
            self.output
                .extend_from_slice(&[kind | 27, a, b, c, d, e, f, g, h]);
        }
    }

    #[cold]
    #[inline(never)]
    fn wide_head_in_new_room(&mut self, kind: u8, argument: u64) {
        self.output.reserve(HEAD_BYTES_MAX);
        self.wide_head(kind, argument);
    }

    /// The head of an array or a map, with a count of what is to come; an unknown length stays open until a break.
    #[inline]
    fn items(mut self, major: u8, open: u8, length: Option<usize>) -> Items<'a> {
        match length {
            Some(length) => self.head(major, length as u64),
            None => self.output.push(open),
        }
        Items {
            output: self.output,
            left: length,
        }
    }

    #[inline]
    fn array(self, length: Option<usize>) -> Items<'a> {
        self.items(major::ARRAY, initial::ARRAY_OPEN, length)
    }

    #[inline]
    fn fields(mut self, length: usize) -> Fields<'a> {
        self.head(major::MAP, length as u64);
        Fields {
            output: self.output,
            index: 0,
            left: length,
        }
    }

    /// Opens the map of one entry that holds a variant's content.
    #[inline]
    fn variant(mut self, index: u32) -> Self {
        self.head(major::MAP, 1);
        self.head(major::UNSIGNED, u64::from(index));
        self
    }
}

impl<'a> ser::Serializer for Encoder<'a> {
    type Ok = ();
    type Error = Failure;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeMap = Items<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Failure> {
        self.output
            .push(if value { initial::TRUE } else { initial::FALSE });
        Ok(())
    }

    #[inline]
    fn serialize_i8(self, value: i8) -> Result<(), Failure> {
        self.serialize_i64(i64::from(value))
    }

    #[inline]
    fn serialize_i16(self, value: i16) -> Result<(), Failure> {
        self.serialize_i64(i64::from(value))
    }

    #[inline]
    fn serialize_i32(self, value: i32) -> Result<(), Failure> {
        self.serialize_i64(i64::from(value))
    }

    #[inline]
    fn serialize_i64(mut self, value: i64) -> Result<(), Failure> {
        match u64::try_from(value) {
            Ok(value) => self.head(major::UNSIGNED, value),
            // A negative integer n is written as -1 - n, which is its complement.
            Err(_) => self.head(major::NEGATIVE, !value as u64),
        }
        Ok(())
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Result<(), Failure> {
        self.serialize_u64(u64::from(value))
    }

    #[inline]
    fn serialize_u16(self, value: u16) -> Result<(), Failure> {
        self.serialize_u64(u64::from(value))
    }

    #[inline]
    fn serialize_u32(self, value: u32) -> Result<(), Failure> {
        self.serialize_u64(u64::from(value))
    }

    #[inline]
    fn serialize_u64(mut self, value: u64) -> Result<(), Failure> {
        self.head(major::UNSIGNED, value);
        Ok(())
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<(), Failure> {
        self.output.push(initial::FLOAT_32);
        self.output.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), Failure> {
        self.output.push(initial::FLOAT_64);
        self.output.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_char(self, value: char) -> Result<(), Failure> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(mut self, value: &str) -> Result<(), Failure> {
        self.head(major::TEXT, value.len() as u64);
        self.output.extend_from_slice(value.as_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_bytes(mut self, value: &[u8]) -> Result<(), Failure> {
        self.head(major::BYTES, value.len() as u64);
        self.output.extend_from_slice(value);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Failure> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failure> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Failure> {
        self.output.push(initial::NULL);
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Failure> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
    ) -> Result<(), Failure> {
        self.serialize_u32(index)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        value.serialize(self.variant(index))
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Items<'a>, Failure> {
        Ok(self.array(length))
    }

    #[inline]
    fn serialize_tuple(self, length: usize) -> Result<Items<'a>, Failure> {
        Ok(self.array(Some(length)))
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Items<'a>, Failure> {
        Ok(self.array(Some(length)))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        length: usize,
    ) -> Result<Items<'a>, Failure> {
        Ok(self.variant(index).array(Some(length)))
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Items<'a>, Failure> {
        Ok(self.items(major::MAP, initial::MAP_OPEN, length))
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Fields<'a>, Failure> {
        Ok(self.fields(length))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        length: usize,
    ) -> Result<Fields<'a>, Failure> {
        Ok(self.variant(index).fields(length))
    }
}

/// An array, or a map with keys of its own.
pub(super) struct Items<'a> {
    output: &'a mut Vec<u8>,
    /// How many items or entries are still owed; none for an open length.
    left: Option<usize>,
}

impl Items<'_> {
    #[inline]
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        value.serialize(Encoder::new(self.output))
    }

    #[inline]
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or(Error::WrongLength)?;
        }
        self.value(value)
    }

    #[inline]
    fn close(self) -> Result<(), Failure> {
        match self.left {
            Some(0) => {}
            Some(_) => return Err(Error::WrongLength.into()),
            None => self.output.push(initial::BREAK),
        }
        Ok(())
    }
}

/// serde has a trait for each shape of array; they are all written alike.
macro_rules! items_are {
    ($($shape:ident::$item:ident),+) => {$(
        impl ser::$shape for Items<'_> {
            type Ok = ();
            type Error = Failure;

            #[inline]
            fn $item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
                self.item(value)
            }

            #[inline]
            fn end(self) -> Result<(), Failure> {
                self.close()
            }
        }
    )+};
}

items_are!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

impl ser::SerializeMap for Items<'_> {
    type Ok = ();
    type Error = Failure;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failure> {
        self.item(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        self.value(value)
    }

    #[inline]
    fn end(self) -> Result<(), Failure> {
        self.close()
    }
}

/// A struct: a map whose keys are the declaration indices of its fields.
pub(super) struct Fields<'a> {
    output: &'a mut Vec<u8>,
    /// The declaration index of the next field, whether it will be written or skipped.
    index: u64,
    /// How many fields are still owed.
    left: usize,
}

impl Fields<'_> {
    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        self.left = self.left.checked_sub(1).ok_or(Error::WrongLength)?;
        Encoder::new(self.output).head(major::UNSIGNED, self.index);
        self.index += 1;
        value.serialize(Encoder::new(self.output))
    }

    #[inline]
    fn close(self) -> Result<(), Failure> {
        if self.left == 0 {
            Ok(())
        } else {
            Err(Error::WrongLength.into())
        }
    }
}

/// A struct and the content of a struct variant are written alike.
macro_rules! fields_are {
    ($($shape:ident),+) => {$(
        impl ser::$shape for Fields<'_> {
            type Ok = ();
            type Error = Failure;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Failure> {
                self.field(value)
            }

            #[inline]
            fn skip_field(&mut self, _: &'static str) -> Result<(), Failure> {
                self.index += 1;
                Ok(())
            }

            #[inline]
            fn end(self) -> Result<(), Failure> {
                self.close()
            }
        }
    )+};
}

fields_are!(SerializeStruct, SerializeStructVariant);

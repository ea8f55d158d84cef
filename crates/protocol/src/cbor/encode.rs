//! In comes a value through serde, out go its bytes at the end of a vector.

use serde::ser::{self, Serialize};

use super::{Error, initial, major};

/// Appends one value to a vector.
pub(super) struct Encoder<'a> {
    output: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(output: &'a mut Vec<u8>) -> Self {
        Self { output }
    }

    /// A head (RFC 8949, section 3): major type and argument, in as few bytes as it fits.
    #[inline]
    fn head(&mut self, major: u8, argument: u64) {
        let kind = major << 5;
        if argument < 24 {
            self.output.push(kind | argument as u8);
        } else if let Ok(argument) = u8::try_from(argument) {
            self.output.extend_from_slice(&[kind | 24, argument]);
        } else if let Ok(argument) = u16::try_from(argument) {
            self.wide_head(kind | 25, argument.to_be_bytes());
        } else if let Ok(argument) = u32::try_from(argument) {
            self.wide_head(kind | 26, argument.to_be_bytes());
        } else {
            self.wide_head(kind | 27, argument.to_be_bytes());
        }
    }

    fn wide_head<const N: usize>(&mut self, initial: u8, argument: [u8; N]) {
        self.output.push(initial);
        self.output.extend_from_slice(&argument);
    }

    /// The head of an array or a map, with a count of what is to come; an unknown length stays open until a break.
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

    fn array(self, length: Option<usize>) -> Items<'a> {
        self.items(major::ARRAY, initial::ARRAY_OPEN, length)
    }

    fn fields(mut self, length: usize) -> Fields<'a> {
        self.head(major::MAP, length as u64);
        Fields {
            output: self.output,
            index: 0,
            left: length,
        }
    }

    /// Opens the map of one entry that holds a variant's content.
    fn variant(mut self, index: u32) -> Self {
        self.head(major::MAP, 1);
        self.head(major::UNSIGNED, u64::from(index));
        self
    }
}

impl<'a> ser::Serializer for Encoder<'a> {
    type Ok = ();
    type Error = Error;
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

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.output
            .push(if value { initial::TRUE } else { initial::FALSE });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_i64(mut self, value: i64) -> Result<(), Error> {
        match u64::try_from(value) {
            Ok(value) => self.head(major::UNSIGNED, value),
            // A negative integer n is written as -1 - n, which is its complement.
            Err(_) => self.head(major::NEGATIVE, !value as u64),
        }
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.serialize_u64(u64::from(value))
    }

    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.serialize_u64(u64::from(value))
    }

    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.serialize_u64(u64::from(value))
    }

    fn serialize_u64(mut self, value: u64) -> Result<(), Error> {
        self.head(major::UNSIGNED, value);
        Ok(())
    }

    fn serialize_f32(mut self, value: f32) -> Result<(), Error> {
        self.wide_head(initial::FLOAT_32, value.to_be_bytes());
        Ok(())
    }

    fn serialize_f64(mut self, value: f64) -> Result<(), Error> {
        self.wide_head(initial::FLOAT_64, value.to_be_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(mut self, value: &str) -> Result<(), Error> {
        self.head(major::TEXT, value.len() as u64);
        self.output.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(mut self, value: &[u8]) -> Result<(), Error> {
        self.head(major::BYTES, value.len() as u64);
        self.output.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.output.push(initial::NULL);
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
    ) -> Result<(), Error> {
        self.serialize_u32(index)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self.variant(index))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Items<'a>, Error> {
        Ok(self.array(length))
    }

    fn serialize_tuple(self, length: usize) -> Result<Items<'a>, Error> {
        Ok(self.array(Some(length)))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Items<'a>, Error> {
        Ok(self.array(Some(length)))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        length: usize,
    ) -> Result<Items<'a>, Error> {
        Ok(self.variant(index).array(Some(length)))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Items<'a>, Error> {
        Ok(self.items(major::MAP, initial::MAP_OPEN, length))
    }

    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Fields<'a>, Error> {
        Ok(self.fields(length))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        length: usize,
    ) -> Result<Fields<'a>, Error> {
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
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(Encoder::new(self.output))
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or(Error::WrongLength)?;
        }
        self.value(value)
    }

    fn close(self) -> Result<(), Error> {
        match self.left {
            Some(0) => {}
            Some(_) => return Err(Error::WrongLength),
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
            type Error = Error;

            fn $item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.item(value)
            }

            fn end(self) -> Result<(), Error> {
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
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.item(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.value(value)
    }

    fn end(self) -> Result<(), Error> {
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
    fn field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.left = self.left.checked_sub(1).ok_or(Error::WrongLength)?;
        Encoder::new(self.output).head(major::UNSIGNED, self.index);
        self.index += 1;
        value.serialize(Encoder::new(self.output))
    }

    fn close(self) -> Result<(), Error> {
        if self.left == 0 {
            Ok(())
        } else {
            Err(Error::WrongLength)
        }
    }
}

/// A struct and the content of a struct variant are written alike.
macro_rules! fields_are {
    ($($shape:ident),+) => {$(
        impl ser::$shape for Fields<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Error> {
                self.field(value)
            }

            fn skip_field(&mut self, _: &'static str) -> Result<(), Error> {
                self.index += 1;
                Ok(())
            }

            fn end(self) -> Result<(), Error> {
                self.close()
            }
        }
    )+};
}

fields_are!(SerializeStruct, SerializeStructVariant);

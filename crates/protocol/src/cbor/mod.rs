//! CBOR (RFC 8949) for the derived wire types, small: what JSON names, this numbers.
//!
//! Written: a struct is a map from a field's declaration index to its value, and a field left out by
//! `skip_serializing_if` keeps its number. An enum is a map of one entry, `{variant index: content}`, or the bare index
//! for a unit variant. `None` and `()` are null. The format is not human readable, so ids are byte strings and times
//! are integers.
//!
//! Read: also names in place of numbers, unknown fields (skipped), indefinite lengths, any width of a head, tags
//! (ignored), and `undefined` as null. A number is therefore forever: new fields and variants go last, none is removed or
//! moved.
//!
//! Not for types with `serde(tag)` (the tag would take number 0), `serde(untagged)`, or a `serde(skip)` on a variant or
//! on one direction of a field (the derive then counts differently in each direction). `Some(())` and `Some(None)` are
//! read back as `None`. A hand-written `visit_enum` must take its variant's content, as derived ones do.

mod decode;
mod encode;
mod read;
#[cfg(test)]
mod tests;

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::encoding::FrameKind;

/// How deep arrays, maps and enum contents may nest in what is read.
pub const DEPTH_MAX: u8 = 32;

/// Why a value could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input ends within a value, or claims a length that it cannot hold.
    #[error("the CBOR ends within a value")]
    EndsEarly,
    /// Bytes follow the value.
    #[error("bytes follow the CBOR value")]
    TrailingBytes,
    /// The input nests deeper than [`DEPTH_MAX`].
    #[error("the CBOR nests deeper than {DEPTH_MAX}")]
    TooDeep,
    /// The input is not well-formed (RFC 8949, section 5.3.1), or uses simple values that nobody has assigned.
    #[error("malformed CBOR: {0}")]
    Malformed(&'static str),
    /// A text string is not UTF-8.
    #[error("CBOR text is not UTF-8")]
    NotUtf8,
    /// A `Serialize` or `Deserialize` implementation saw more or fewer items than were announced.
    #[error("more or fewer items than announced")]
    WrongLength,
    /// The value does not fit the type.
    #[error("{0}")]
    Unfit(Box<str>),
}

/// An [`Error`] on its way out. Behind a pointer, so that the many results that say only whether it went well are one
/// word each.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Failure(Box<Error>);

impl From<Error> for Failure {
    #[cold]
    #[inline(never)]
    fn from(error: Error) -> Self {
        Self(Box::new(error))
    }
}

impl serde::ser::Error for Failure {
    #[cold]
    fn custom<T: Display>(message: T) -> Self {
        Error::Unfit(message.to_string().into()).into()
    }
}

impl serde::de::Error for Failure {
    #[cold]
    fn custom<T: Display>(message: T) -> Self {
        Error::Unfit(message.to_string().into()).into()
    }
}

/// Writes `value` into a new vector.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut output = Vec::with_capacity(256);
    extend(&mut output, value)?;
    Ok(output)
}

/// Appends `value` to `output`, which an error leaves as it was.
pub fn extend<T: Serialize + ?Sized>(output: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    let before = output.len();
    let written = value.serialize(encode::Encoder::new(output));
    written.map_err(|failure| {
        output.truncate(before);
        *failure.0
    })
}

/// Reads one value, which must be all of `input`. Text and bytes are borrowed where the type can borrow them and the
/// sender did not chop them into an indefinite length.
pub fn from_slice<'de, T: Deserialize<'de>>(input: &'de [u8]) -> Result<T, Error> {
    from_bytes(input).map_err(|failure| *failure.0)
}

/// As [`from_slice`].
#[inline]
pub(crate) fn from_bytes<'de, T: Deserialize<'de>>(input: &'de [u8]) -> Result<T, Failure> {
    let mut decoder = read::Decoder::new(input);
    let value = T::deserialize(&mut decoder);
    if value.is_ok() {
        decoder.finish()?;
    }
    value
}

/// The request id of a frame of any kind, so that a frame which cannot be read can still be answered: the unsigned
/// integer under `0` or `"id"` in `{variant: {0: id, …}}`. What follows the id is not looked at.
pub fn peek_id(input: &[u8]) -> Option<u64> {
    read::Decoder::new(input).peek_id().ok().flatten()
}

/// Of which kind a frame is, so that one of an unknown kind is told from one that cannot be read: the number or name of
/// the variant in `{variant: …}`, if the whole input is well formed.
pub(crate) fn peek_kind(input: &[u8]) -> Option<FrameKind> {
    read::Decoder::new(input).peek_kind().ok().flatten()
}

/// The major types of RFC 8949, section 3.1.
mod major {
    pub(super) const UNSIGNED: u8 = 0;
    pub(super) const NEGATIVE: u8 = 1;
    pub(super) const BYTES: u8 = 2;
    pub(super) const TEXT: u8 = 3;
    pub(super) const ARRAY: u8 = 4;
    pub(super) const MAP: u8 = 5;
    pub(super) const TAG: u8 = 6;
}

/// The initial bytes that are whole values (RFC 8949, section 3.3), or open and close an indefinite length.
mod initial {
    pub(super) const ARRAY_OPEN: u8 = 0x9f;
    pub(super) const MAP_OPEN: u8 = 0xbf;
    pub(super) const FALSE: u8 = 0xf4;
    pub(super) const TRUE: u8 = 0xf5;
    pub(super) const NULL: u8 = 0xf6;
    pub(super) const UNDEFINED: u8 = 0xf7;
    pub(super) const FLOAT_16: u8 = 0xf9;
    pub(super) const FLOAT_32: u8 = 0xfa;
    pub(super) const FLOAT_64: u8 = 0xfb;
    pub(super) const BREAK: u8 = 0xff;
}

//! The wire: frames, their JSON and CBOR encodings, error codes.
//!
//! The same types serve both encodings: [`Encoding::Json`] writes names, ids as text and times as RFC
//! 3339, [`Encoding::Cbor`] numbers in the order of declaration, ids as 16 bytes and times as
//! milliseconds. New fields and variants are only ever added at the end of a type, so that numbers keep
//! their meaning.
//!
//! One file per family of messages: [`session`], [`send`], [`entry`], [`sync`], [`mark`],
//! [`presence`], [`account`], [`short`]; [`frame`] is the list of all that travel over a connection, [`problem`]
//! all that can go wrong, [`convert`] the way to and from the core's types.

pub mod account;
pub mod blob;
pub mod cbor;
pub mod convert;
mod encoding;
pub mod entry;
pub mod frame;
pub mod mark;
pub mod presence;
pub mod problem;
pub mod send;
pub mod session;
pub mod short;
pub mod sync;

pub use encoding::{DecodeError, Encoding};
pub use frame::{ClientFrame, ServerFrame};
pub use problem::{Code, Problem, Retry};

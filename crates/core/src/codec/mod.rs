//! The stored form of envelopes, bodies, states and members: bytes that begin with a version and
//! that every later version still reads.
//!
//! Integers are LEB128 (7 bits a byte, least first), texts and byte strings carry their length in
//! front, ids are 16 bytes as they are. Fields are only ever added at the end under a new version.

mod entry;
mod primitive;
mod state;

pub use entry::{decode_body, decode_envelope, encode_body, encode_envelope};
pub use primitive::{DecodeError, Reader, Writer};
pub use state::{decode_member, decode_state, encode_member, encode_state};

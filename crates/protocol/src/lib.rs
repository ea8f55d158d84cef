//! The wire: frames, their JSON and CBOR encodings, error codes.

pub mod blob;
pub mod cbor;

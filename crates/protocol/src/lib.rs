//! The wire: frames, their JSON and CBOR encodings, error codes.

//! JSON and CBOR behind one name.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cbor;
use crate::frame::{ClientFrame, ServerFrame};

/// How frames are written on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Text, easy to read (subprotocol `tidings.v1.json`).
    Json,
    /// Binary, small (subprotocol `tidings.v1.cbor`).
    Cbor,
}

/// Bytes that are not the value they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// The request's id, if the frame at least had one: the answer can name it.
    pub id: Option<u64>,
    /// Whether the frame was well formed but of an unknown kind.
    pub unknown_frame: bool,
    /// What is wrong, for the developer of the client.
    pub message: String,
}

impl Encoding {
    /// The WebSocket subprotocol.
    #[must_use]
    pub fn subprotocol(self) -> &'static str {
        match self {
            Encoding::Json => "tidings.v1.json",
            Encoding::Cbor => "tidings.v1.cbor",
        }
    }

    /// The encoding with this subprotocol.
    #[must_use]
    pub fn from_subprotocol(name: &str) -> Option<Encoding> {
        [Encoding::Json, Encoding::Cbor]
            .into_iter()
            .find(|encoding| encoding.subprotocol() == name)
    }

    /// The frame that a client sent. Not generic, so that the code for it is compiled once, here.
    ///
    /// # Errors
    /// As [`Encoding::decode`].
    pub fn decode_request(self, bytes: &[u8]) -> Result<ClientFrame, DecodeError> {
        self.decode(bytes)
    }

    /// The frame that the server sent.
    ///
    /// # Errors
    /// As [`Encoding::decode`].
    pub fn decode_event(self, bytes: &[u8]) -> Result<ServerFrame, DecodeError> {
        self.decode(bytes)
    }

    /// The bytes of a frame that the server sends.
    ///
    /// # Errors
    /// As [`Encoding::encode`].
    pub fn encode_event(self, frame: &ServerFrame) -> Result<Vec<u8>, DecodeError> {
        self.encode(frame)
    }

    /// The bytes of a frame that a client sends.
    ///
    /// # Errors
    /// As [`Encoding::encode`].
    pub fn encode_request(self, frame: &ClientFrame) -> Result<Vec<u8>, DecodeError> {
        self.encode(frame)
    }

    /// The value's bytes.
    ///
    /// # Errors
    /// None with the types of this crate; a map with keys that are not text would be one.
    pub fn encode<T: Serialize>(self, value: &T) -> Result<Vec<u8>, DecodeError> {
        let failed = |message: String| DecodeError {
            id: None,
            unknown_frame: false,
            message,
        };
        match self {
            Encoding::Json => serde_json::to_vec(value).map_err(|error| failed(error.to_string())),
            Encoding::Cbor => cbor::to_vec(value).map_err(|error| failed(error.to_string())),
        }
    }

    /// The value of the bytes.
    ///
    /// # Errors
    /// When they are not one; names the request's id if there is one to be found.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, DecodeError> {
        match self {
            Encoding::Json => serde_json::from_slice(bytes).map_err(|error| {
                let message = error.to_string();
                DecodeError {
                    id: peek_json_id(bytes),
                    unknown_frame: error.is_data() && message.starts_with("unknown variant"),
                    message,
                }
            }),
            Encoding::Cbor => cbor::from_slice(bytes).map_err(|error| DecodeError {
                id: cbor::peek_id(bytes),
                unknown_frame: false,
                message: error.to_string(),
            }),
        }
    }
}

/// The `id` inside `{"anything": {"id": 7, …}}`.
fn peek_json_id(bytes: &[u8]) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    value.as_object()?.values().next()?.get("id")?.as_u64()
}

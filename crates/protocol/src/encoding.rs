//! JSON and CBOR behind one name.

use serde::de::value::Error as NoValue;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::{Serialize, forward_to_deserialize_any};

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
    /// Whether the frame was well formed but of an unknown kind. What is unknown inside a known one, an action
    /// say, is no unknown frame.
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
                let (kind, id) = peek_json(bytes);
                DecodeError {
                    id,
                    unknown_frame: kind.is_some_and(|kind| !is_known::<T>(&kind)),
                    message: error.to_string(),
                }
            }),
            Encoding::Cbor => cbor::from_bytes(bytes).map_err(|error| DecodeError {
                id: cbor::peek_id(bytes),
                unknown_frame: cbor::peek_kind(bytes).is_some_and(|kind| !is_known::<T>(&kind)),
                message: error.to_string(),
            }),
        }
    }
}

/// What a frame says of what kind it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Name(String),
    Number(u64),
}

/// The kind and the id of `{"kind": {"id": 7, …}}`.
fn peek_json(bytes: &[u8]) -> (Option<FrameKind>, Option<u64>) {
    let Ok(serde_json::Value::Object(frame)) = serde_json::from_slice(bytes) else {
        return (None, None);
    };
    let is_one = frame.len() == 1;
    let Some((name, content)) = frame.into_iter().next() else {
        return (None, None);
    };
    let id = content.get("id").and_then(serde_json::Value::as_u64);
    (is_one.then_some(FrameKind::Name(name)), id)
}

/// Whether a type has a variant of this kind; true for one that has no variants.
fn is_known<T: DeserializeOwned>(kind: &FrameKind) -> bool {
    let mut variants = None;
    // Never a value: it is asked for to hear its variants.
    let _ = T::deserialize(Variants(&mut variants));
    variants.is_none_or(|variants| match kind {
        FrameKind::Name(name) => variants.contains(&name.as_str()),
        FrameKind::Number(number) => {
            usize::try_from(*number).is_ok_and(|index| index < variants.len())
        }
    })
}

/// Hears which variants the type has that is read from it.
struct Variants<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Variants<'_> {
    type Error = NoValue;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, NoValue> {
        *self.0 = Some(variants);
        Err(NoValue::custom("there is none"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
        Err(NoValue::custom("there is none"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a request cannot be read because its kind is unknown, and the id that is found in it.
    fn unknown(encoding: Encoding, bytes: &[u8]) -> (bool, Option<u64>) {
        let error = encoding.decode_request(bytes).unwrap_err();
        (error.unknown_frame, error.id)
    }

    #[test]
    fn only_a_frame_of_an_unknown_kind_is_an_unknown_frame() {
        let client_id = "019aa8b2-2400-7abc-8def-0123456789ab";
        let dance =
            format!(r#"{{"send":{{"id":7,"client_id":"{client_id}","action":{{"dance":{{}}}}}}}}"#);
        for (text, expected) in [
            (r#"{"fly":{"id":7}}"#, (true, Some(7))),
            (r#"{"fly":null}"#, (true, None)),
            (r#"{"fly":{"id":7}"#, (false, None)),
            (r#"{"fly":{"id":7},"ping":{"id":7}}"#, (false, Some(7))),
            (r#"{"ping":{}}"#, (false, None)),
            ("\"fly\"", (false, None)),
            (dance.as_str(), (false, Some(7))),
        ] {
            assert_eq!(unknown(Encoding::Json, text.as_bytes()), expected, "{text}");
        }
        let error = Encoding::Json.decode_request(dance.as_bytes()).unwrap_err();
        assert!(
            error
                .message
                .contains("unknown variant `dance`, expected one of `message`"),
            "{}",
            error.message
        );
        for (bytes, expected) in [
            // {99: {0: 7}}, {"fly": {"id": 7}}, and the first with an indefinite length
            (&b"\xa1\x18\x63\xa1\x00\x07"[..], (true, Some(7))),
            (b"\xa1\x63fly\xa1\x62id\x07", (true, Some(7))),
            (b"\xbf\x18\x63\xa1\x00\x07\xff", (true, Some(7))),
            // it ends early, something follows, it is no map, a ping without an id, a ping and more
            (b"\xa1\x18\x63\xa1\x00", (false, None)),
            (b"\xa1\x18\x63\xa1\x00\x07\x00", (false, Some(7))),
            (b"\x18\x63", (false, None)),
            (b"\xa1\x01\xa0", (false, None)),
            (
                b"\xa2\x18\x63\xa1\x00\x07\x00\xa1\x00\x07",
                (false, Some(7)),
            ),
            // {2: {0: 7, 3: 16 bytes, 6: {99: {}}}}: a send of an unknown action
            (
                b"\xa1\x02\xa3\x00\x07\x03\x500123456789abcdef\x06\xa1\x18\x63\xa0",
                (false, Some(7)),
            ),
        ] {
            assert_eq!(unknown(Encoding::Cbor, bytes), expected, "{bytes:02x?}");
        }
    }
}

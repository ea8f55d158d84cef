//! Byte strings: themselves in CBOR, URL-safe base64 without padding (RFC 4648, section 5) in JSON.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that go over the wire as bytes, not as an array of numbers.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob(pub Vec<u8>);

/// Says how long it is: what it holds may be somebody's secret.
impl fmt::Debug for Blob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&URL_SAFE_NO_PAD.encode(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Base64)
        } else {
            deserializer.deserialize_byte_buf(Bytes)
        }
    }
}

impl schemars::JsonSchema for Blob {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Blob".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "contentEncoding": "base64url", "description": "bytes as URL-safe base64 without padding"
        })
    }
}

struct Base64;

impl Visitor<'_> for Base64 {
    type Value = Blob;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("URL-safe base64 without padding")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
        // The text itself stays out of the error, which may be logged.
        URL_SAFE_NO_PAD
            .decode(text)
            .map(Blob)
            .map_err(|_| E::custom("not URL-safe base64 without padding"))
    }
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Blob;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a byte string")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(bytes.to_vec()))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(Blob(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor;

    #[test]
    fn text_in_json_and_bytes_in_cbor() {
        let blob = Blob(vec![0xfb, 0xff, 0x00, 0x01]);
        let json = serde_json::to_string(&blob).unwrap();
        assert_eq!(json, r#""-_8AAQ""#);
        assert_eq!(serde_json::from_str::<Blob>(&json).unwrap(), blob);

        let bytes = cbor::to_vec(&blob).unwrap();
        assert_eq!(bytes, [0x44, 0xfb, 0xff, 0x00, 0x01]);
        assert_eq!(cbor::from_slice::<Blob>(&bytes).unwrap(), blob);
        // The same in two chunks.
        assert_eq!(
            cbor::from_slice::<Blob>(&[0x5f, 0x41, 0xfb, 0x43, 0xff, 0x00, 0x01, 0xff]).unwrap(),
            blob
        );
    }

    #[test]
    fn other_spellings_are_refused() {
        for json in [r#""-_8AAQ==""#, r#""+/8AAQ""#, r#""-_8AAR""#, "[1]"] {
            assert!(serde_json::from_str::<Blob>(json).is_err(), "{json}");
        }
        assert!(cbor::from_slice::<Blob>(&cbor::to_vec("AAAA").unwrap()).is_err());
    }
}

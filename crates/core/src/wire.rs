//! How the values that are the same everywhere (ids and times) stand in JSON and CBOR: as text where
//! people read it, as 16 bytes or an integer where machines do.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::id::{ClientId, ConversationId, DeviceId, UserId};
use crate::log::Generation;
use crate::time::Time;

macro_rules! wire_id {
    ($name:ident, $pattern:literal, $description:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct IdVisitor;

                impl Visitor<'_> for IdVisitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($description)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::from_str(text).map_err(E::custom)
                    }

                    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<$name, E> {
                        bytes.try_into().map($name).map_err(|_| E::invalid_length(bytes.len(), &"16 bytes"))
                    }
                }

                if deserializer.is_human_readable() {
                    deserializer.deserialize_str(IdVisitor)
                } else {
                    deserializer.deserialize_bytes(IdVisitor)
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern, "description": $description })
            }
        }
    };
}

wire_id!(
    UserId,
    "^u_[0-7][0-9A-HJKMNP-TV-Z]{25}$",
    "a user id: u_ and a ULID"
);
wire_id!(
    DeviceId,
    "^d_[0-7][0-9A-HJKMNP-TV-Z]{25}$",
    "a device id: d_ and a ULID"
);
wire_id!(
    ConversationId,
    "^c_[0-7][0-9A-HJKMNP-TV-Z]{25}$",
    "a conversation id: c_ and a ULID"
);
wire_id!(
    ClientId,
    "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    "the sender's own id: a UUIDv7"
);
wire_id!(
    Generation,
    "^[0-7][0-9A-HJKMNP-TV-Z]{25}$",
    "which life of a log: a ULID"
);

impl fmt::Display for Time {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use jiff::fmt::temporal::DateTimePrinter;
        const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        // The largest time that jiff knows is in the year 9999.
        let timestamp = i64::try_from(self.0)
            .ok()
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
            .unwrap_or(jiff::Timestamp::MAX);
        PRINTER
            .print_timestamp(&timestamp, jiff::fmt::StdFmtWrite(f))
            .map_err(|_| fmt::Error)
    }
}

impl FromStr for Time {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let timestamp: jiff::Timestamp = text.parse().map_err(|_| "not a time (RFC 3339)")?;
        u64::try_from(timestamp.as_millisecond())
            .map(Time)
            .map_err(|_| "a time before 1970")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeVisitor;

        impl Visitor<'_> for TimeVisitor {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time: RFC 3339 in JSON, milliseconds since 1970 in CBOR")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, millis: u64) -> Result<Time, E> {
                Ok(Time(millis))
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(TimeVisitor)
        } else {
            deserializer.deserialize_u64(TimeVisitor)
        }
    }
}

impl schemars::JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "format": "date-time", "description": "RFC 3339 in UTC with milliseconds"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds_in_utc() {
        let time = Time(1_795_262_400_007);
        assert_eq!(time.to_string(), "2026-11-21T12:00:00.007Z");
        assert_eq!(time.to_string().parse(), Ok(time));
        assert_eq!(
            Time::MAX
                .to_string()
                .parse::<Time>()
                .map(|time| time.to_string().len()),
            Ok(24)
        );
        assert!("1969-12-31T00:00:00Z".parse::<Time>().is_err());
    }
}

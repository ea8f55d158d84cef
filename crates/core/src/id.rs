//! Identifiers: 16 bytes each, written as a prefix and a ULID in text.

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

/// The text was not an identifier of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidId {
    /// What was expected, for people: "a user id (u_ and 26 characters)".
    pub expected: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {}", self.expected)
    }
}

impl std::error::Error for InvalidId {}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// What the text form begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id from the time and 10 random bytes (ULID: 48 bits of time, 80 random).
            #[must_use]
            pub fn new(now: crate::Time, random: [u8; 10]) -> Self {
                let mut wide = [0; 16];
                wide[6..].copy_from_slice(&random);
                Self(Ulid::from_parts(now.0, u128::from_be_bytes(wide)).to_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut buffer = [0; ulid::ULID_LEN];
                f.write_str($prefix)?;
                f.write_str(Ulid::from_bytes(self.0).array_to_str(&mut buffer))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix($prefix)
                    // 26 digits of 5 bits hold 130: the first may only use three of its five.
                    .filter(|rest| matches!(rest.as_bytes().first(), Some(b'0'..=b'7')))
                    .and_then(|rest| Ulid::from_string(rest).ok())
                    .map(|ulid| Self(ulid.to_bytes()))
                    .ok_or(InvalidId { expected: $expected })
            }
        }
    };
}

ulid_id!(
    /// An account.
    UserId, "u_", "a user id (u_ and 26 characters)"
);
ulid_id!(
    /// One installed client of a user.
    DeviceId, "d_", "a device id (d_ and 26 characters)"
);
ulid_id!(
    /// A conversation. That of a direct conversation is derived from its pair by [`direct_id`].
    ConversationId, "c_", "a conversation id (c_ and 26 characters)"
);

/// The id of the one direct conversation of two users, the same from both sides.
///
/// Two rounds of 64-bit mixing over the ordered pair with different seeds. It needs no secrecy
/// and no resistance against chosen ids: the server makes user ids, nobody can choose one.
#[must_use]
pub fn direct_id(one: UserId, other: UserId) -> ConversationId {
    let (low, high) = if one <= other {
        (one, other)
    } else {
        (other, one)
    };
    let mut pair = [0; 32];
    pair[..16].copy_from_slice(&low.0);
    pair[16..].copy_from_slice(&high.0);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&crate::digest::hash(b"direct/1", &pair).to_be_bytes());
    id[8..].copy_from_slice(&crate::digest::hash(b"direct/2", &pair).to_be_bytes());
    ConversationId(id)
}

/// The sender's own id for a command: a UUIDv7 (RFC 9562, section 5.7), 16 bytes.
///
/// The server treats it as opaque; version 7 merely keeps ids of one device in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub [u8; 16]);

impl ClientId {
    /// A UUIDv7 from the time and 10 random bytes (of which 6 bits are overwritten).
    #[must_use]
    pub fn new(now: crate::Time, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&now.0.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        Self(bytes)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(36);
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ClientId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const EXPECTED: InvalidId = InvalidId {
            expected: "a client id (a UUID of 36 characters)",
        };
        let text = text.as_bytes();
        if text.len() != 36 {
            return Err(EXPECTED);
        }
        let mut bytes = [0; 16];
        let mut digits = 0;
        for (index, &character) in text.iter().enumerate() {
            if matches!(index, 8 | 13 | 18 | 23) {
                if character != b'-' {
                    return Err(EXPECTED);
                }
                continue;
            }
            let digit = char::from(character).to_digit(16).ok_or(EXPECTED)?;
            bytes[digits / 2] = (bytes[digits / 2] << 4) | digit as u8;
            digits += 1;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;

    #[test]
    fn text_round_trips() {
        let user = UserId::new(Time(1_700_000_000_000), [7; 10]);
        assert_eq!(user.to_string().parse(), Ok(user));
        assert!(user.to_string().starts_with("u_"));
        assert!(user.to_string().parse::<DeviceId>().is_err());
        let client_id = ClientId::new(Time(1_700_000_000_000), [0xff; 10]);
        assert_eq!(
            client_id.to_string(),
            "018bcfe5-6800-7fff-bfff-ffffffffffff"
        );
        assert_eq!(client_id.to_string().parse(), Ok(client_id));
        assert!(
            "018bcfe5-6800-7fff-bfff-fffffffffffé"
                .parse::<ClientId>()
                .is_err()
        );
        assert!(
            "u_8ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<UserId>().is_err(),
            "more than 128 bits"
        );
    }

    #[test]
    fn direct_ids_are_the_same_from_both_sides() {
        let (a, b, c) = (UserId([1; 16]), UserId([2; 16]), UserId([3; 16]));
        assert_eq!(direct_id(a, b), direct_id(b, a));
        assert_ne!(direct_id(a, b), direct_id(a, c));
    }
}

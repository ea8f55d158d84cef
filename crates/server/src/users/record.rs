//! The stored forms of the accounts' documents: bytes that begin with a version, in the primitives of
//! [`tidings_core::codec`]. Fields are only ever added at the end under a new version, which also reads
//! the older ones.
//!
//! | kind | key | value |
//! |---|---|---|
//! | `User` | user id | [`UserRecord`] |
//! | `Username` | username in lower case | [`Claim`] |
//! | `Device` | user id, device id | [`DeviceRecord`] |
//! | `Token` | BLAKE3 of the token | [`Caller`] |
//! | `Block` | id of who blocks, id of the blocked | when |
//! | `Private` | user id, key | the value |

use tidings_core::codec::{DecodeError, Reader, Writer};
use tidings_core::{DeviceId, Time, UserId};
use tidings_protocol::account::{Audience, Privacy};

use crate::session::Caller;

const VERSION: u8 = 1;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserRecord {
    pub(super) account: Account,
    /// The password's hash with its parameters and salt (the PHC string format).
    pub(super) password: String,
}

/// All of a user but the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// As it was written at sign-up.
    pub(super) username: String,
    pub(super) display_name: String,
    pub(super) avatar: String,
    pub(super) created: Time,
    /// The last time that a device was seen which is logged out now.
    pub(super) last_seen: Time,
    pub(super) privacy: Privacy,
    pub(super) suspended: bool,
}

/// A claim on a username.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) user: UserId,
    pub(super) at: Time,
    /// The account came to be: it stands for ever.
    pub(super) confirmed: bool,
}

/// A device. That it is there is what makes its token valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceRecord {
    pub(super) name: String,
    pub(super) created: Time,
    pub(super) last_seen: Time,
    /// BLAKE3 of its session token.
    pub(super) token: [u8; 32],
}

pub(super) fn encode_user(record: &UserRecord) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION, 256);
    let account = &record.account;
    writer.text(&account.username);
    writer.text(&account.display_name);
    writer.text(&account.avatar);
    writer.number(account.created.0);
    writer.number(account.last_seen.0);
    writer.byte(match account.privacy.last_seen {
        Audience::Everyone => 0,
        Audience::Contacts => 1,
        Audience::Nobody => 2,
    });
    writer.flag(account.privacy.read_receipts);
    writer.flag(account.suspended);
    writer.text(&record.password);
    writer.finish()
}

pub(super) fn decode_user(bytes: &[u8]) -> Result<UserRecord, DecodeError> {
    let mut reader = Reader::versioned(VERSION, bytes)?;
    let record = UserRecord {
        account: Account {
            username: reader.text()?,
            display_name: reader.text()?,
            avatar: reader.text()?,
            created: Time(reader.number()?),
            last_seen: Time(reader.number()?),
            privacy: Privacy {
                last_seen: match reader.byte()? {
                    0 => Audience::Everyone,
                    1 => Audience::Contacts,
                    2 => Audience::Nobody,
                    _ => return Err(DecodeError::Malformed),
                },
                read_receipts: reader.flag()?,
            },
            suspended: reader.flag()?,
        },
        password: reader.text()?,
    };
    reader.finish()?;
    Ok(record)
}

pub(super) fn encode_claim(claim: &Claim) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION, 32);
    writer.id(&claim.user.0);
    writer.number(claim.at.0);
    writer.flag(claim.confirmed);
    writer.finish()
}

pub(super) fn decode_claim(bytes: &[u8]) -> Result<Claim, DecodeError> {
    let mut reader = Reader::versioned(VERSION, bytes)?;
    let claim = Claim {
        user: UserId(reader.id()?),
        at: Time(reader.number()?),
        confirmed: reader.flag()?,
    };
    reader.finish()?;
    Ok(claim)
}

pub(super) fn device_key(caller: Caller) -> Vec<u8> {
    [caller.user.0, caller.device.0].concat()
}

/// The device of a key.
pub(super) fn device_of_key(key: &[u8]) -> Result<DeviceId, DecodeError> {
    second_id(key).map(DeviceId)
}

pub(super) fn encode_device(device: &DeviceRecord) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION, 96);
    writer.text(&device.name);
    writer.number(device.created.0);
    writer.number(device.last_seen.0);
    writer.blob(&device.token);
    writer.finish()
}

pub(super) fn decode_device(bytes: &[u8]) -> Result<DeviceRecord, DecodeError> {
    let mut reader = Reader::versioned(VERSION, bytes)?;
    let device = DeviceRecord {
        name: reader.text()?,
        created: Time(reader.number()?),
        last_seen: Time(reader.number()?),
        token: reader
            .blob()?
            .try_into()
            .map_err(|_| DecodeError::Malformed)?,
    };
    reader.finish()?;
    Ok(device)
}

pub(super) fn encode_caller(caller: Caller) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION, 33);
    writer.id(&caller.user.0);
    writer.id(&caller.device.0);
    writer.finish()
}

pub(super) fn decode_caller(bytes: &[u8]) -> Result<Caller, DecodeError> {
    let mut reader = Reader::versioned(VERSION, bytes)?;
    let caller = Caller {
        user: UserId(reader.id()?),
        device: DeviceId(reader.id()?),
    };
    reader.finish()?;
    Ok(caller)
}

pub(super) fn block_key(user: UserId, blocked: UserId) -> Vec<u8> {
    [user.0, blocked.0].concat()
}

/// The blocked user of a key.
pub(super) fn blocked_of_key(key: &[u8]) -> Result<UserId, DecodeError> {
    second_id(key).map(UserId)
}

pub(super) fn encode_block(at: Time) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION, 10);
    writer.number(at.0);
    writer.finish()
}

pub(super) fn private_key(user: UserId, key: &str) -> Vec<u8> {
    [&user.0, key.as_bytes()].concat()
}

pub(super) fn encode_private(value: &str) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION, value.len() + 4);
    writer.text(value);
    writer.finish()
}

/// Key and value of an item of a private map.
pub(super) fn decode_private(key: &[u8], bytes: &[u8]) -> Result<(String, String), DecodeError> {
    let key = key.get(16..).ok_or(DecodeError::Malformed)?;
    let key = std::str::from_utf8(key).map_err(|_| DecodeError::Malformed)?;
    let mut reader = Reader::versioned(VERSION, bytes)?;
    let value = reader.text()?;
    reader.finish()?;
    Ok((key.to_owned(), value))
}

fn second_id(key: &[u8]) -> Result<[u8; 16], DecodeError> {
    key.get(16..)
        .and_then(|id| id.try_into().ok())
        .ok_or(DecodeError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_forms_round_trip() {
        let record = UserRecord {
            account: Account {
                username: "Ada".into(),
                display_name: "Ada L. 🦀".into(),
                avatar: "blob:1".into(),
                created: Time(1_700_000_000_000),
                last_seen: Time(5),
                privacy: Privacy {
                    last_seen: Audience::Contacts,
                    read_receipts: false,
                },
                suspended: true,
            },
            password: "$argon2id$…".into(),
        };
        let bytes = encode_user(&record);
        assert_eq!(decode_user(&bytes), Ok(record));
        for length in 0..bytes.len() {
            assert!(decode_user(&bytes[..length]).is_err());
        }

        let caller = Caller {
            user: UserId([1; 16]),
            device: DeviceId([2; 16]),
        };
        assert_eq!(decode_caller(&encode_caller(caller)), Ok(caller));
        assert_eq!(device_of_key(&device_key(caller)), Ok(caller.device));
        let claim = Claim {
            user: caller.user,
            at: Time(7),
            confirmed: true,
        };
        assert_eq!(decode_claim(&encode_claim(&claim)), Ok(claim));
        let device = DeviceRecord {
            name: "phone".into(),
            created: Time(1),
            last_seen: Time(2),
            token: [9; 32],
        };
        assert_eq!(decode_device(&encode_device(&device)), Ok(device));
        let key = private_key(caller.user, "draft:c_1");
        assert_eq!(
            decode_private(&key, &encode_private("hi")),
            Ok(("draft:c_1".into(), "hi".into()))
        );
        assert_eq!(
            blocked_of_key(&block_key(caller.user, UserId([3; 16]))),
            Ok(UserId([3; 16]))
        );
        assert!(device_of_key(b"short").is_err());
    }
}

//! Accounts and devices, over HTTP.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidings_core::{DeviceId, Time, UserId};

use crate::presence::Profile;

/// `POST /v1/accounts`: signs up and logs in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SignUp {
    /// 3 to 32 letters, digits, `_`, `-` and `.`; unique regardless of case.
    pub username: String,
    /// At least 8 characters.
    pub password: String,
    /// The name to show.
    #[serde(default)]
    pub display_name: String,
    /// What to call this device in the list of devices.
    #[serde(default)]
    pub device_name: String,
}

/// `POST /v1/login`: logs in on a new device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogIn {
    /// The username.
    pub username: String,
    /// The password.
    pub password: String,
    /// What to call this device.
    #[serde(default)]
    pub device_name: String,
    /// A browser: the token comes as an HttpOnly cookie, not in the answer.
    #[serde(default)]
    pub cookie: bool,
}

/// Answers sign-up and login.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoggedIn {
    /// Who you are.
    pub profile: Profile,
    /// This device.
    pub device: DeviceId,
    /// The session token: keep it secret. Absent if it came as a cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Where to connect, best first.
    pub gateways: Vec<String>,
}

/// `GET /v1/me`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Me {
    /// What everybody may know.
    pub profile: Profile,
    /// Who may see what.
    pub privacy: Privacy,
}

/// `PATCH /v1/me`: absent fields stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileChange {
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// A reference to a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// Who may see what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
}

/// Who may see what of me. Reciprocal: who hides something does not see it of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Privacy {
    /// Online and last seen.
    pub last_seen: Audience,
    /// That I have read a message.
    pub read_receipts: bool,
}

/// Who may see something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Everyone.
    Everyone,
    /// Those I share a conversation with.
    Contacts,
    /// Nobody.
    Nobody,
}

/// `POST /v1/me/password`. All other devices are logged out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PasswordChange {
    /// The password now.
    pub old_password: String,
    /// The password from now on.
    pub new_password: String,
}

/// `GET /v1/devices`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Devices {
    /// My devices, oldest first.
    pub devices: Vec<Device>,
}

/// One of my devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// Its id.
    pub device: DeviceId,
    /// What it is called.
    pub name: String,
    /// When it logged in.
    pub created: Time,
    /// When it was last connected.
    pub last_seen: Time,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// `GET /v1/blocks`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Blocks {
    /// Whom I have blocked.
    pub users: Vec<UserId>,
}

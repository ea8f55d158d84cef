//! Opening, keeping and closing a connection; the private map.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidings_core::{DeviceId, Time, UserId};

use crate::mark::MarkUpdate;
use crate::problem::Code;

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hello {
    /// The request's id.
    pub id: u64,
    /// The session token; absent where a cookie or an `Authorization` header carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Name and version of the client, for the list of devices.
    #[serde(default)]
    pub client: String,
    /// The highest version of entries' rules that the client knows.
    #[serde(default)]
    pub rules: u8,
    /// The marks that this device raised in its last minute: a crash of the server may have forgotten them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<MarkUpdate>,
    /// A wish for the time between heartbeats in milliseconds (a phone that sleeps); the server decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    /// Short forms are understood and wished for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub short: bool,
}

/// Answers `hello`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Welcome {
    /// The request's id.
    pub id: u64,
    /// Who you are.
    pub user: UserId,
    /// With which device.
    pub device: DeviceId,
    /// The server's time.
    pub at: Time,
    /// Send a `ping` this often, in milliseconds.
    pub heartbeat_ms: u64,
    /// The digest of your inbox: if yours differs, ask for `inbox`.
    pub digest: u64,
    /// The version of entries' rules that the server writes.
    pub rules: u8,
    /// The version of the server.
    pub server: String,
    /// Short forms are agreed on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub short: bool,
}

/// The heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ping {
    /// The request's id.
    pub id: u64,
}

/// Answers `ping`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pong {
    /// The request's id.
    pub id: u64,
    /// The digest of your inbox after everything that was sent to you before this frame.
    pub digest: u64,
}

/// Answers what has nothing more to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// The request's id.
    pub id: u64,
}

/// The last frame before the server closes the connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bye {
    /// Why.
    pub reason: Code,
    /// Come back after so many milliseconds; absent: do not come back by yourself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconnect_after_ms: Option<u64>,
}

/// Puts a value into my private map (drafts, mutes, stars); the last one counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PutPrivate {
    /// The request's id.
    pub id: u64,
    /// The key.
    pub key: String,
    /// The value; absent removes the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Asks for my private map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrivateRequest {
    /// The request's id.
    pub id: u64,
    /// From the first key above this; absent for the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A page of my private map, or what changed in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Private {
    /// The request's id; absent in an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The values, in the order of their keys.
    pub items: Vec<PrivateItem>,
    /// Whether there is more: ask again with `after` = the last key.
    #[serde(default)]
    pub more: bool,
}

/// One value of my private map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrivateItem {
    /// The key.
    pub key: String,
    /// The value; absent: removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

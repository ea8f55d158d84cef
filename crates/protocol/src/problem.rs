//! What can go wrong, and what a client does about it: RFC 9457 problem documents over HTTP, the same
//! fields in an `error` frame.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An `error` frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorFrame {
    /// The request's id; absent for a notice or a frame that could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// What went wrong.
    pub problem: Problem,
}

/// A problem document (RFC 9457, section 3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Which problem: `tidings:` and the code. Stable.
    #[serde(rename = "type")]
    pub code: Code,
    /// The HTTP status.
    pub status: u16,
    /// The problem in a few words, always the same for one code.
    pub title: Cow<'static, str>,
    /// What to do about it.
    pub retry: Retry,
    /// What is special about this case, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Not before so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The limit that was passed, named as in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Cow<'static, str>>,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// For `epoch_moved`: the epoch now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// What a client does about a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Nothing: the same request fails again.
    Never,
    /// The same request again, a little later.
    Later,
    /// Catch up with the conversation, then again.
    CatchUp,
    /// On a new connection.
    Reconnect,
    /// Log in again.
    LogIn,
}

impl Problem {
    /// The plain problem of a code.
    #[must_use]
    pub fn new(code: Code) -> Problem {
        let facts = code.facts();
        Problem {
            code,
            status: facts.status,
            title: Cow::Borrowed(facts.title),
            retry: facts.retry,
            detail: None,
            retry_after_ms: None,
            limit: None,
            max: None,
            epoch: None,
        }
    }

    /// With what is special about this case.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Problem {
        self.detail = Some(detail.into());
        self
    }

    /// A limit was passed.
    #[must_use]
    pub fn too_much(limit: &'static str, max: u64) -> Problem {
        Problem {
            limit: Some(Cow::Borrowed(limit)),
            max: Some(max),
            ..Problem::new(Code::TooMuch)
        }
    }

    /// Too many requests; try again after so many milliseconds.
    #[must_use]
    pub fn rate_limited(limit: &'static str, retry_after_ms: u64) -> Problem {
        Problem {
            limit: Some(Cow::Borrowed(limit)),
            retry_after_ms: Some(retry_after_ms),
            ..Problem::new(Code::RateLimited)
        }
    }
}

struct Facts {
    name: &'static str,
    status: u16,
    retry: Retry,
    title: &'static str,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal, $retry:ident, $title:literal;)*) => {
        /// Which problem. A client that does not know one goes by its status and `retry`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* #[doc = $title] $variant,)*
            /// One that this program does not know.
            Unknown,
        }

        impl Code {
            /// All that there are.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            fn facts(self) -> Facts {
                match self {
                    $(Code::$variant => Facts {
                        name: $name, status: $status, retry: Retry::$retry, title: $title
                    },)*
                    Code::Unknown => Facts {
                        name: "unknown", status: 500, retry: Retry::Later, title: "An unknown problem."
                    },
                }
            }
        }
    };
}

codes! {
    MalformedFrame = "malformed_frame", 400, Never, "The frame or body could not be read.";
    UnknownFrame = "unknown_frame", 400, Never, "This server does not know this kind of frame.";
    FrameTooLarge = "frame_too_large", 413, Never, "The frame or body is larger than the server takes.";
    HelloExpected = "hello_expected", 400, Never, "The first frame must be `hello`, and only the first.";
    Unauthorized = "unauthorized", 401, LogIn, "The session token is missing, wrong or was revoked.";
    WrongCredentials = "wrong_credentials", 401, Never, "Username or password is wrong.";
    OriginRefused = "origin_refused", 403, Never, "A cookie is taken from this site's own pages only.";
    UsernameTaken = "username_taken", 409, Never, "This username is taken.";
    SignUpClosed = "sign_up_closed", 403, Never, "This server takes no new accounts.";
    NotFound = "not_found", 404, Never, "There is no such thing, or it is not for you.";
    NotAllowed = "not_allowed", 403, Never, "Your role does not allow it.";
    Blocked = "blocked", 403, Never, "One of the two blocked the other.";
    Suspended = "suspended", 403, Never, "The account is suspended.";
    Exists = "exists", 409, Never, "It exists already.";
    NoChange = "no_change", 409, Never, "It is so already.";
    Invalid = "invalid", 422, Never, "A field has a value that makes no sense.";
    TooMuch = "too_much", 422, Never, "A limit is passed.";
    RateLimited = "rate_limited", 429, Later, "Too many requests.";
    Busy = "busy", 503, Later, "A queue is full.";
    Behind = "behind", 409, Later, "An earlier send of this device in this conversation was refused for now: send that first.";
    Unsettled = "unsettled", 409, CatchUp, "Whether an earlier try succeeded cannot be told: catch up, look for the client id, then try with a newer `after`.";
    Reset = "reset", 409, CatchUp, "The log is not the one that you saw: forget it and begin with a snapshot.";
    UpdateNeeded = "update_needed", 426, Never, "A newer version is needed.";
    EpochMoved = "epoch_moved", 409, CatchUp, "The encryption epoch is another one now.";
    MustBeEncrypted = "must_be_encrypted", 422, Never, "This conversation takes encrypted content only.";
    TargetNotFound = "target_not_found", 404, Never, "There is no such entry, or it is not for you.";
    TargetNotMessage = "target_not_message", 422, Never, "Only messages can be answered, edited, deleted and reacted to.";
    TargetErased = "target_erased", 410, Never, "The message was deleted or has vanished.";
    LinkInvalid = "link_invalid", 404, Never, "The invite link is not valid.";
    NoSuchMember = "no_such_member", 404, Never, "The user is not a member.";
    LastOwner = "last_owner", 409, Never, "The only owner must make another one first.";
    NotInThisKind = "not_in_this_kind", 422, Never, "This kind of conversation does not have that.";
    AboveHead = "above_head", 422, Never, "A mark above the log's head.";
    SlowConsumer = "slow_consumer", 503, Reconnect, "Too much was waiting for this connection.";
    HeartbeatMissed = "heartbeat_missed", 408, Reconnect, "No heartbeat came in time.";
    Replaced = "replaced", 409, Never, "Too many connections of this device: the oldest was closed.";
    Revoked = "revoked", 401, LogIn, "This device was logged out.";
    Draining = "draining", 503, Reconnect, "The server is shutting down.";
    SessionGone = "session_gone", 410, Reconnect, "This polling session has ended.";
    MethodNotAllowed = "method_not_allowed", 405, Never, "This address does not take this method.";
    UnknownHandle = "unknown_handle", 404, CatchUp, "No conversation of yours, or more than one, has this handle, or short forms were not agreed on: use the long form.";
    Internal = "internal", 500, Later, "Something went wrong in the server.";
}

const TYPE_PREFIX: &str = "tidings:";

impl Code {
    /// The code's name, as in `tidings:not_found`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().name
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{TYPE_PREFIX}{}", self.name()))
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let name = text.strip_prefix(TYPE_PREFIX);
        Ok(Code::ALL
            .iter()
            .copied()
            .find(|code| Some(code.name()) == name)
            .unwrap_or(Code::Unknown))
    }
}

impl JsonSchema for Code {
    fn schema_name() -> Cow<'static, str> {
        "Code".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<String> = Code::ALL
            .iter()
            .map(|code| format!("{TYPE_PREFIX}{}", code.name()))
            .collect();
        schemars::json_schema!({ "type": "string", "format": "uri", "examples": names })
    }
}

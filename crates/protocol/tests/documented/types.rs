//! The wire types by name: their fields in the order of declaration, their schemas, and a way to check
//! an example of each.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use schemars::JsonSchema;
use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::{Serialize, forward_to_deserialize_any};
use serde_json::Value;
use tidings_protocol::{
    ClientFrame, Encoding, ServerFrame, account, entry, mark, presence, problem, send, session,
    short, sync,
};

/// A struct with fields, or an enum with variants, in the order of declaration: the numbers in CBOR.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    Fields(Vec<&'static str>),
    Variants(Vec<&'static str>),
}

impl Shape {
    pub(crate) fn names(&self) -> &[&'static str] {
        match self {
            Shape::Fields(names) | Shape::Variants(names) => names,
        }
    }
}

pub(crate) struct WireType {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    /// Its JSON schema, with those of the types it is made of in `$defs`.
    pub(crate) schema: Value,
    check: fn(&str) -> Result<Vec<u8>, String>,
}

impl WireType {
    fn of<T: JsonSchema + Serialize + DeserializeOwned + PartialEq + Debug>() -> WireType {
        WireType {
            name: T::schema_name().into_owned(),
            shape: shape_of::<T>(),
            schema: schemars::schema_for!(T).into(),
            check: check::<T>,
        }
    }

    /// Whether the text is a value of this type and comes back the same from JSON and from CBOR. Answers
    /// the CBOR.
    pub(crate) fn check(&self, text: &str) -> Result<Vec<u8>, String> {
        (self.check)(text)
    }
}

/// The two lists of frames.
pub(crate) fn client_frame() -> WireType {
    WireType::of::<ClientFrame>()
}

pub(crate) fn server_frame() -> WireType {
    WireType::of::<ServerFrame>()
}

/// Every wire type that has numbers, by name. [`super::generated`] fails if one is missing.
pub(crate) fn all() -> BTreeMap<String, WireType> {
    macro_rules! of {
        ($($type:ty,)*) => { vec![$(WireType::of::<$type>()),*] };
    }
    let types = of![
        ClientFrame,
        ServerFrame,
        session::Hello,
        session::Welcome,
        session::Ping,
        session::Pong,
        session::Done,
        session::Bye,
        session::PutPrivate,
        session::PrivateRequest,
        session::Private,
        session::PrivateItem,
        problem::ErrorFrame,
        problem::Problem,
        problem::Retry,
        send::Position,
        send::Send,
        send::Action,
        send::NoDetail,
        send::MessageAction,
        send::EditAction,
        send::TargetAction,
        send::ReactAction,
        send::CreateAction,
        send::InviteAction,
        send::JoinAction,
        send::MemberAction,
        send::RoleAction,
        send::Sent,
        entry::Entry,
        entry::Content,
        entry::Attachment,
        entry::OpaqueContent,
        entry::Reaction,
        entry::Create,
        entry::CreateMember,
        entry::Join,
        entry::ConversationKind,
        entry::Role,
        entry::Policy,
        entry::Retention,
        entry::Encryption,
        entry::Settings,
        entry::SettingsChange,
        sync::InboxRequest,
        sync::InboxPage,
        sync::ConversationRequest,
        sync::ConversationFrame,
        sync::Conversation,
        sync::ReadMark,
        sync::Member,
        sync::MembersRequest,
        sync::MembersPage,
        sync::HistoryRequest,
        sync::HistoryPage,
        sync::Alteration,
        sync::ReactionSum,
        sync::Entries,
        sync::Gone,
        mark::RaiseMarks,
        mark::MarkUpdate,
        mark::MemberMarks,
        mark::Marks,
        mark::MarkStep,
        mark::Ticks,
        mark::ReceiptsRequest,
        mark::Receipts,
        mark::Receipt,
        short::Say,
        short::Said,
        short::Seen,
        short::Messages,
        short::Message,
        short::Steps,
        short::ShortStep,
        presence::Watch,
        presence::Presence,
        presence::Typing,
        presence::TypingEvent,
        presence::UsersRequest,
        presence::Users,
        presence::Profile,
        account::SignUp,
        account::LogIn,
        account::LoggedIn,
        account::Me,
        account::ProfileChange,
        account::Privacy,
        account::Audience,
        account::PasswordChange,
        account::Devices,
        account::Device,
        account::Blocks,
    ];
    let count = types.len();
    let by_name: BTreeMap<_, _> = types
        .into_iter()
        .map(|wire| (wire.name.clone(), wire))
        .collect();
    assert_eq!(by_name.len(), count, "two types of one name");
    by_name
}

/// Values that are the same everywhere; `docs/protocol/README.md` describes them.
pub(crate) const SCALARS: [&str; 11] = [
    "UserId",
    "DeviceId",
    "ConversationId",
    "ClientId",
    "Generation",
    "Time",
    "Blob",
    "Code",
    "Kind",
    "Handle",
    "ShortTime",
];

/// The names of all types that frames and bodies are made of.
pub(crate) fn names_in_schemas(types: &BTreeMap<String, WireType>) -> BTreeSet<String> {
    let defs = types
        .values()
        .filter_map(|wire| wire.schema.get("$defs")?.as_object());
    defs.flat_map(|defs| defs.keys().cloned()).collect()
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    text: &str,
) -> Result<Vec<u8>, String> {
    let written: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let value: T = Encoding::Json
        .decode(text.as_bytes())
        .map_err(|error| error.to_string())?;
    let json = serde_json::to_value(&value).map_err(|error| error.to_string())?;
    if json != written {
        return Err(format!("comes back as {json:#}"));
    }
    let cbor = Encoding::Cbor
        .encode(&value)
        .map_err(|error| error.to_string())?;
    let back: T = Encoding::Cbor
        .decode(&cbor)
        .map_err(|error| format!("CBOR: {error}"))?;
    if back != value {
        return Err(format!("comes back from CBOR as {back:?}"));
    }
    Ok(cbor)
}

fn shape_of<T: DeserializeOwned>() -> Shape {
    let seen = RefCell::new(None);
    // It always fails: what the derive asked for is what we want.
    let _ = T::deserialize(Probe(&seen));
    seen.into_inner()
        .unwrap_or_else(|| panic!("{} has no fields", std::any::type_name::<T>()))
}

/// A deserialiser that only takes note of the shape that is asked for.
struct Probe<'a>(&'a RefCell<Option<Shape>>);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("a probe"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0.borrow_mut() = Some(Shape::Fields(fields.to_vec()));
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0.borrow_mut() = Some(Shape::Variants(variants.to_vec()));
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

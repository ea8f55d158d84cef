//! The rules of a conversation: [`decide`] whether a command becomes the next entry, [`apply`] an
//! entry to the state.

mod apply;
mod command;
mod decide;
mod state;

pub use apply::{ApplyError, apply};
pub use command::{Action, Command, Earlier, Facts, Named, Reject, Search, Target};
pub use decide::{Decision, decide, search_for_earlier};
pub use state::{
    ConversationKind, Encryption, Limits, Member, MemberMap, Policy, RECENT_MAX, Recent, Retention,
    Role, SPANS_MAX, Settings, SettingsChange, Span, State,
};

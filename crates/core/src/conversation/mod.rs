//! The rules of a conversation: [`decide`] whether a command becomes the next entry, [`apply`] an
//! entry to the state.

mod apply;
mod command;
mod decide;
mod recent;
mod state;

pub use apply::{ApplyError, apply};
pub use command::{Action, Command, Earlier, Facts, Named, Reject, Search, Target};
pub use decide::{Decision, decide, search_for_earlier};
pub use recent::{RECENT_MAX, Recent, RecentIds};
pub use state::{
    ConversationKind, Encryption, Limits, Member, MemberMap, Policy, Retention, Role, SPANS_MAX,
    Settings, SettingsChange, Span, State,
};

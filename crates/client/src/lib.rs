//! The client without I/O: the one implementation of the client's side, natively and in browsers.
//!
//! [`Client`] is a state machine. A driver feeds it what happens and does what it asks for:
//!
//! ```text
//! loop {
//!     while let Some(output) = client.poll_output() { do it }      // Send, Store, Load, Connect, Changed …
//!     wait for: a frame, the end of a write or read, a wish of the user, client.poll_timeout()
//!     client.handle_…(now, what happened)
//! }
//! ```
//!
//! It has no clock: `now` is the device's own, may be wrong and may jump. It has no randomness but the seed in
//! [`Config`], and no store but the rows that it asks to be written ([`StoreOp`]) and read ([`Read`]).

mod actions;
mod answers;
mod client;
mod clock;
mod config;
mod conversation;
mod digest;
mod entries;
mod erase;
mod history;
mod items;
mod link;
mod list;
mod marks;
mod outbox;
mod output;
mod people;
mod ranges;
mod requests;
mod rows;
mod sending;
mod settling;
mod short;
mod storage;
mod store;
mod sync;
mod timeline;
mod view;

pub use client::{CancelError, Client, Recipient};
pub use config::{Config, Limits};
pub use output::{Change, ListChange, Output, Status};
pub use store::{LoadToken, Read, Row, Snapshot, StoreOp, StoreToken, Table};
pub use view::{
    ConversationDetails, ConversationView, Item, ItemBody, ItemKey, ItemState, MemberView,
    PresenceView, Preview, ReactionView, ReplyView, TimelineView,
};

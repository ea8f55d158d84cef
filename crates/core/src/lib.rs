//! The rules of a conversation as a pure state machine.
//!
//! A conversation is a **log** of entries; what people see of it is derived from the log and from
//! **watermarks**, numbers that only grow. [`decide`] says whether a command may become the next
//! entry, [`apply`] says what the entry changes. Neither does I/O, reads a clock or is random, so
//! the server, the clients, the tests and the simulator all run the same rules.
//!
//! Read in this order: [`log`], [`entry`], [`mark`], [`conversation`], [`digest`].

pub mod codec;
pub mod conversation;
pub mod digest;
pub mod entry;
pub mod id;
pub mod log;
pub mod mark;
pub mod time;
mod wire;

pub use conversation::{apply, decide};
pub use entry::{Body, Entry, Envelope, Kind};
pub use id::{ClientId, ConversationId, DeviceId, UserId};
pub use log::{Generation, LogId, Position, Seq};
pub use mark::{Mark, MarkKind, MarkValue};
pub use time::Time;

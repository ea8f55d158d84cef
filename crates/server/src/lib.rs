//! The program `tidings`: gateway, users, chat, presence, configuration.

pub mod clock;
pub mod hub;
pub mod session;

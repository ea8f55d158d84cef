//! Accounts on this machine: which folder, which token, and how to get one.

pub(crate) mod files;
mod log_in;
mod password;

pub(crate) use files::{Account, AccountFiles};
pub use log_in::{AccountError, ServerError};
pub(crate) use log_in::{log_out, open};

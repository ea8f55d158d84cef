//! The terminal clients: `tidings chat`, `tidings send`, `tidings tail`.
//!
//! `chat` is the client core ([`tidings_client`]) with a driver, a local history in SQLite and a screen.
//! `send` and `tail` are for scripts: they keep no history, need no lock, and run beside a `chat` of the same
//! account.

mod account;
mod address;
mod args;
mod chat;
mod driver;
mod names;
mod plain;
mod private;
mod probe;
mod send;
mod store;
mod tail;

pub use account::{AccountError, ServerError};
pub use address::{Address, InvalidAddress};
pub use args::{ChatArgs, LogoutArgs, SendArgs, ServerArgs, TailArgs, Transport, TransportArgs};
pub use chat::{ChatError, chat};
pub use driver::stream::TlsError;
pub use probe::{Answer, Probe};
pub use send::{SendError, send};
pub use store::StoreError;
pub use tail::{TailError, tail};

/// `tidings logout`.
///
/// # Errors
/// When the server cannot be asked, or the file not be removed.
pub async fn logout(args: LogoutArgs) -> Result<(), AccountError> {
    println!("{}", account::log_out(&args.server).await?);
    Ok(())
}

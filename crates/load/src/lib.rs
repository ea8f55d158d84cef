//! The load generator `tidings-load`: plays many clients at once against a server, measures what they
//! feel and what the server spends on it, and checks that nothing was lost, doubled or reordered.
//!
//! In come arguments ([`args`]); [`run`] finds or starts the server ([`server`]), signs accounts up
//! ([`accounts`]), and lets a scenario ([`scenario`]) play on one event loop per thread ([`engine`]), a
//! state machine that is handed frames and asked what it waits for. Out goes a [`report`].
//!
//! It shares the machine with the server that it measures, so it is built to cost little: no async
//! runtime, one read buffer per thread, all frames of a wake-up written at once.

pub mod accounts;
pub mod args;
pub mod arrivals;
pub mod crew;
pub mod engine;
pub mod http;
pub mod latency;
pub mod letter;
pub mod outbox;
pub mod process;
pub mod report;
pub mod scenario;
pub mod server;
pub mod session;
pub mod websocket;

use std::io;

use args::{Args, Command};
use report::Report;

/// Why a run could not be done. (What a run finds wrong stands in its report.)
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The server answered something that ends the run.
    #[error("{0}")]
    Server(String),
    /// The arguments make no sense together.
    #[error("{0}")]
    Arguments(String),
}

impl Error {
    /// For `map_err`: names what was tried.
    pub fn doing(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let doing = doing.into();
        move |source| Error::Io { doing, source }
    }
}

/// Does what the arguments say.
///
/// # Errors
/// When the run could not be done.
pub fn run(args: &Args) -> Result<Report, Error> {
    args.common.check()?;
    process::raise_open_files_limit();
    let mut server = server::Server::find(&args.common)?;
    match &args.command {
        Command::Chat(chat) => scenario::chat::run(&args.common, chat, &server),
        Command::Idle(idle) => scenario::idle::run(&args.common, idle, &mut server),
        Command::Fanout(fanout) => scenario::fanout::run(&args.common, fanout, &server),
        Command::Offline(offline) => scenario::offline::run(&args.common, offline, &server),
    }
}

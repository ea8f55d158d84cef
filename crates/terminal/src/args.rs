//! What may stand on the command line.

use std::path::PathBuf;

use clap::Args;
use tidings_protocol::Encoding;

use crate::address::Address;
pub use crate::driver::connection::Transport;

/// Which server, who, and how to connect.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// The server's address.
    #[arg(
        long,
        value_name = "URL",
        env = "TIDINGS_SERVER",
        default_value = "http://127.0.0.1:8080"
    )]
    pub server: Address,
    /// Your username. May be left out if only one account is logged in on this machine.
    #[arg(long, short, value_name = "NAME", env = "TIDINGS_USER")]
    pub user: Option<String>,
    /// Read the password from this file (or set TIDINGS_PASSWORD); only needed to log in.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Sign up if the name is free.
    #[arg(long)]
    pub sign_up: bool,
    /// Be another device of the same account, with a history of its own.
    #[arg(long, value_name = "NAME", env = "TIDINGS_PROFILE")]
    pub profile: Option<String>,
    /// Where to keep tokens and histories [default: the user's data folder].
    #[arg(long, value_name = "FOLDER", env = "TIDINGS_HOME")]
    pub data_dir: Option<PathBuf>,
}

/// How frames travel.
#[derive(Args, Clone, Debug)]
pub struct TransportArgs {
    /// Connect by WebSocket, by long polling, or by what gets through.
    #[arg(long, value_enum, default_value_t)]
    pub transport: Transport,
    /// Write frames as JSON (easy to read) rather than CBOR (small).
    #[arg(long)]
    pub json_frames: bool,
}

impl TransportArgs {
    pub(crate) fn encoding(&self) -> Encoding {
        if self.json_frames {
            Encoding::Json
        } else {
            Encoding::Cbor
        }
    }
}

/// `tidings chat`: talk in the terminal.
#[derive(Args, Clone, Debug)]
pub struct ChatArgs {
    /// Which server, and who.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How frames travel.
    #[command(flatten)]
    pub transport: TransportArgs,
    /// Take the mouse for scrolling and choosing conversations (the terminal's own selection then needs Shift).
    #[arg(long)]
    pub mouse: bool,
}

/// `tidings send`: send one message, and wait until the server has it.
#[derive(Args, Clone, Debug)]
pub struct SendArgs {
    /// Which server, and who.
    #[command(flatten)]
    pub server: ServerArgs,
    /// To whom: a username, a user (u_…), a conversation (c_…), or a group's name after "#".
    #[arg(long, short, value_name = "NAME|CONVERSATION")]
    pub to: String,
    /// The message; "-" reads it from the standard input.
    pub text: String,
    /// The number (seq) of the message that it answers.
    #[arg(long, value_name = "SEQ")]
    pub reply_to: Option<u64>,
    /// Give up after so many seconds. Whether the message was sent is then not known.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
    /// The message's client id: a repetition with the same one makes no second message.
    #[arg(long, value_name = "UUID")]
    pub client_id: Option<String>,
    /// Print where it went as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `tidings tail`: print messages as they come.
#[derive(Args, Clone, Debug)]
pub struct TailArgs {
    /// Which server, and who.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How frames travel.
    #[command(flatten)]
    pub transport: TransportArgs,
    /// Only these: usernames, conversations (c_…), group names after "#".
    #[arg(long = "conversation", short, value_name = "NAME|CONVERSATION")]
    pub conversations: Vec<String>,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Acknowledge what is printed as delivered (two ticks), in the name of this device.
    #[arg(long)]
    pub ack: bool,
    /// Conversations that were never printed: from their beginning rather than from now on.
    #[arg(long)]
    pub from_start: bool,
    /// Stop when everything there is has been printed.
    #[arg(long)]
    pub once: bool,
}

/// `tidings logout`: forget the session token, here and on the server.
#[derive(Args, Clone, Debug)]
pub struct LogoutArgs {
    /// Which server, and who.
    #[command(flatten)]
    pub server: ServerArgs,
}

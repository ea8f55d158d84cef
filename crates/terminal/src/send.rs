//! `tidings send`: one message, for scripts.
//!
//! It keeps nothing on the disk: the message has one client id, and is sent with it again and again until the
//! server says that it is durable, refuses it, or the time is up. So it runs beside a `chat` of the same
//! account.

use std::io::{Read, Write};
use std::time::Duration;

use serde::Serialize;
use tidings_core::{ClientId, ConversationId, Time};
use tidings_protocol::entry::Content;
use tidings_protocol::send::{Action, MessageAction, Send, Sent};
use tidings_protocol::{ClientFrame, Retry, ServerFrame};
use tokio::time::{Instant, sleep};

use crate::account::{self, AccountError, AccountFiles};
use crate::args::SendArgs;
use crate::driver::http::{Http, HttpError};
use crate::driver::now;
use crate::names::{self, Named};

const WAIT_FIRST: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Nothing longer is read from the standard input, in bytes: far above what any server takes.
const INPUT_BYTES_MAX: u64 = 1 << 20;

/// Why a message was not sent, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nobody is logged in.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The server refuses it for good.
    #[error("not sent: {0}")]
    Refused(String),
    /// The time is up.
    #[error(
        "not known to be sent within {timeout_s} s ({last}); the same again with --client-id {client_id} makes no second message"
    )]
    TimedOut {
        /// After how long.
        timeout_s: u64,
        /// What went wrong last.
        last: String,
        /// To try again.
        client_id: ClientId,
    },
    /// The text cannot be read.
    #[error("the message cannot be read: {0}")]
    Input(std::io::Error),
    /// Not a client id.
    #[error("--client-id is {0}")]
    ClientId(tidings_core::id::InvalidId),
    /// The answer cannot be printed. The message is sent.
    #[error("sent, but the answer cannot be printed: {0}")]
    Output(std::io::Error),
    /// The system has no randomness.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

impl SendError {
    /// The program's exit code: 1 refused or not tried, 75 (`EX_TEMPFAIL`) if it may have been sent or may be
    /// tried again.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, SendError::TimedOut { .. }) {
            75
        } else {
            1
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed {
    client_id: ClientId,
    conversation: ConversationId,
    seq: u64,
    at: Time,
}

/// Sends one message and waits until the server has it.
///
/// # Errors
/// When it was refused, or the time is up.
pub async fn send(args: SendArgs) -> Result<(), SendError> {
    let text = if args.text == "-" {
        read_input()?
    } else {
        args.text.clone()
    };
    let client_id = match &args.client_id {
        Some(text) => text.parse().map_err(SendError::ClientId)?,
        None => new_client_id()?,
    };
    let (account, files, network) = account::open(&args.server).await?;
    let mut http = Http::new(network, Some(account.token));
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let mut wait = WAIT_FIRST;
    loop {
        let tried =
            tokio::time::timeout_at(deadline, try_once(&mut http, &args, &text, client_id)).await;
        let last = match tried {
            Ok(Ok(sent)) => return print(&args, sent),
            Ok(Err(error)) => give_up_or_again(error, &files)?,
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() + wait >= deadline {
            return Err(SendError::TimedOut {
                timeout_s: args.timeout,
                last,
                client_id,
            });
        }
        sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

async fn try_once(
    http: &mut Http,
    args: &SendArgs,
    text: &str,
    client_id: ClientId,
) -> Result<Sent, HttpError> {
    let (conversation, to) = match names::find(http, &args.to).await? {
        Named::Conversation(conversation) => (Some(conversation), None),
        Named::User(user) => (None, Some(user)),
    };
    let content = Content {
        text: text.to_owned(),
        ..Content::default()
    };
    let message = MessageAction {
        content,
        reply_to: args.reply_to,
        silent: false,
    };
    let action = Action::Message(message);
    let send = Send {
        id: 1,
        conversation,
        to,
        client_id,
        after: None,
        if_epoch: None,
        action,
        first: false,
    };
    match names::call(http, &ClientFrame::Send(send)).await? {
        ServerFrame::Sent(sent) => Ok(sent),
        _ => Err(HttpError::NotTidings(args.server.server.to_string())),
    }
}

/// What to say if it goes on like this; an error if there is no point in trying again.
fn give_up_or_again(error: HttpError, files: &AccountFiles) -> Result<String, SendError> {
    if let HttpError::Refused(problem) = &error {
        match problem.retry {
            Retry::Never => return Err(SendError::Refused(error.to_string())),
            Retry::LogIn => {
                // The next run asks for the password.
                let _ = files.forget();
                return Err(SendError::Refused(error.to_string()));
            }
            Retry::Later | Retry::CatchUp | Retry::Reconnect => {}
        }
    }
    Ok(error.to_string())
}

fn print(args: &SendArgs, sent: Sent) -> Result<(), SendError> {
    if !args.json {
        return Ok(());
    }
    let printed = Printed {
        client_id: sent.client_id,
        conversation: sent.conversation,
        seq: sent.seq,
        at: sent.at,
    };
    let line = serde_json::to_string(&printed).map_err(|error| SendError::Output(error.into()))?;
    writeln!(std::io::stdout(), "{line}").map_err(SendError::Output)
}

fn read_input() -> Result<String, SendError> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(SendError::Input)?;
    // As `$(…)` does.
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok(text)
}

fn new_client_id() -> Result<ClientId, SendError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(SendError::Random)?;
    Ok(ClientId::new(now(), random))
}

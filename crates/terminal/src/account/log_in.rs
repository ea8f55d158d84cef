//! Logging in, signing up, logging out.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tidings_protocol::account::{LogIn, LoggedIn, SignUp};
use tidings_protocol::{Code, Problem};

use super::files::{self, Account, AccountFiles};
use super::password;
use crate::address::Address;
use crate::args::ServerArgs;
use crate::driver::http::{Http, HttpError};
use crate::driver::stream::{Network, TlsError};

const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Why there is no account to go on with.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Which account?
    #[error("say who you are: --user NAME{}", if .0.is_empty() { String::new() } else { format!(" (on this machine: {})", .0.join(", ")) })]
    NoUser(Vec<String>),
    /// Nobody can be asked for the password.
    #[error(
        "{0} is not logged in here: give the password by TIDINGS_PASSWORD or --password-file, or log in at a terminal"
    )]
    NoPassword(String),
    /// The user broke it off.
    #[error("not logged in")]
    BrokenOff,
    /// The server's answer.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A file cannot be read or written.
    #[error("{path}: {1}", path = .0.display())]
    File(PathBuf, io::Error),
    /// There is no place for data.
    #[error("there is no home folder: say where to keep data with --data-dir")]
    NoFolder,
    /// A name that cannot be part of a file's name.
    #[error("a profile's name is letters, digits, - and _")]
    InvalidProfile,
    /// TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What went wrong between here and the server, in words for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(String);

impl From<HttpError> for AccountError {
    fn from(error: HttpError) -> AccountError {
        AccountError::Server(ServerError(error.to_string()))
    }
}

/// The account that was asked for; logs in or signs up if need be.
pub(crate) async fn open(
    args: &ServerArgs,
) -> Result<(Account, AccountFiles, Arc<Network>), AccountError> {
    let (files, username) = find(args)?;
    let network = Arc::new(Network::new(args.server.clone())?);
    let at = |error| AccountError::File(files.session(), error);
    if let Some(account) = files.read().map_err(at)? {
        return Ok((account, files, network));
    }
    files.make().map_err(at)?;
    let logged_in = hand_in(args, &username, &network).await?;
    let Some(token) = logged_in.token else {
        return Err(HttpError::NotTidings(args.server.to_string()).into());
    };
    let account = Account {
        server: args.server.to_string(),
        username: logged_in.profile.username,
        user: logged_in.profile.user,
        device: logged_in.device,
        token,
    };
    files.write(&account).map_err(at)?;
    Ok((account, files, network))
}

/// Forgets the token, here and on the server.
pub(crate) async fn log_out(args: &ServerArgs) -> Result<String, AccountError> {
    let (files, username) = find(args)?;
    let at = |error| AccountError::File(files.session(), error);
    let Some(account) = files.read().map_err(at)? else {
        return Ok(format!("{username} is not logged in on {}", args.server));
    };
    let mut http = Http::new(
        Arc::new(Network::new(args.server.clone())?),
        Some(account.token),
    );
    let answer = http
        .json::<()>(Method::POST, "/v1/logout", None::<&()>, ANSWER_WITHIN)
        .await;
    match answer {
        // A token that the server does not know is as good as none.
        Ok(())
        | Err(HttpError::Refused(Problem {
            code: Code::Unauthorized | Code::Revoked,
            ..
        })) => {}
        Err(error) => return Err(error.into()),
    }
    files.forget().map_err(at)?;
    Ok(format!(
        "{} is logged out of {}; the history stays in {}",
        account.username,
        args.server,
        files.history().display()
    ))
}

fn find(args: &ServerArgs) -> Result<(AccountFiles, String), AccountError> {
    let data = args
        .data_dir
        .clone()
        .or_else(files::data_folder)
        .ok_or(AccountError::NoFolder)?;
    let username = match &args.user {
        Some(username) => username.trim_start_matches('@').to_owned(),
        None => match AccountFiles::usernames(&data, &args.server).as_slice() {
            [one] => one.clone(),
            names => return Err(AccountError::NoUser(names.to_vec())),
        },
    };
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if args
        .profile
        .as_ref()
        .is_some_and(|profile| profile.is_empty() || !profile.chars().all(is_safe))
    {
        return Err(AccountError::InvalidProfile);
    }
    // The same rule as the server's: nothing else is a username anywhere.
    if username.is_empty() || !username.chars().all(|c| is_safe(c) || c == '.') {
        return Err(HttpError::Refused(
            Problem::new(Code::Invalid).detail("a username is letters, digits, _, - and ."),
        )
        .into());
    }
    Ok((
        AccountFiles::new(&data, &args.server, &username, args.profile.as_deref()),
        username,
    ))
}

async fn hand_in(
    args: &ServerArgs,
    username: &str,
    network: &Arc<Network>,
) -> Result<LoggedIn, AccountError> {
    let mut http = Http::new(network.clone(), None);
    let given = given_password(args)?;
    let asked = given.is_none();
    let server = &args.server;
    let password = match given {
        Some(password) => password,
        None if password::can_ask() => ask(&format!("Password of {username} on {server}"))?,
        None => return Err(AccountError::NoPassword(username.to_owned())),
    };
    if args.sign_up {
        match sign_up(&mut http, username, &password).await {
            Err(HttpError::Refused(problem)) if problem.code == Code::UsernameTaken => {}
            answer => return Ok(answer?),
        }
    }
    let log_in = LogIn {
        username: username.to_owned(),
        password: password.clone(),
        device_name: device_name(),
        cookie: false,
    };
    let answer = http
        .json(Method::POST, "/v1/login", Some(&log_in), ANSWER_WITHIN)
        .await;
    match answer {
        // Whether the name exists the server does not say.
        Err(HttpError::Refused(problem)) if problem.code == Code::WrongCredentials && asked => {
            offer_sign_up(&mut http, username, &password, server).await
        }
        answer => Ok(answer?),
    }
}

async fn offer_sign_up(
    http: &mut Http,
    username: &str,
    password: &str,
    server: &Address,
) -> Result<LoggedIn, AccountError> {
    let question = format!(
        "There is no account with this name and password. Sign up as {username} on {server}?"
    );
    if !password::ask_yes(&question).map_err(|_| AccountError::BrokenOff)? {
        return Err(AccountError::BrokenOff);
    }
    if ask("The password once more")? != password {
        eprintln!("These are two different passwords.");
        return Err(AccountError::BrokenOff);
    }
    Ok(sign_up(http, username, password).await?)
}

async fn sign_up(http: &mut Http, username: &str, password: &str) -> Result<LoggedIn, HttpError> {
    let sign_up = SignUp {
        username: username.to_owned(),
        password: password.to_owned(),
        display_name: String::new(),
        device_name: device_name(),
    };
    http.json(Method::POST, "/v1/accounts", Some(&sign_up), ANSWER_WITHIN)
        .await
}

fn ask(question: &str) -> Result<String, AccountError> {
    password::ask_password(question).map_err(|_| AccountError::BrokenOff)
}

/// The password of scripts. A file's last line break is not part of it.
fn given_password(args: &ServerArgs) -> Result<Option<String>, AccountError> {
    if let Some(path) = &args.password_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| AccountError::File(path.clone(), error))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        return Ok(Some(text.strip_suffix('\r').unwrap_or(text).to_owned()));
    }
    Ok(std::env::var("TIDINGS_PASSWORD")
        .ok()
        .filter(|password| !password.is_empty()))
}

fn device_name() -> String {
    let host = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty());
    match host {
        Some(host) => format!("Terminal on {host}"),
        None => "Terminal".to_owned(),
    }
}

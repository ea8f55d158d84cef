//! Signing up the accounts that a run plays with.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidings_core::UserId;
use tidings_protocol::account::{LoggedIn, SignUp};
use tidings_protocol::{Code, Problem};

use crate::Error;
use crate::engine::refusal;
use crate::http::Http;

/// Connections that sign up at the same time: hashing passwords is the server's bound, not the wire.
const CONNECTIONS_MAX: usize = 16;

const BUSY_PAUSE: Duration = Duration::from_millis(20);
const BUSY_TRIES_MAX: u32 = 500;

/// A user with one device.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user.
    pub user: UserId,
    /// The device's session token.
    pub token: String,
}

/// Signs up so many new accounts.
///
/// # Errors
/// When the server refuses one.
pub fn sign_up(address: SocketAddr, count: usize) -> Result<Vec<Account>, Error> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let run = since.map_or(0, |since| since.as_micros());
    let next = AtomicUsize::new(0);
    let accounts = Mutex::new(vec![None; count]);
    let work = || -> Result<(), Error> {
        let connecting = || Error::doing(format!("connecting to {address}"));
        let mut http = Http::connect(address).map_err(connecting())?;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let account = sign_up_one(&mut http, format!("load-{run:x}-{number}"))?;
            if let Ok(mut accounts) = accounts.lock()
                && let Some(slot) = accounts.get_mut(number)
            {
                *slot = Some(account);
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS_MAX.min(count))
            .map(|_| scope.spawn(work))
            .collect();
        workers.into_iter().try_for_each(|worker| {
            let panicked = |_| Err(Error::Server("signing up stopped short".to_owned()));
            worker.join().unwrap_or_else(panicked)
        })
    })?;
    let accounts = accounts.into_inner().unwrap_or_default();
    accounts
        .into_iter()
        .collect::<Option<Vec<Account>>>()
        .ok_or_else(|| Error::Server("an account is missing".to_owned()))
}

fn sign_up_one(http: &mut Http, username: String) -> Result<Account, Error> {
    let request = SignUp {
        username,
        password: "correct horse battery staple".to_owned(),
        display_name: String::new(),
        device_name: "tidings-load".to_owned(),
    };
    for _ in 0..BUSY_TRIES_MAX {
        let answer = http
            .post("/v1/accounts", &request)
            .map_err(Error::doing("signing up"))?;
        if (200..300).contains(&answer.status) {
            return read_account(&answer.body);
        }
        let problem = serde_json::from_slice::<Problem>(&answer.body)
            .map_err(|_| Error::Server(format!("signing up: status {}", answer.status)))?;
        match problem.code {
            Code::Busy => thread::sleep(BUSY_PAUSE),
            Code::RateLimited => {
                return Err(Error::Server(
                    "the server limits sign-ups: use --spawn, or see docs/load.md for its settings"
                        .to_owned(),
                ));
            }
            _ => return Err(Error::Server(format!("signing up: {}", refusal(&problem)))),
        }
    }
    Err(Error::Server(
        "the server is too busy to sign up".to_owned(),
    ))
}

fn read_account(body: &[u8]) -> Result<Account, Error> {
    let logged_in: LoggedIn = serde_json::from_slice(body)
        .map_err(|error| Error::Server(format!("the answer to signing up: {error}")))?;
    let token = logged_in
        .token
        .ok_or_else(|| Error::Server("signing up gave no token".to_owned()))?;
    Ok(Account {
        user: logged_in.profile.user,
        token,
    })
}

//! Signing up: claim the username, write the account, confirm the claim.
//!
//! The claim is written with expected version 0, so of two at the same moment one is refused. A crash
//! before the account is there leaves a claim that nobody stands behind: after `username_claim_ms_max` it
//! can be taken over. A sign-up that was merely slow finds at the confirmation, which expects the version
//! of its own claim, that it was taken over, and removes its account again.

use std::net::IpAddr;
use std::sync::Arc;

use tidings_core::UserId;
use tidings_protocol::account::{Audience, LoggedIn, Privacy, SignUp};
use tidings_protocol::{Code, Problem};
use tidings_store::{DocumentKind, PutDocument, PutError};

use super::log_in::address_key;
use super::profile::check_name;
use super::record::{self, Account, Claim, UserRecord};
use super::{TRIES, Users, damaged, finish, store_failed};
use crate::clock::random;

impl Users {
    /// Makes an account and logs in on a first device. The answer always has the token: whoever sends it
    /// on may put it into a cookie instead.
    ///
    /// # Errors
    /// `username_taken`, `sign_up_closed`, `invalid`, `too_much`, `rate_limited`, `busy`.
    pub async fn sign_up(
        self: &Arc<Self>,
        sign_up: SignUp,
        address: IpAddr,
    ) -> Result<LoggedIn, Problem> {
        if !self.settings.sign_up_open {
            return Err(Problem::new(Code::SignUpClosed));
        }
        self.check_username(&sign_up.username)?;
        self.check_password(&sign_up.password)?;
        check_name(&sign_up.display_name, self.settings.display_name_chars_max)?;
        check_name(&sign_up.device_name, self.settings.display_name_chars_max)?;
        self.address_sign_ups
            .charge(&address_key(address), self.clock.now())?;
        let folded = fold(&sign_up.username);
        if let Some((_, claim)) = self.claim_on(&folded).await?
            && self.stands(&claim).await?
        {
            return Err(Problem::new(Code::UsernameTaken));
        }
        let password = self.passwords.hash(sign_up.password).await?;
        let now = self.clock.now();
        let record = UserRecord {
            account: Account {
                username: sign_up.username,
                display_name: sign_up.display_name,
                avatar: String::new(),
                created: now,
                last_seen: now,
                privacy: Privacy {
                    last_seen: Audience::Everyone,
                    read_receipts: true,
                },
                suspended: false,
            },
            password,
        };
        let users = self.clone();
        finish(async move {
            let user = UserId::new(now, random());
            users.create(user, &folded, &record).await?;
            let _lock = users.lock(user).await;
            let (caller, token) = users.add_device(user, sign_up.device_name).await?;
            users.metrics.login("signed_up");
            Ok(users.logged_in(caller, token, &record.account))
        })
        .await
    }

    async fn create(&self, user: UserId, folded: &str, record: &UserRecord) -> Result<(), Problem> {
        let claimed = self.claim(folded, user).await?;
        let written = self
            .put(
                DocumentKind::User,
                user.0.to_vec(),
                Some(record::encode_user(record)),
            )
            .await;
        self.accounts.forget(&user);
        written?;
        let confirmation = Claim {
            user,
            at: record.account.created,
            confirmed: true,
        };
        match self.put_claim(folded, claimed, &confirmation).await {
            Ok(_) => Ok(()),
            Err(PutError::Conflict { .. }) => {
                let removed = self.put(DocumentKind::User, user.0.to_vec(), None).await;
                self.accounts.forget(&user);
                removed?;
                Err(Problem::new(Code::UsernameTaken))
            }
            Err(PutError::Store(error)) => Err(store_failed(error)),
        }
    }

    /// Claims a username; answers the claim's version.
    pub(super) async fn claim(&self, folded: &str, user: UserId) -> Result<u64, Problem> {
        let mut expected = 0;
        for _ in 0..TRIES {
            let claim = Claim {
                user,
                at: self.clock.now(),
                confirmed: false,
            };
            match self.put_claim(folded, expected, &claim).await {
                Ok(version) => return Ok(version),
                Err(PutError::Conflict { .. }) => {}
                Err(PutError::Store(error)) => return Err(store_failed(error)),
            }
            expected = match self.claim_on(folded).await? {
                None => 0,
                Some((_, claim)) if self.stands(&claim).await? => {
                    return Err(Problem::new(Code::UsernameTaken));
                }
                Some((version, _)) => version,
            };
        }
        Err(Problem::new(Code::Busy))
    }

    /// Whether somebody stands behind a claim, or may be about to.
    async fn stands(&self, claim: &Claim) -> Result<bool, Problem> {
        let age = self.clock.now().millis_since(claim.at);
        Ok(claim.confirmed
            || age < self.settings.username_claim_ms_max
            || self.user_record(claim.user).await?.is_some())
    }

    pub(super) async fn claim_on(&self, folded: &str) -> Result<Option<(u64, Claim)>, Problem> {
        let key = folded.as_bytes().to_vec();
        let Some(document) = self.document(DocumentKind::Username, key).await? else {
            return Ok(None);
        };
        let claim = record::decode_claim(&document.value).map_err(damaged)?;
        Ok(Some((document.version, claim)))
    }

    async fn put_claim(&self, folded: &str, expected: u64, claim: &Claim) -> Result<u64, PutError> {
        let put = PutDocument {
            kind: DocumentKind::Username,
            key: folded.as_bytes().to_vec(),
            expected: Some(expected),
            value: Some(record::encode_claim(claim)),
        };
        let outcome = self.store.put_document(put).await;
        self.usernames.forget(&folded.to_owned());
        outcome
    }

    fn check_username(&self, username: &str) -> Result<(), Problem> {
        let settings = &self.settings;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        // All of them are ASCII: as many bytes as letters.
        if username.len() > settings.username_chars_max {
            let max = settings.username_chars_max as u64;
            return Err(Problem::too_much("username_chars_max", max));
        }
        if username.len() < settings.username_chars_min
            || !username.bytes().all(allowed)
            || !username.bytes().any(|byte| byte.is_ascii_alphanumeric())
        {
            return Err(Problem::new(Code::Invalid).detail(format!(
                "A username has {} to {} letters (a to z), digits, `_`, `-` and `.`.",
                settings.username_chars_min, settings.username_chars_max
            )));
        }
        Ok(())
    }

    pub(super) fn check_password(&self, password: &str) -> Result<(), Problem> {
        let settings = &self.settings;
        if password.len() > settings.password_bytes_max {
            let max = settings.password_bytes_max as u64;
            return Err(Problem::too_much("password_bytes_max", max));
        }
        if password.chars().count() < settings.password_chars_min {
            return Err(Problem::new(Code::Invalid).detail(format!(
                "A password has at least {} characters.",
                settings.password_chars_min
            )));
        }
        Ok(())
    }
}

/// Usernames that differ in case alone are the same.
pub(super) fn fold(username: &str) -> String {
    username.to_ascii_lowercase()
}

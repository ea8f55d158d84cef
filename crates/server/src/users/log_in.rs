//! Logging in and changing the password.
//!
//! An unknown username and a wrong password are answered alike, after the same work: one Argon2id hash.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use tidings_core::UserId;
use tidings_protocol::account::{LogIn, LoggedIn, PasswordChange};
use tidings_protocol::{Code, Problem};

use super::profile::{check_name, profile_of};
use super::record::{Account, UserRecord};
use super::sign_up::fold;
use super::{Users, finish};
use crate::session::Caller;

impl Users {
    /// Logs in on a new device. The answer always has the token: whoever sends it on may put it into a
    /// cookie instead.
    ///
    /// # Errors
    /// `wrong_credentials`, `rate_limited`, `too_much` (devices, or a name's length), `busy`.
    pub async fn log_in(
        self: &Arc<Self>,
        log_in: LogIn,
        address: IpAddr,
    ) -> Result<LoggedIn, Problem> {
        check_name(&log_in.device_name, self.settings.display_name_chars_max)?;
        let username = self.guessable(&log_in.username);
        let address = address_key(address);
        self.charge(&username, Some(&address))?;
        let found = self.find(&username).await?;
        let right = self.verify(found.as_ref(), log_in.password.clone()).await?;
        let (Some((user, verified)), true) = (found, right) else {
            self.metrics.login("refused");
            return Err(Problem::new(Code::WrongCredentials));
        };
        self.username_guesses.forget(&username);
        self.address_guesses.refund(&address);
        // Hashed with other parameters than those of today: now is the moment when the password is known.
        let renewed = if self.passwords.is_outdated(&verified.password) {
            Some(self.passwords.hash(log_in.password).await?)
        } else {
            None
        };
        let users = self.clone();
        finish(async move {
            let _lock = users.lock(user).await;
            // It may have been changed since, which logs out what the old one let in.
            match users.user_record(user).await? {
                Some((_, now)) if now.password == verified.password => {}
                _ => return Err(Problem::new(Code::WrongCredentials)),
            }
            if let Some(renewed) = &renewed {
                users
                    .update_user(user, |record| {
                        record.password.clone_from(renewed);
                        Ok(())
                    })
                    .await?;
            }
            let (caller, token) = users.add_device(user, log_in.device_name).await?;
            if users.cluster.get().is_some() {
                // The lock is this server's alone: the password may have been changed at another.
                match users.user_record(user).await? {
                    Some((_, now))
                        if now.password == *renewed.as_ref().unwrap_or(&verified.password) => {}
                    _ => {
                        users.remove_device(caller).await?;
                        return Err(Problem::new(Code::WrongCredentials));
                    }
                }
            }
            users.metrics.login("logged_in");
            Ok(users.logged_in(caller, token, &verified.account))
        })
        .await
    }

    /// Changes my password and logs out all my other devices.
    ///
    /// The devices go first: should the server stop in between, the old password still holds and nobody
    /// is in who should not be.
    ///
    /// # Errors
    /// `wrong_credentials`, `rate_limited`, `invalid`, `too_much`, `busy`.
    pub async fn change_password(
        self: &Arc<Self>,
        caller: Caller,
        change: PasswordChange,
    ) -> Result<(), Problem> {
        self.check_password(&change.new_password)?;
        let Some((_, found)) = self.user_record(caller.user).await? else {
            return Err(Problem::new(Code::Unauthorized));
        };
        let username = fold(&found.account.username);
        self.charge(&username, None)?;
        let stored = Some((caller.user, found.clone()));
        if !self.verify(stored.as_ref(), change.old_password).await? {
            return Err(Problem::new(Code::WrongCredentials));
        }
        self.username_guesses.forget(&username);
        let password = self.passwords.hash(change.new_password).await?;
        let users = self.clone();
        finish(async move {
            let _lock = users.lock(caller.user).await;
            // Another change, or the end of this device, may have been faster.
            match users.user_record(caller.user).await? {
                Some((_, now)) if now.password == found.password => {}
                _ => return Err(Problem::new(Code::WrongCredentials)),
            }
            let devices = users.device_records_now(caller.user).await?;
            if !devices.iter().any(|seen| seen.device == caller.device) {
                return Err(Problem::new(Code::Unauthorized));
            }
            for seen in &devices {
                if seen.device != caller.device {
                    let device = seen.device;
                    users.remove_device(Caller { device, ..caller }).await?;
                }
            }
            users
                .update_user(caller.user, |record| {
                    record.password.clone_from(&password);
                    Ok(())
                })
                .await?;
            if users.cluster.get().is_some() {
                // Somebody may have logged in with the old one at another server meanwhile.
                for seen in users.device_records_now(caller.user).await? {
                    if !devices.iter().any(|known| known.device == seen.device) {
                        let device = seen.device;
                        users.remove_device(Caller { device, ..caller }).await?;
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// Counts a try for a username and an address; both must have room.
    fn charge(&self, username: &String, address: Option<&IpAddr>) -> Result<(), Problem> {
        let now = self.clock.now();
        if let Some(address) = address {
            self.address_guesses.charge(address, now)?;
        }
        let charged = self.username_guesses.charge(username, now);
        if charged.is_err()
            && let Some(address) = address
        {
            self.address_guesses.refund(address);
        }
        charged
    }

    async fn find(&self, username: &str) -> Result<Option<(UserId, UserRecord)>, Problem> {
        let Some((_, claim)) = self.claim_on(username).await? else {
            return Ok(None);
        };
        let record = self.user_record(claim.user).await?;
        Ok(record
            .map(|(_, record)| (claim.user, record))
            .filter(|(_, record)| fold(&record.account.username) == username))
    }

    async fn verify(
        &self,
        found: Option<&(UserId, UserRecord)>,
        password: String,
    ) -> Result<bool, Problem> {
        if password.len() > self.settings.password_bytes_max {
            // Nobody's, whoever it is for.
            return Ok(false);
        }
        let stored = found.map(|(_, record)| record.password.clone());
        self.passwords.verify(stored, password).await
    }

    /// The key under which guesses at a username are counted and the name is looked up: folded, and of
    /// bounded length however long the text is.
    fn guessable(&self, username: &str) -> String {
        let folded = fold(username);
        folded
            .chars()
            .take(self.settings.username_chars_max + 1)
            .collect()
    }

    pub(super) fn logged_in(&self, caller: Caller, token: String, account: &Account) -> LoggedIn {
        LoggedIn {
            profile: profile_of(caller.user, account),
            device: caller.device,
            token: Some(token),
            gateways: self.gateways(),
        }
    }
}

/// Under which key an address is counted: who has one IPv6 address has its whole /64.
pub(super) fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

//! Profiles and privacy: what others may know of a user.

use std::sync::Arc;

use tidings_core::UserId;
use tidings_core::conversation::Facts;
use tidings_protocol::account::{Audience, Me, Privacy, ProfileChange};
use tidings_protocol::presence::Profile;
use tidings_protocol::{Code, Problem};

use super::record::Account;
use super::sign_up::fold;
use super::{Users, finish};
use crate::session::Caller;

impl Users {
    /// My own account.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn me(&self, caller: Caller) -> Result<Me, Problem> {
        let account = self.account(caller.user).await?;
        let account = account.ok_or_else(|| Problem::new(Code::Unauthorized))?;
        Ok(me_of(caller.user, &account))
    }

    /// Changes what is given of my profile and privacy.
    ///
    /// # Errors
    /// `too_much`, `invalid`.
    pub async fn change_profile(
        self: &Arc<Self>,
        caller: Caller,
        change: ProfileChange,
    ) -> Result<Me, Problem> {
        if let Some(name) = &change.display_name {
            check_name(name, self.settings.display_name_chars_max)?;
        }
        if let Some(avatar) = &change.avatar
            && avatar.len() > self.settings.avatar_bytes_max
        {
            let max = self.settings.avatar_bytes_max as u64;
            return Err(Problem::too_much("avatar_bytes_max", max));
        }
        let users = self.clone();
        finish(async move {
            let privacy = change.privacy.is_some();
            let changed = users
                .update_user(caller.user, |record| {
                    let account = &mut record.account;
                    if let Some(name) = &change.display_name {
                        account.display_name.clone_from(name);
                    }
                    if let Some(avatar) = &change.avatar {
                        account.avatar.clone_from(avatar);
                    }
                    if let Some(privacy) = change.privacy {
                        account.privacy = privacy;
                    }
                    Ok(())
                })
                .await?;
            if privacy {
                users.tell_hub(caller.user).await?;
                users.visibility_changed(caller.user);
            }
            Ok(me_of(caller.user, &changed))
        })
        .await
    }

    /// The profiles of these users, by id and by username, as far as they exist, each once.
    ///
    /// # Errors
    /// When the store fails. How many may be asked for is the gateway's to say.
    pub async fn profiles(
        &self,
        users: &[UserId],
        usernames: &[String],
    ) -> Result<Vec<Profile>, Problem> {
        let mut wanted = users.to_vec();
        for username in usernames {
            wanted.extend(self.user_called(username).await?);
        }
        let mut profiles: Vec<Profile> = Vec::with_capacity(wanted.len());
        let mut seen = std::collections::HashSet::with_capacity(wanted.len());
        for user in wanted {
            if seen.insert(user)
                && let Some(account) = self.account(user).await?
            {
                profiles.push(profile_of(user, &account));
            }
        }
        Ok(profiles)
    }

    /// The user with this username, in any case.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn user_called(&self, username: &str) -> Result<Option<UserId>, Problem> {
        if username.len() > self.settings.username_chars_max {
            return Ok(None);
        }
        let folded = fold(username);
        let claimed = self
            .usernames
            .get_or_load(&folded, async {
                let claim = self.claim_on(&folded).await;
                claim.map(|claim| claim.map(|(_, claim)| claim.user))
            })
            .await?;
        // A claim alone is no user yet.
        match claimed {
            Some(user) if self.account(user).await?.is_some() => Ok(Some(user)),
            _ => Ok(None),
        }
    }

    /// Whether all of these are users.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn all_exist(&self, users: &[UserId]) -> Result<bool, Problem> {
        for user in users {
            if self.account(*user).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Who may see what of a user; of one who does not exist, nobody anything.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn privacy(&self, user: UserId) -> Result<Privacy, Problem> {
        let nothing = Privacy {
            last_seen: Audience::Nobody,
            read_receipts: false,
        };
        let account = self.account(user).await?;
        Ok(account.map_or(nothing, |account| account.privacy))
    }

    /// Whether a user is shown how far others have read: as it lets them see itself.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_shown(&self, user: UserId) -> Result<bool, Problem> {
        Ok(self.privacy(user).await?.read_receipts)
    }

    /// Tells the hub whether a user with live sessions is shown how far others have read.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tell_hub(&self, user: UserId) -> Result<(), Problem> {
        while let Some(hub) = self.hub.user(user) {
            let is_shown = self.is_shown(user).await?;
            hub.set_is_shown(is_shown);
            // If it was changed meanwhile, the other who tells the hub may have been earlier.
            if self.is_shown(user).await? == is_shown {
                break;
            }
        }
        Ok(())
    }

    /// What the rules of a conversation need to know of its author, and in a direct one of the other.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn facts(&self, author: UserId, other: Option<UserId>) -> Result<Facts, Problem> {
        let suspended = self
            .account(author)
            .await?
            .is_some_and(|account| account.suspended);
        let blocked = match other {
            Some(other) => self.either_blocked(author, other).await?,
            None => false,
        };
        Ok(Facts { blocked, suspended })
    }
}

pub(super) fn profile_of(user: UserId, account: &Account) -> Profile {
    Profile {
        user,
        username: account.username.clone(),
        display_name: account.display_name.clone(),
        avatar: account.avatar.clone(),
    }
}

fn me_of(user: UserId, account: &Account) -> Me {
    Me {
        profile: profile_of(user, account),
        privacy: account.privacy,
    }
}

/// A name that is shown to people: of bounded length, on one line.
pub(super) fn check_name(name: &str, chars_max: usize) -> Result<(), Problem> {
    if name.chars().count() > chars_max {
        return Err(Problem::too_much(
            "display_name_chars_max",
            chars_max as u64,
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(Problem::new(Code::Invalid).detail("A name has no control characters."));
    }
    Ok(())
}

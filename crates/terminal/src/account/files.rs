//! What an account leaves on this machine: a folder for each server, account and profile.
//!
//! `session.json` holds the session token, `history.sqlite` the conversations, `tail.json` how far `tidings
//! tail` has come.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use tidings_core::{DeviceId, UserId};

use crate::address::Address;
use crate::private;

/// Who is logged in, with which device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) server: String,
    pub(crate) username: String,
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    /// Never shown.
    pub(crate) token: String,
}

/// The folder of an account.
#[derive(Clone, Debug)]
pub(crate) struct AccountFiles {
    folder: PathBuf,
}

impl AccountFiles {
    /// The folder of this account, which need not exist.
    pub(crate) fn new(
        data: &Path,
        server: &Address,
        username: &str,
        profile: Option<&str>,
    ) -> AccountFiles {
        // A name with a sign before it is no path, whatever is in it.
        let mut name = format!("@{}", username.to_lowercase());
        if let Some(profile) = profile {
            name = format!("{name}+{profile}");
        }
        AccountFiles {
            folder: data.join(server.folder()).join(name),
        }
    }

    /// The names of the accounts that are logged in on a server.
    pub(crate) fn usernames(data: &Path, server: &Address) -> Vec<String> {
        let Ok(folders) = fs::read_dir(data.join(server.folder())) else {
            return Vec::new();
        };
        let mut names: Vec<String> = folders
            .filter_map(|folder| {
                Some(
                    AccountFiles {
                        folder: folder.ok()?.path(),
                    }
                    .read()
                    .ok()??
                    .username,
                )
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }

    pub(crate) fn make(&self) -> io::Result<()> {
        private::make_folder(&self.folder)
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.folder.join("history.sqlite")
    }

    pub(crate) fn tail(&self) -> PathBuf {
        self.folder.join("tail.json")
    }

    pub(crate) fn session(&self) -> PathBuf {
        self.folder.join("session.json")
    }

    /// Who is logged in; `None` if nobody is.
    pub(crate) fn read(&self) -> io::Result<Option<Account>> {
        match fs::read(self.session()) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write(&self, account: &Account) -> io::Result<()> {
        private::replace(&self.session(), &serde_json::to_vec_pretty(account)?)
    }

    /// Forgets the token. What was received stays.
    pub(crate) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.session()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Where programs of this user keep their data, by the custom of the system.
pub(crate) fn data_folder() -> Option<PathBuf> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let folder = if cfg!(windows) {
        variable("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        variable("HOME")?.join("Library/Application Support")
    } else {
        // The XDG base directory specification: a relative path is to be ignored.
        variable("XDG_DATA_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| Some(variable("HOME")?.join(".local/share")))?
    };
    Some(folder.join("tidings"))
}

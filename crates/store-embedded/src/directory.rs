//! The data directory: what is in it, whose it is, that nobody else has it open.
//!
//! ```text
//! FORMAT    one line: "tidings-embedded 3"
//! lock      held while the directory is open; names the process
//! rows/     the tables (fjall)
//! bodies/   the body files
//! journal/  what was committed in the last second (format 1 had none)
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use tidings_store::StoreError;

use crate::bodies::sync_folder;

/// The version of everything in the directory. Older ones are opened and, where needed, brought up to
/// date; newer ones are refused.
pub const FORMAT: u32 = 3;

const FORMAT_FILE: &str = "FORMAT";
const FORMAT_NAME: &str = "tidings-embedded";
const LOCK_FILE: &str = "lock";
const ROWS: &str = "rows";
const BODIES: &str = "bodies";
const JOURNAL: &str = "journal";

/// Why a data directory cannot be opened. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data directory {path} is in use by {by}; stop that first, or choose another directory"
    )]
    Locked {
        /// Which directory.
        path: PathBuf,
        /// What is known of the other process.
        by: String,
    },
    /// A newer program wrote it.
    #[error(
        "the data directory {path} has format {found}, this program knows formats up to {FORMAT}; use a newer program"
    )]
    Newer {
        /// Which directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// There is something in it that is not ours.
    #[error("{path} is not a data directory of Tidings: {found}; choose an empty directory")]
    Foreign {
        /// Which directory.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// Part of it is missing or cannot be understood.
    #[error("the data directory {path} is damaged: {what}; restore a backup")]
    Damaged {
        /// Which directory.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The disk or its permissions.
    #[error("the data directory {path} cannot be opened: {error}; nothing in it is lost by that")]
    Io {
        /// Which directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
}

/// A directory that is locked for this process.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    /// Whether there is nothing in it yet.
    pub(crate) is_new: bool,
    /// Whether its format is older than ours.
    pub(crate) is_older: bool,
    /// Unlocked when this is dropped.
    _lock: File,
}

impl Directory {
    /// Locks a directory and checks what is in it; makes it if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Directory, OpenError> {
        let failed = |error| OpenError::Io {
            path: path.to_owned(),
            error,
        };
        make(path).map_err(failed)?;
        // Look before anything is written: a foreign directory stays as it is.
        let format = read_format(path)?;
        let lock = lock(path)?;
        let is_new = format.is_none();
        if is_new {
            // A crash while a directory was being made leaves tables without entries: they are made again.
            for part in [ROWS, BODIES, JOURNAL] {
                let part = path.join(part);
                if part.exists() {
                    std::fs::remove_dir_all(part).map_err(failed)?;
                }
            }
            std::fs::create_dir(path.join(BODIES)).map_err(failed)?;
        } else if !path.join(ROWS).is_dir() || !path.join(BODIES).is_dir() {
            let what = format!("{ROWS} or {BODIES} is missing");
            return Err(OpenError::Damaged {
                path: path.to_owned(),
                what,
            });
        }
        let journal = path.join(JOURNAL);
        // Format 1 had none, and a new directory has none yet.
        if format.is_none_or(|format| format == 1) {
            std::fs::create_dir_all(&journal).map_err(failed)?;
        } else if !journal.is_dir() {
            return Err(OpenError::Damaged {
                path: path.to_owned(),
                what: format!("{JOURNAL} is missing, and with it what was committed last"),
            });
        }
        Ok(Directory {
            path: path.to_owned(),
            is_new,
            is_older: format.is_some_and(|format| format < FORMAT),
            _lock: lock,
        })
    }

    /// The same for a directory that must be there and finished.
    pub(crate) fn open_existing(path: &Path) -> Result<Directory, OpenError> {
        match path
            .is_dir()
            .then(|| read_format(path))
            .transpose()?
            .flatten()
        {
            Some(_) => Directory::open(path),
            None => Err(OpenError::Foreign {
                path: path.to_owned(),
                found: "there is nothing in it".to_owned(),
            }),
        }
    }

    /// Writes the format, as the last step of making a new directory.
    pub(crate) fn finish(&self) -> Result<(), OpenError> {
        self.write_format().map_err(|error| OpenError::Io {
            path: self.path.clone(),
            error,
        })
    }

    fn write_format(&self) -> io::Result<()> {
        let temporary = self.path.join(FORMAT_FILE).with_extension("new");
        let mut file = File::create(&temporary)?;
        writeln!(file, "{FORMAT_NAME} {FORMAT}")?;
        file.sync_all()?;
        std::fs::rename(&temporary, self.path.join(FORMAT_FILE))?;
        sync_folder(&self.path)
    }

    pub(crate) fn rows(&self) -> PathBuf {
        self.path.join(ROWS)
    }

    pub(crate) fn bodies(&self) -> PathBuf {
        self.path.join(BODIES)
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }
}

/// Makes the directory if it is not there: messages lie in it, so for its own user alone.
fn make(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// The format of a data directory, `None` if it is empty or was never finished. Takes no lock: its server may run.
///
/// # Errors
/// When it is newer than this program, damaged, or not ours.
pub fn format_of(path: &Path) -> Result<Option<u32>, OpenError> {
    read_format(path)
}

/// The format of a directory, `None` if it is empty or was never finished.
fn read_format(path: &Path) -> Result<Option<u32>, OpenError> {
    let failed = |error| OpenError::Io {
        path: path.to_owned(),
        error,
    };
    let foreign = |found: String| OpenError::Foreign {
        path: path.to_owned(),
        found,
    };
    match std::fs::read_to_string(path.join(FORMAT_FILE)) {
        Ok(text) => {
            let version = text.trim().strip_prefix(FORMAT_NAME).map(str::trim);
            match version.and_then(|version| version.parse::<u32>().ok()) {
                Some(found) if found > FORMAT => Err(OpenError::Newer {
                    path: path.to_owned(),
                    found,
                }),
                Some(0) | None => Err(foreign(format!(
                    "its {FORMAT_FILE} file says {:?}",
                    text.trim()
                ))),
                Some(found) => Ok(Some(found)),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            for entry in std::fs::read_dir(path).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                if ![LOCK_FILE, ROWS, "FORMAT.new", BODIES, JOURNAL]
                    .iter()
                    .any(|ours| name == *ours)
                {
                    return Err(foreign(format!(
                        "there is {:?} in it and no {FORMAT_FILE} file",
                        name
                    )));
                }
            }
            let bodies = path.join(BODIES);
            if bodies.is_dir() && bodies.read_dir().map_err(failed)?.next().is_some() {
                let what = format!("it holds bodies, but its {FORMAT_FILE} file is missing");
                return Err(OpenError::Damaged {
                    path: path.to_owned(),
                    what,
                });
            }
            Ok(None)
        }
        Err(error) => Err(failed(error)),
    }
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let failed = |error| OpenError::Io {
        path: path.to_owned(),
        error,
    };
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join(LOCK_FILE))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(failed)?;
            writeln!(file, "process {}", std::process::id()).map_err(failed)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut by = String::new();
            let _ = file.read_to_string(&mut by);
            let by = if by.trim().is_empty() {
                "another process"
            } else {
                by.trim()
            };
            Err(OpenError::Locked {
                path: path.to_owned(),
                by: by.to_owned(),
            })
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> StoreError {
        StoreError::Stopped(error.to_string())
    }
}

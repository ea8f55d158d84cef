//! Commands to a running server on the same machine, through a socket in its data directory that only its
//! own user can open. One line is asked and one answered: `backup` and the destination.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidings_store_embedded::{BackupReport, EmbeddedStore};

use super::store_settings;
use crate::config::Settings;

#[cfg(unix)]
const SOCKET: &str = "control.sock";
/// Bytes of a command, at most: a path and a little more.
#[cfg(unix)]
const COMMAND_BYTES_MAX: u64 = 16_384;

/// Copies the data in `data` to `destination`: the running server does it, or if there is none, we do.
/// Answers what was done.
///
/// # Errors
/// Says what went wrong.
pub fn backup(data: &Path, destination: &Path, settings: &Settings) -> Result<String, String> {
    let destination = std::path::absolute(destination).map_err(|error| error.to_string())?;
    #[cfg(unix)]
    if let Some(answer) = unix::ask(data, &destination)? {
        return Ok(answer);
    }
    if !data.exists() {
        return Err(format!("there is no data directory {}", data.display()));
    }
    let store = EmbeddedStore::open(data, store_settings(&settings.store))
        .map_err(|error| error.to_string())?;
    copy(&store, &destination)
}

fn copy(store: &EmbeddedStore, destination: &Path) -> Result<String, String> {
    let BackupReport {
        logs,
        entries,
        bodies_left_out,
        body_bytes,
    } = store
        .backup(destination)
        .map_err(|error| error.to_string())?;
    Ok(format!(
        "{}: {logs} logs, {entries} entries, {body_bytes} bytes of bodies; {bodies_left_out} bodies left \
         out that are kept only until delivered. Before serving it: tidings restore --data {}",
        destination.display(),
        destination.display()
    ))
}

#[cfg(not(unix))]
pub(super) async fn serve(_: PathBuf, _: Arc<EmbeddedStore>) {}

#[cfg(unix)]
pub(super) use unix::serve;

/// No more commands.
pub(super) fn end(data: &Path) {
    #[cfg(unix)]
    // Left behind it does no harm.
    let _ = std::fs::remove_file(data.join(SOCKET));
    #[cfg(not(unix))]
    let _ = data;
}

#[cfg(unix)]
mod unix {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Answers commands for as long as the server runs, one at a time.
    pub(in crate::serve) async fn serve(data: PathBuf, store: Arc<EmbeddedStore>) {
        let path = data.join(SOCKET);
        // The directory is locked: whoever left this one is gone.
        let _ = std::fs::remove_file(&path);
        let bound = tokio::net::UnixListener::bind(&path).and_then(|listener| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        });
        let listener = match bound {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "no backups while the server runs");
                return;
            }
        };
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let store = store.clone();
            let answered = tokio::task::spawn_blocking(move || {
                let stream = stream.into_std()?;
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
                answer(&store, stream)
            })
            .await;
            if let Ok(Err(error)) = answered {
                tracing::debug!(%error, "a control connection broke off");
            }
        }
    }

    fn answer(store: &EmbeddedStore, stream: UnixStream) -> std::io::Result<()> {
        let mut command = Vec::new();
        BufReader::new(stream.try_clone()?.take(COMMAND_BYTES_MAX))
            .read_until(b'\0', &mut command)?;
        let done = match command.strip_prefix(b"backup ") {
            Some(rest) => {
                let path = rest.strip_suffix(b"\0").unwrap_or(rest).to_vec();
                let path = PathBuf::from(std::ffi::OsString::from_vec(path));
                tracing::info!(destination = %path.display(), "making a backup");
                copy(store, &path)
            }
            None => Err("the server does not know this command".to_owned()),
        };
        let (word, text) = match &done {
            Ok(text) => ("ok", text),
            Err(text) => ("failed", text),
        };
        (&stream).write_all(format!("{word} {text}").as_bytes())
    }

    /// Asks a running server; `None` if there is none.
    pub(super) fn ask(data: &Path, destination: &Path) -> Result<Option<String>, String> {
        let Ok(mut stream) = UnixStream::connect(data.join(SOCKET)) else {
            return Ok(None);
        };
        let failed = |error: std::io::Error| format!("the server broke off: {error}");
        let command = [b"backup ", destination.as_os_str().as_bytes(), b"\0"].concat();
        stream.write_all(&command).map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(failed)?;
        match answer.split_once(' ') {
            Some(("ok", text)) => Ok(Some(text.to_owned())),
            Some(("failed", text)) => Err(text.to_owned()),
            _ => Err("the server broke off".to_owned()),
        }
    }
}

//! Commands to a running server on the same machine, through a socket in its data directory that only its
//! own user can open. One command is asked and one answered: `backup` and the destination, or `move` and the file
//! with the settings of where to. What is said on the way comes in lines before the answer.

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
    if let Some(answer) = unix::ask(data, "backup", &destination, |_| ())? {
        return Ok(answer);
    }
    if !data.exists() {
        return Err(format!("there is no data directory {}", data.display()));
    }
    let store = EmbeddedStore::open(data, store_settings(&settings.store))
        .map_err(|error| error.to_string())?;
    copy(&store, &destination)
}

/// Has the running server copy what is in `data` into the store that the file `to` names; `None` if none runs.
///
/// # Errors
/// Says what went wrong.
pub(super) fn ask_to_move(
    data: &Path,
    to: &Path,
    say: impl FnMut(&str),
) -> Result<Option<String>, String> {
    #[cfg(unix)]
    return unix::ask(data, "move", to, say);
    #[cfg(not(unix))]
    {
        let _ = (data, to, say);
        Ok(None)
    }
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
                answer(store, stream)
            })
            .await;
            if let Ok(Err(error)) = answered {
                tracing::debug!(%error, "a control connection broke off");
            }
        }
    }

    fn answer(store: Arc<EmbeddedStore>, stream: UnixStream) -> std::io::Result<()> {
        let mut command = Vec::new();
        BufReader::new(stream.try_clone()?.take(COMMAND_BYTES_MAX))
            .read_until(b'\0', &mut command)?;
        let command = command.strip_suffix(b"\0").unwrap_or(&command);
        let path = |rest: &[u8]| PathBuf::from(std::ffi::OsString::from_vec(rest.to_vec()));
        let done = if let Some(rest) = command.strip_prefix(b"backup ") {
            let path = path(rest);
            tracing::info!(destination = %path.display(), "making a backup");
            copy(&store, &path)
        } else if let Some(rest) = command.strip_prefix(b"move ") {
            let path = path(rest);
            tracing::info!(to = %path.display(), "copying everything for a move");
            let listener = stream.try_clone()?;
            let say = move |line: &str| {
                let line = format!("{SAID} {line}\n");
                (&listener).write_all(line.as_bytes()).is_ok()
            };
            let moved = super::super::moving::from_running(store, &path, Arc::new(say));
            tokio::runtime::Handle::current().block_on(moved)
        } else {
            Err("the server does not know this command".to_owned())
        };
        let (word, text) = match &done {
            Ok(text) => ("ok", text),
            Err(text) => ("failed", text),
        };
        (&stream).write_all(format!("{word} {text}").as_bytes())
    }

    /// What a line begins with that is said on the way.
    const SAID: &str = "said";

    /// Asks a running server; `None` if there is none.
    pub(super) fn ask(
        data: &Path,
        command: &str,
        path: &Path,
        mut say: impl FnMut(&str),
    ) -> Result<Option<String>, String> {
        let Ok(mut stream) = UnixStream::connect(data.join(SOCKET)) else {
            return Ok(None);
        };
        let failed = |error: std::io::Error| format!("the server broke off: {error}");
        let command = [command.as_bytes(), b" ", path.as_os_str().as_bytes(), b"\0"].concat();
        stream.write_all(&command).map_err(failed)?;
        let mut lines = BufReader::new(stream);
        let mut answer = String::new();
        loop {
            answer.clear();
            lines.read_line(&mut answer).map_err(failed)?;
            match answer.split_once(' ') {
                Some((SAID, line)) => say(line.trim_end()),
                _ => break,
            }
        }
        lines.read_to_string(&mut answer).map_err(failed)?;
        match answer.split_once(' ') {
            Some(("ok", text)) => Ok(Some(text.to_owned())),
            Some(("failed", text)) => Err(text.to_owned()),
            _ => Err("the server broke off".to_owned()),
        }
    }
}

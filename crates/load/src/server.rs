//! The server under load: one that runs already, or a child of our own with a data directory of its own.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Error;
use crate::args::Common;
use crate::process::{Processes, disk_bytes};

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a started server is told: all accounts come from one address and hash their passwords quickly, and
/// nothing but the machine limits them.
const WIDE: [(&str, &str); 12] = [
    ("log.filter", "warn"),
    ("users.password_memory_kib", "8"),
    ("users.password_passes", "1"),
    ("users.password_hashes_waiting_max", "65536"),
    ("users.address_sign_ups_burst_max", "1000000"),
    ("users.address_sign_up_interval_ms", "0"),
    ("limits.user_requests_per_s", "0"),
    ("limits.user_requests_burst_max", "1000000"),
    ("limits.address_requests_per_s", "0"),
    ("limits.address_requests_burst_max", "1000000"),
    ("limits.address_connections_max", "10000000"),
    ("limits.connections_max", "10000000"),
];

/// The server under load, or those of a cluster.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    pids: Vec<u32>,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    program: PathBuf,
    settings: Vec<(String, String)>,
    directory: TempDir,
    child: Child,
}

impl Server {
    /// The server that the arguments name, started if they say so.
    ///
    /// # Errors
    /// When it does not start.
    pub fn find(common: &Common) -> Result<Server, Error> {
        let Some(program) = &common.spawn else {
            return Ok(Server {
                addresses: common.server.clone(),
                pids: common.server_pid.clone(),
                own: None,
            });
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix("tidings-load-");
        let directory = match &common.data_in {
            Some(parent) => builder.tempdir_in(parent),
            None => builder.tempdir(),
        }
        .map_err(Error::doing("making a data directory"))?;
        let [address, metrics] = free_ports().map_err(Error::doing("finding free ports"))?;
        let mut settings: Vec<(String, String)> = WIDE
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        let data = directory.path().join("data").display().to_string();
        settings.push(("server.data".to_owned(), data));
        settings.push(("server.listen".to_owned(), address.to_string()));
        settings.push(("server.metrics_listen".to_owned(), metrics.to_string()));
        settings.extend(common.settings.iter().cloned());
        let child = start(program, &settings, directory.path(), address)?;
        Ok(Server {
            addresses: vec![address],
            pids: vec![child.id()],
            own: Some(Own {
                program: program.clone(),
                settings,
                directory,
                child,
            }),
        })
    }

    /// Where they listen: at least one.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Their processes, as far as they are known.
    #[must_use]
    pub fn processes(&self) -> Processes {
        Processes::new(self.pids.clone())
    }

    /// What it keeps on disk, in bytes, if it is ours.
    #[must_use]
    pub fn data_bytes(&self) -> Option<u64> {
        let own = self.own.as_ref()?;
        Some(disk_bytes(&own.directory.path().join("data")))
    }

    /// Stops it and starts it again, if it is ours: its memory is then what it needs, not what it once
    /// needed. Says whether it did.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn restart(&mut self) -> Result<bool, Error> {
        let Some(own) = &mut self.own else {
            return Ok(false);
        };
        stop(&mut own.child);
        own.child = start(
            &own.program,
            &own.settings,
            own.directory.path(),
            self.addresses[0],
        )?;
        self.pids = vec![own.child.id()];
        Ok(true)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

fn start(
    program: &Path,
    settings: &[(String, String)],
    directory: &Path,
    address: SocketAddr,
) -> Result<Child, Error> {
    let log = directory.join("log");
    let making_log = || Error::doing("making the server's log file");
    let output = File::create(&log).map_err(making_log())?;
    let errors = output.try_clone().map_err(making_log())?;
    let mut command = Command::new(program);
    command
        .arg("serve")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    for (name, value) in settings {
        command.env(variable(name), value);
    }
    let mut child = command
        .spawn()
        .map_err(Error::doing(format!("starting {}", program.display())))?;
    let began = Instant::now();
    loop {
        let ended = child
            .try_wait()
            .map_err(Error::doing("looking at the server"))?;
        if let Some(status) = ended {
            return Err(Error::Server(format!(
                "the server ended ({status}):\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            )));
        }
        if TcpStream::connect(address).is_ok() {
            return Ok(child);
        }
        if began.elapsed() > READY_WITHIN {
            stop(&mut child);
            return Err(Error::Server(format!(
                "the server does not listen on {address} after {} s:\n{}",
                READY_WITHIN.as_secs(),
                fs::read_to_string(&log).unwrap_or_default()
            )));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Asks our child to end; ends it if it does not.
fn stop(child: &mut Child) {
    // A child that was waited for may have handed its id to somebody else's process.
    if let Ok(Some(_)) = child.try_wait() {
        return;
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid
        && kill_process(pid, Signal::TERM).is_ok()
    {
        let began = Instant::now();
        while began.elapsed() < STOPPED_WITHIN {
            if let Ok(Some(_)) = child.try_wait() {
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
    }
    // It may have ended in this moment: then there is nothing left to end.
    let _ = child.kill();
    let _ = child.wait();
}

/// The environment variable of a setting.
fn variable(name: &str) -> String {
    format!("TIDINGS_{}", name.replace('.', "_").to_uppercase())
}

fn free_ports<const N: usize>() -> io::Result<[SocketAddr; N]> {
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    // All are held until all are found, so that they differ.
    let mut held = Vec::with_capacity(N);
    for address in &mut addresses {
        let listener = TcpListener::bind(*address)?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use clap::Parser;

    #[test]
    fn settings_become_variables() {
        assert_eq!(
            variable("users.password_memory_kib"),
            "TIDINGS_USERS_PASSWORD_MEMORY_KIB"
        );
    }

    #[test]
    fn ports_differ() {
        let [one, other] = free_ports().unwrap();
        assert_ne!(one, other);
    }

    #[test]
    fn a_program_that_ends_is_quoted() {
        let args = Args::parse_from(["tidings-load", "--spawn", "ls", "idle"]);
        let error = Server::find(&args.common).unwrap_err().to_string();
        assert!(error.starts_with("the server ended"), "{error}");
        assert!(error.contains("serve"), "the program's own words: {error}");
        let args = Args::parse_from(["tidings-load", "--spawn", "/no/such/program", "idle"]);
        let error = Server::find(&args.common).unwrap_err().to_string();
        assert!(error.contains("/no/such/program"), "{error}");
    }
}

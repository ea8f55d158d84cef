//! Programs of others as child processes. Here alone they are started, so that none outlives the test
//! program, however that ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process, test_kill_process};
use tempfile::TempDir;

pub use rustix::process::Signal;

/// A child process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    is_frozen: bool,
}

impl Process {
    /// Starts a program, with its output added to a file. What stands in `wrap` comes before it, such as
    /// `ip netns exec NAME`, and must become the program by itself (`exec`), as signals go to it.
    pub(crate) fn start(
        wrap: &[String],
        program: &Path,
        arguments: &[OsString],
        output: &Path,
    ) -> Process {
        let output = OpenOptions::new().create(true).append(true).open(output);
        let output: File = output.unwrap();
        // Statics are not dropped and a killed program drops nothing: then the kernel kills the children.
        let mut words: Vec<OsString> = Vec::new();
        if cfg!(target_os = "linux") {
            words.extend(["setpriv", "--pdeathsig", "KILL", "--"].map(OsString::from));
        }
        words.extend(wrap.iter().map(OsString::from));
        words.push(program.into());
        words.extend_from_slice(arguments);
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let child = spawn(command)
            .unwrap_or_else(|error| panic!("{} does not start: {error}", words[0].display()));
        Process {
            child,
            is_frozen: false,
        }
    }

    /// Sends it a signal, unless it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_some() {
            return;
        }
        // It is not reaped yet: the number is still its own.
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).unwrap();
        match signal {
            Signal::STOP => self.is_frozen = true,
            Signal::CONT => self.is_frozen = false,
            Signal::KILL => drop(self.child.wait().unwrap()),
            _ => {}
        }
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Whether it can be expected to answer: it has not ended, nor is it frozen.
    pub(crate) fn is_at_work(&mut self) -> bool {
        !self.is_frozen && self.ended().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing is left of it. A frozen one dies as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a process from a thread that lives as long as the test program. The kernel means the *thread* that
/// made a child when it speaks of a dead parent, and each test has a thread of its own, which ends with it.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, SyncSender<io::Result<Child>>);
    static SPAWNER: LazyLock<SyncSender<Order>> = LazyLock::new(|| {
        let (orders, receiver) = sync_channel::<Order>(1);
        std::thread::spawn(move || {
            for (mut command, answer) in receiver {
                answer.send(command.spawn()).unwrap();
            }
        });
        orders
    });
    let (answer, answered) = sync_channel(1);
    SPAWNER.send((command, answer)).unwrap();
    answered.recv().unwrap()
}

/// Runs `scripts/NAME`, which installs a tool if it is missing and says where it is.
pub(crate) fn tool(name: &str) -> PathBuf {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let output = Command::new(scripts.join(name))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "scripts/{name}: {}", output.status);
    let path = String::from_utf8(output.stdout).unwrap();
    PathBuf::from(path.trim_end())
}

/// A folder for the data of throw-away servers. Those that killed test programs left behind are removed.
pub(crate) fn scratch_folder(kind: &str) -> TempDir {
    let prefix = format!("tidings-{kind}-");
    for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix)?.split('-').next()?.parse().ok())
            .and_then(Pid::from_raw);
        if owner.is_some_and(|owner| test_kill_process(owner) == Err(rustix::io::Errno::SRCH)) {
            // Another test program may be removing it, too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    tempfile::Builder::new()
        .prefix(&format!("{prefix}{}-", std::process::id()))
        .tempdir()
        .unwrap()
}

/// A port that nobody listens on now. Below the range from which outgoing connections get theirs, so that it
/// is still free after a restart.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    loop {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(10_000 + number % 20_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until something is so; false if it is not within so long.
pub(crate) fn wait_until(within: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + within;
    while !is_so() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// The last lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

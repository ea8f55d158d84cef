//! The real program as a child process: started, killed, stopped, started again on the same port and data.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::http::Http;
use crate::process::{free_port, last_lines};

/// How long a start may take before the harness gives up. The bound that is promised is tested elsewhere.
const START_MAX: Duration = Duration::from_secs(60);

/// A server with a temporary data directory. Dropped, it is killed and the directory removed; if a test
/// fails, the end of its log is printed first.
#[derive(Debug)]
pub struct Server {
    /// Where it listens on the loopback address.
    pub port: u16,
    /// Where its metrics are.
    pub metrics_port: u16,
    directory: TempDir,
    child: Option<Child>,
    /// Its wall clock is the test's to move.
    has_clock: bool,
    /// As which user it runs, if not as the test's own.
    user: Option<u32>,
}

/// Settings for tests: quick password hashes, no limits on rates, short intervals. `section.name` and a
/// TOML value each.
const SETTINGS: &[(&str, &str)] = &[
    (
        "log.filter",
        "\"info,fjall=warn,lsm_tree=warn,scylla=error,async_nats=warn\"",
    ),
    ("limits.user_requests_per_s", "0"),
    ("limits.address_requests_per_s", "0"),
    ("users.password_memory_kib", "8"),
    ("users.password_passes", "1"),
    ("users.username_failure_interval_ms", "0"),
    ("users.address_failure_interval_ms", "0"),
    ("users.address_sign_up_interval_ms", "0"),
    ("sessions.heartbeat_ms_min", "50"),
    ("sessions.heartbeat_ms", "1000"),
    ("sessions.heartbeat_grace_ms", "10000"),
    ("chat.trim_delay_ms", "50"),
    ("chat.expiry_every_ms", "200"),
    ("chat.retention_every_s", "1"),
];

impl Server {
    /// A running server with the settings for tests.
    pub async fn start() -> Server {
        Server::start_with(&[]).await
    }

    /// A running server with these settings besides those for tests: `section.name` and a TOML value.
    pub async fn start_with(settings: &[(&str, &str)]) -> Server {
        let mut server = Server::prepare(settings);
        server.start_again().await;
        server
    }

    /// A server that is not started yet.
    #[must_use]
    pub fn prepare(settings: &[(&str, &str)]) -> Server {
        let directory = tempfile::Builder::new()
            .prefix("tidings-test-")
            .tempdir()
            .unwrap();
        let (port, metrics_port) = (free_port(), free_port());
        let server = Server {
            port,
            metrics_port,
            directory,
            child: None,
            has_clock: false,
            user: None,
        };
        server.configure(settings);
        server
    }

    /// Stops the server and starts it with a wall clock that [`Server::advance_days`] moves.
    pub async fn start_with_clock(&mut self) {
        self.stop().await;
        std::fs::write(self.clock_path(), 0_i64.to_ne_bytes()).unwrap();
        let source = self.clock_library().with_extension("c");
        std::fs::write(&source, include_str!("clock.c")).unwrap();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(self.clock_library())
            .arg(&source)
            .status();
        assert!(compiled.unwrap().success(), "the clock does not compile");
        self.has_clock = true;
        self.start_again().await;
    }

    /// From the next start on it runs as this user, so that a firewall can tell it from the others. For root alone.
    pub fn run_as(&mut self, user: u32) {
        use std::os::unix::fs::{PermissionsExt, chown};
        let path = self.directory.path();
        chown(path, Some(user), None).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        self.user = Some(user);
    }

    /// From now on the server's wall clock is so many days ahead of the machine's.
    pub fn advance_days(&self, days: i64) {
        self.advance_seconds(days * 24 * 3_600);
    }

    /// From now on the server's wall clock is so many seconds ahead of the machine's.
    pub fn advance_seconds(&self, seconds: i64) {
        assert!(self.has_clock, "started with a clock");
        // In place: the server has the file mapped.
        let file = OpenOptions::new().write(true).open(self.clock_path());
        std::io::Write::write_all(&mut file.unwrap(), &seconds.to_ne_bytes()).unwrap();
    }

    fn clock_path(&self) -> PathBuf {
        self.directory.path().join("clock")
    }

    fn clock_library(&self) -> PathBuf {
        self.directory.path().join("clock.so")
    }

    /// Writes the configuration anew, for the next start.
    pub fn configure(&self, settings: &[(&str, &str)]) {
        let mut table = toml_tables(SETTINGS);
        let own = [
            ("server.listen", format!("\"127.0.0.1:{}\"", self.port)),
            (
                "server.metrics_listen",
                format!("\"127.0.0.1:{}\"", self.metrics_port),
            ),
            ("server.data", format!("{:?}", self.data())),
        ];
        table.extend(own.map(|(name, value)| split(name, &value)));
        table.extend(settings.iter().map(|(name, value)| split(name, value)));
        // What is said last counts.
        let mut merged = std::collections::BTreeMap::new();
        for (section, name, value) in table {
            merged
                .entry(section)
                .or_insert_with(std::collections::BTreeMap::new)
                .insert(name, value);
        }
        let mut text = String::new();
        for (section, values) in merged {
            text.push_str(&format!("[{section}]\n"));
            for (name, value) in values {
                text.push_str(&format!("{name} = {value}\n"));
            }
        }
        std::fs::write(self.config_path(), text).unwrap();
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn config_path(&self) -> PathBuf {
        self.directory.path().join("tidings.toml")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("server.log")
    }

    /// Starts the program (again), and waits until it is ready. How long that took.
    pub async fn start_again(&mut self) -> Duration {
        assert!(self.child.is_none(), "it runs already");
        let began = Instant::now();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut command = Command::new(program());
        if self.has_clock {
            command
                .env("LD_PRELOAD", self.clock_library())
                .env("TIDINGS_TEST_CLOCK", self.clock_path());
        }
        if let Some(user) = self.user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
        }
        let child = command
            .arg("serve")
            .arg("--config")
            .arg(self.config_path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        loop {
            let mut http = Http::new(self.port);
            let ready = http.try_request("GET", "/readyz", &[], b"").await;
            if ready.is_ok_and(|response| response.status == 200) {
                return began.elapsed();
            }
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                panic!("the server ended by itself: {status}");
            }
            assert!(began.elapsed() < START_MAX, "the server does not start");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// `kill -9`: the process ends between two instructions.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM: asks it to finish.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP: it does nothing more, and does not know.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on where it was.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let id = i32::try_from(child.id()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + START_MAX;
        loop {
            let child = self.child.as_mut().expect("it runs");
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(Instant::now() < until, "the server does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops it in good order.
    pub async fn stop(&mut self) {
        self.terminate();
        let status = self.ended().await;
        assert!(status.success(), "{status}");
    }

    /// `tidings verify`: every invariant of the data directory. The server must not run.
    pub async fn verify(&self) {
        self.run("verify").await;
    }

    /// `tidings restore`: makes an older copy ready to be served. The server must not run.
    pub async fn restore(&self) {
        self.run("restore").await;
    }

    /// `tidings migrate`: makes the tables of a cluster.
    pub async fn migrate(&self) {
        self.run("migrate").await;
    }

    /// `tidings move` from this server's store into another's: whether all was well, and what was said. The server may
    /// run, the other must not.
    pub async fn move_to(&self, other: &Server, flags: &[&str]) -> (bool, String) {
        let mut arguments = vec!["--to".into(), other.config_path().into_os_string()];
        arguments.extend(flags.iter().map(Into::into));
        let output = self.output("move", arguments).await;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        (output.status.success(), said)
    }

    /// `tidings serve` where that must be refused: what it says.
    pub async fn serve_refused(&self) -> String {
        let output = self.output("serve", Vec::new()).await;
        assert!(!output.status.success(), "it serves");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// `tidings doctor`: the code with which it ended, and what it found. The server may run.
    pub async fn doctor(&self, flags: &[&str]) -> (i32, serde_json::Value) {
        let mut arguments = vec![OsString::from("--json")];
        arguments.extend(flags.iter().map(OsString::from));
        let output = self.output("doctor", arguments).await;
        let found = serde_json::from_slice(&output.stdout);
        let found = found.unwrap_or_else(|error| {
            let said = String::from_utf8_lossy(&output.stderr);
            panic!("tidings doctor: {error}: {said}")
        });
        (output.status.code().expect("it ends by itself"), found)
    }

    async fn output(&self, subcommand: &str, arguments: Vec<OsString>) -> Output {
        let mut command = Command::new(program());
        command
            .arg(subcommand)
            .arg("--config")
            .arg(self.config_path())
            .args(arguments)
            .stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    async fn run(&self, subcommand: &str) {
        assert!(self.child.is_none(), "on data that nobody writes");
        let output = self.output(subcommand, Vec::new()).await;
        assert!(
            output.status.success(),
            "tidings {subcommand}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// The process's id.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Everything that it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The files of the data directory in which these bytes stand.
    #[must_use]
    pub fn files_with(&self, text: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        find_in(&self.data(), text.as_bytes(), &mut found);
        found
    }

    /// Copies the data directory aside. The server must not run.
    #[must_use]
    pub fn copy_data(&self) -> TempDir {
        assert!(self.child.is_none(), "copy what nobody writes");
        let copy = tempfile::tempdir().unwrap();
        copy_files(&self.data(), copy.path());
        copy
    }

    /// Puts an older copy in the place of the data directory. The server must not run.
    pub fn roll_back(&self, copy: &TempDir) {
        assert!(self.child.is_none(), "not under a running server");
        std::fs::remove_dir_all(self.data()).unwrap();
        copy_files(copy.path(), &self.data());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; either way nothing is left of it.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!(
                "--- the end of the server's log:\n{}\n---",
                last_lines(&self.log(), 60)
            );
        }
    }
}

fn split(name: &str, value: &str) -> (String, String, String) {
    let (section, name) = name.split_once('.').expect("section.name");
    (section.to_owned(), name.to_owned(), value.to_owned())
}

fn toml_tables(settings: &[(&str, &str)]) -> Vec<(String, String, String)> {
    settings
        .iter()
        .map(|(name, value)| split(name, value))
        .collect()
}

/// The program `tidings`: `TIDINGS_BIN`, or the one beside this test's own directory, built if it is absent.
#[must_use]
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("TIDINGS_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().unwrap();
    // target/<profile>/deps/<test>, or target/<profile>/<program>
    let folder = own.parent().unwrap();
    let profile = match folder.ends_with("deps") {
        true => folder.parent().unwrap(),
        false => folder,
    };
    let path = profile.join("tidings");
    if !path.exists() {
        build_program(profile);
    }
    path
}

fn build_program(profile: &Path) {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "-p", "tidings-server"]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(status.success(), "the program cannot be built");
}

fn find_in(directory: &Path, text: &[u8], found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            find_in(&path, text, found);
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(text.len()).any(|window| window == text)
        {
            found.push(path);
        }
    }
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_files(&path, &copy);
        } else {
            std::fs::copy(&path, &copy).unwrap();
            File::open(&copy).unwrap().sync_all().unwrap();
        }
    }
}

//! A real Apache Cassandra for tests: one node, or three with a copy of everything on each (RF=3). Its nodes can
//! be killed, frozen, and started again on their data. `scripts/cassandra` fetches it; how a node is started
//! and configured is in `testing/cassandra`.
//!
//! Starting takes seconds and blocks the caller. A test that leaves the nodes alone uses [`Cassandra::shared`]
//! and a keyspace of its own. `TIDINGS_TEST_CASSANDRA_JAVA` adds arguments for Java: `-Xmx1G` for a larger heap,
//! `-XX:TieredStopAtLevel=4` for the slower compiler with the faster code.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use tempfile::TempDir;

pub use crate::process::Signal;
use crate::process::{Process, free_port, last_lines, scratch_folder, tool, wait_until};

/// How long a start may take before the harness gives up: ten times what three nodes need on two cores.
const START_MAX: Duration = Duration::from_secs(180);

/// How long a node may take to end in good order. It writes everything to its tables first: some 10 s.
const STOP_MAX: Duration = Duration::from_secs(60);

const CQL_PORT: u16 = 9042;
const STORAGE_PORT: u16 = 7000;

/// A Cassandra cluster. Dropped, its nodes are killed and their data removed; if a test fails, what they
/// complained of last is printed first.
#[derive(Debug)]
pub struct Cassandra {
    contact_points: Vec<String>,
    nodes: Vec<Node>,
    /// The data of a cluster that the harness started: removed after the nodes are gone.
    _folder: Option<TempDir>,
}

/// Where a node runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// The address on which it listens.
    pub address: String,
    /// The command before its own, such as `ip netns exec NAME`; it must become the node's by itself (`exec`).
    /// The harness then does not expect to reach the address.
    pub wrap: Vec<String>,
}

#[derive(Debug)]
struct Node {
    place: Place,
    jmx_port: u16,
    /// The installation: see `scripts/cassandra`.
    tool: PathBuf,
    folder: PathBuf,
    /// Nothing before the first start.
    process: Option<Process>,
}

impl Cassandra {
    /// A running cluster of one node or three, on loopback addresses that nobody else uses.
    #[must_use]
    pub fn start(nodes: usize) -> Cassandra {
        let places = loopback_addresses(nodes).into_iter().map(|address| Place {
            address,
            wrap: Vec::new(),
        });
        Cassandra::start_at(places.collect())
    }

    /// A running cluster with a node at each of these places.
    #[must_use]
    pub fn start_at(places: Vec<Place>) -> Cassandra {
        assert!(matches!(places.len(), 1 | 3), "one node or three");
        let tool = tool("cassandra");
        let folder = scratch_folder("cassandra");
        let addresses: Vec<String> = places.iter().map(|place| place.address.clone()).collect();
        let at_port = |port| {
            let addresses = addresses.iter();
            addresses.map(move |address| format!("{address}:{port}"))
        };
        let seeds: Vec<String> = at_port(STORAGE_PORT).collect();
        let nodes = places.into_iter().enumerate().map(|(index, place)| {
            let node = Node {
                place,
                jmx_port: free_port(),
                tool: tool.clone(),
                folder: folder.path().join(format!("node-{index}")),
                process: None,
            };
            node.configure(&seeds.join(","), token(index, seeds.len()));
            node
        });
        let mut cassandra = Cassandra {
            contact_points: at_port(CQL_PORT).collect(),
            nodes: nodes.collect(),
            _folder: Some(folder),
        };
        for node in &mut cassandra.nodes {
            node.launch();
        }
        for node in 0..addresses.len() {
            cassandra.await_ready(node);
        }
        cassandra
    }

    /// One node for all tests of a program, started by the first that asks. With `TIDINGS_TEST_CASSANDRA` (contact
    /// points with ports, separated by commas) it is that cluster instead, whose nodes are out of reach.
    #[must_use]
    pub fn shared() -> &'static Cassandra {
        static SHARED: LazyLock<Cassandra> =
            LazyLock::new(|| match std::env::var("TIDINGS_TEST_CASSANDRA") {
                Ok(points) if !points.is_empty() => Cassandra {
                    contact_points: points.split(',').map(str::to_owned).collect(),
                    nodes: Vec::new(),
                    _folder: None,
                },
                _ => Cassandra::start(1),
            });
        &SHARED
    }

    /// Where drivers connect, one for each node: `127.1.2.3:9042`.
    #[must_use]
    pub fn contact_points(&self) -> Vec<String> {
        self.contact_points.clone()
    }

    /// Sends a signal to a node, counted from 0. With `TERM` it ends in its own time; see [`Cassandra::stop`].
    pub fn signal(&mut self, node: usize, signal: Signal) {
        self.nodes[node].process().signal(signal);
    }

    /// `kill -9` of a node.
    pub fn kill(&mut self, node: usize) {
        self.signal(node, Signal::KILL);
    }

    /// Freezes a node: its connections stay open, and nothing answers.
    pub fn freeze(&mut self, node: usize) {
        self.signal(node, Signal::STOP);
    }

    /// Lets a frozen node go on.
    pub fn thaw(&mut self, node: usize) {
        self.signal(node, Signal::CONT);
    }

    /// Stops a node in good order, and waits until it has ended.
    pub fn stop(&mut self, node: usize) {
        self.signal(node, Signal::TERM);
        let process = self.nodes[node].process();
        let has_ended = wait_until(STOP_MAX, || process.ended().is_some());
        assert!(has_ended, "node {node} does not end:\n{}", self.end(node));
    }

    /// Starts a node again on its data, after a `kill -9` if it still runs, and waits until it is ready.
    pub fn restart(&mut self, node: usize) {
        self.nodes[node].launch();
        self.await_ready(node);
    }

    /// Lets frozen nodes go on and starts those again that have ended: whatever a test did, all are at work.
    pub fn heal(&mut self) {
        for node in 0..self.nodes.len() {
            self.thaw(node);
            if self.nodes[node].process().ended().is_some() {
                self.restart(node);
            }
        }
    }

    /// Where a node keeps its data, its commit log and its hints; `None` if the nodes are out of reach.
    #[must_use]
    pub fn data_folder(&self, node: usize) -> Option<PathBuf> {
        self.nodes.get(node).map(|node| node.folder.join("data"))
    }

    /// The processes of the nodes; none if they are out of reach.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        processes.map(Process::id).collect()
    }

    /// What `nodetool` says to this node. About a second.
    #[must_use]
    pub fn nodetool(&self, node: usize, arguments: &[&str]) -> String {
        self.nodes[node].nodetool(arguments)
    }

    /// What a node logged since its last start.
    #[must_use]
    pub fn log(&self, node: usize) -> String {
        self.nodes[node].log()
    }

    /// The end of what a node said, for a message.
    fn end(&self, node: usize) -> String {
        let output = self.nodes[node].output_path();
        let output = std::fs::read_to_string(output).unwrap_or_default();
        let (output, log) = (last_lines(&output, 20), last_lines(&self.log(node), 40));
        format!("--- output of node {node}:\n{output}\n--- its log:\n{log}\n---")
    }

    /// What a node complained of last: few lines, below which what failed is still seen.
    fn complaints(&self, node: usize) -> String {
        let log = self.log(node);
        let is_complaint = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
        let lines: Vec<String> = log
            .lines()
            .filter(is_complaint)
            .map(|line| line.chars().take(200).collect())
            .collect();
        let last = &lines[lines.len().saturating_sub(4)..];
        format!("--- node {node} complained last:\n{}", last.join("\n"))
    }

    fn await_ready(&mut self, node: usize) {
        let is_ready = wait_until(START_MAX, || {
            if let Some(status) = self.nodes[node].process().ended() {
                panic!("Cassandra's node {node}: {status}\n{}", self.end(node));
            }
            self.is_ready(node)
        });
        assert!(
            is_ready,
            "Cassandra's node {node} is not ready after {START_MAX:?}\n{}",
            self.end(node)
        );
    }

    /// Whether a node answers clients, and all nodes at work are up and normal for it (`UN` in `nodetool status`).
    /// Neither a node's word that it listens nor that a peer is up suffices: its tokens may be unknown yet.
    fn is_ready(&mut self, node: usize) -> bool {
        let log = self.log(node);
        for (index, other) in self.nodes.iter_mut().enumerate() {
            let peer = format!("/{}:{STORAGE_PORT}", other.place.address);
            let is_expected = index == node || other.process().is_at_work();
            let is_normal = log.contains(&format!("Node {peer} state NORMAL, token"));
            let is_up = index == node || log.contains(&format!("{peer} is now UP"));
            if is_expected && !(is_normal && is_up) {
                return false;
            }
        }
        let is_beyond_reach = !self.nodes[node].place.wrap.is_empty();
        log.contains("Starting listening for CQL clients")
            && (is_beyond_reach || answers_cql(&self.contact_points[node]).unwrap_or(false))
    }
}

impl Drop for Cassandra {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in 0..self.nodes.len() {
                eprintln!("{}", self.complaints(node));
            }
        }
    }
}

impl Node {
    fn configure(&self, seeds: &str, token: i64) {
        std::fs::create_dir_all(self.folder.join("tmp")).unwrap();
        for (name, template) in [
            ("jvm.args", include_str!("../cassandra/jvm.args")),
            (
                "cassandra.yaml",
                include_str!("../cassandra/cassandra.yaml"),
            ),
            ("logback.xml", include_str!("../cassandra/logback.xml")),
        ] {
            let text = template
                .replace("@FOLDER@", self.folder.to_str().unwrap())
                .replace("@ADDRESS@", &self.place.address)
                .replace("@JMX_PORT@", &self.jmx_port.to_string())
                .replace("@SEEDS@", seeds)
                .replace("@TOKEN@", &token.to_string());
            std::fs::write(self.folder.join(name), text).unwrap();
        }
        let silent = "<configuration><root level=\"OFF\"/></configuration>";
        std::fs::write(self.folder.join("logback-tools.xml"), silent).unwrap();
    }

    /// Starts it, with a new log: an old one would say too soon that it is ready.
    fn launch(&mut self) {
        // First the old one must be gone, for its address.
        self.process = None;
        // There is none before the first start.
        let _ = std::fs::rename(self.log_path(), self.folder.join("system.log.old"));
        let _ = std::fs::rename(self.output_path(), self.folder.join("output.old"));
        let mut arguments = self.java_arguments();
        arguments.push("org.apache.cassandra.service.CassandraDaemon".into());
        let (wrap, java, output) = (&self.place.wrap, self.java(), self.output_path());
        self.process = Some(Process::start(wrap, &java, &arguments, &output));
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    fn java(&self) -> PathBuf {
        self.tool.join("java")
    }

    fn java_arguments(&self) -> Vec<OsString> {
        let file = |path: &Path| format!("@{}", path.display()).into();
        let mut arguments = vec![
            file(&self.folder.join("jvm.args")),
            file(&self.tool.join("local.args")),
        ];
        let more = std::env::var("TIDINGS_TEST_CASSANDRA_JAVA").unwrap_or_default();
        arguments.extend(more.split_whitespace().map(OsString::from));
        arguments
    }

    fn nodetool(&self, arguments: &[&str]) -> String {
        let silent = self.folder.join("logback-tools.xml");
        let mut words: Vec<OsString> = self.place.wrap.iter().map(OsString::from).collect();
        words.push(self.java().into());
        words.extend(self.java_arguments());
        // What is said last counts: no heap of a node's size, and nothing goes to the node's log.
        words.extend(["-Xms16M", "-Xmx64M"].map(OsString::from));
        words.push(format!("-Dlogback.configurationFile=file://{}", silent.display()).into());
        words.push("org.apache.cassandra.tools.NodeTool".into());
        let port = self.jmx_port.to_string();
        words.extend(["-h", "127.0.0.1", "-p", &port].map(OsString::from));
        words.extend(arguments.iter().map(OsString::from));
        let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "nodetool {arguments:?}: {}\n{said}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("system.log")
    }

    fn output_path(&self) -> PathBuf {
        self.folder.join("output")
    }
}

/// The token of a node: all have equal shares of the ring, and none lies at its edge.
fn token(index: usize, nodes: usize) -> i64 {
    let share = i128::from(u64::MAX) / nodes as i128;
    let token = i128::from(i64::MIN) + share * index as i128 + share / 2;
    i64::try_from(token).unwrap()
}

/// The addresses 1, 2, 3 of a net of the loopback interface that nobody uses. All of 127.0.0.0/8 is there, so
/// each cluster has the usual ports for itself.
fn loopback_addresses(count: usize) -> Vec<String> {
    loop {
        let [x, y, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
        let addresses: Vec<String> = (1..=count)
            .map(|host| format!("127.{}.{y}.{host}", x.max(1)))
            .collect();
        let is_free = |address: &String| {
            let ports = [CQL_PORT, STORAGE_PORT];
            let mut listeners = ports
                .iter()
                .map(|port| TcpListener::bind((address.as_str(), *port)));
            listeners.all(|listener| listener.is_ok())
        };
        if addresses.iter().all(is_free) {
            return addresses;
        }
    }
}

/// Whether the node at a contact point answers a client's first request.
///
/// # Errors
/// When the connection fails.
pub fn answers_cql(contact_point: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect(contact_point)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // A frame of version 4: no flags, stream 0, OPTIONS, no body (CQL binary protocol v4, section 2).
    stream.write_all(&[4, 0, 0, 0, 5, 0, 0, 0, 0])?;
    let mut header = [0; 9];
    stream.read_exact(&mut header)?;
    // The answer to it is SUPPORTED.
    Ok(header[0] == 0x84 && header[4] == 6)
}

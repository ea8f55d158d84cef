//! Real NATS servers for tests (core NATS, nothing is stored): one, or three as a cluster. They can be killed,
//! frozen, and started again on the same port. `scripts/nats` fetches the program.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, Signal, free_port, last_lines, scratch_folder, tool, wait_until};

/// How long a start may take before the harness gives up. It takes 0.1 s.
const START_MAX: Duration = Duration::from_secs(30);

/// So many connections a server keeps to each other one for what clients publish (its default `pool_size`).
const ROUTES_PER_SERVER: usize = 3;

/// One NATS server or three. Dropped, they are killed.
#[derive(Debug)]
pub struct Nats {
    program: PathBuf,
    servers: Vec<Server>,
    folder: TempDir,
}

#[derive(Debug)]
struct Server {
    port: u16,
    route_port: u16,
    monitor_port: u16,
    /// Nothing before the first start.
    process: Option<Process>,
}

impl Nats {
    /// So many running servers, each of which knows the others.
    #[must_use]
    pub fn start(servers: usize) -> Nats {
        let servers = (0..servers).map(|_| Server {
            port: free_port(),
            route_port: free_port(),
            monitor_port: free_port(),
            process: None,
        });
        let mut nats = Nats {
            program: tool("nats"),
            servers: servers.collect(),
            folder: scratch_folder("nats"),
        };
        // One after the other: a server that meets nobody at first waits for a second.
        for server in 0..nats.servers.len() {
            nats.restart(server);
        }
        nats
    }

    /// Where clients connect, one for each server: `nats://127.0.0.1:PORT`.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let servers = self.servers.iter();
        servers
            .map(|server| format!("nats://127.0.0.1:{}", server.port))
            .collect()
    }

    /// `kill -9` of one server, counted from 0.
    pub fn kill(&mut self, server: usize) {
        self.signal(server, Signal::KILL);
    }

    /// Freezes a server: its connections stay open, and nothing answers.
    pub fn freeze(&mut self, server: usize) {
        self.signal(server, Signal::STOP);
    }

    /// Lets a frozen server go on.
    pub fn thaw(&mut self, server: usize) {
        self.signal(server, Signal::CONT);
    }

    fn signal(&mut self, server: usize, signal: Signal) {
        let process = self.servers[server].process.as_mut();
        process.unwrap().signal(signal);
    }

    /// Starts a server (again) on its port, after a `kill -9` if it still runs, and waits until it accepts
    /// clients and is connected with every other that is at work.
    pub fn restart(&mut self, server: usize) {
        // First the old one must be gone, for its port.
        self.servers[server].process = None;
        let arguments = self.arguments(server);
        let output = self.output_path(server);
        let process = Process::start(&[], &self.program, &arguments, &output);
        self.servers[server].process = Some(process);
        let is_ready = wait_until(START_MAX, || {
            let ended = self.servers[server].process.as_mut();
            if let Some(status) = ended.and_then(Process::ended) {
                panic!("NATS server {server}: {status}\n{}", self.log(server));
            }
            self.is_ready(server).unwrap_or(false)
        });
        assert!(
            is_ready,
            "NATS server {server} is not ready after {START_MAX:?}:\n{}",
            last_lines(&self.log(server), 30)
        );
    }

    /// What a server logged so far.
    #[must_use]
    pub fn log(&self, server: usize) -> String {
        std::fs::read_to_string(self.output_path(server)).unwrap_or_default()
    }

    fn output_path(&self, server: usize) -> PathBuf {
        self.folder.path().join(format!("server-{server}.log"))
    }

    fn arguments(&self, server: usize) -> Vec<OsString> {
        let own = &self.servers[server];
        let mut arguments = vec![
            format!("--addr=127.0.0.1"),
            format!("--port={}", own.port),
            format!("--http_port={}", own.monitor_port),
            format!("--name=server-{server}"),
        ];
        if self.servers.len() > 1 {
            let all = self.servers.iter();
            let routes: Vec<String> = all.map(Server::route).collect();
            arguments.extend([
                "--cluster_name=tidings-test".to_owned(),
                format!("--cluster={}", own.route()),
                format!("--routes={}", routes.join(",")),
            ]);
        }
        arguments.into_iter().map(OsString::from).collect()
    }

    fn is_ready(&mut self, server: usize) -> io::Result<bool> {
        let mut others = 0;
        for (index, other) in self.servers.iter_mut().enumerate() {
            let process = other.process.as_mut();
            others += usize::from(index != server && process.is_some_and(Process::is_at_work));
        }
        let own = &self.servers[server];
        let mut greeting = [0; 5];
        connect(own.port)?.read_exact(&mut greeting)?;
        let routes = own.routes()?;
        let complete = routes.values().filter(|&&count| count >= ROUTES_PER_SERVER);
        Ok(&greeting == b"INFO " && complete.count() >= others)
    }
}

impl Server {
    fn route(&self) -> String {
        format!("nats://127.0.0.1:{}", self.route_port)
    }

    /// How many connections it has to each other server, by that one's id.
    fn routes(&self) -> io::Result<BTreeMap<String, usize>> {
        let mut stream = connect(self.monitor_port)?;
        // HTTP/1.0: the body ends with the connection.
        stream.write_all(b"GET /routez HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").unwrap_or_default().1;
        let body: serde_json::Value = serde_json::from_str(body)?;
        let mut routes = BTreeMap::new();
        for route in body["routes"].as_array().into_iter().flatten() {
            let id = route["remote_id"].as_str().unwrap_or_default();
            *routes.entry(id.to_owned()).or_insert(0) += 1;
        }
        Ok(routes)
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(stream)
}

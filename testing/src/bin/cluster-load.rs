//! What a cluster costs: the same conversations on the embedded store, and on Cassandra with one server and with three.
//! Prints a table, and for each row the load generator's own report with `--json`.
//!
//! ```text
//! cargo build --release -p tidings-server -p tidings-load -p tidings-testing
//! target/release/cluster-load --seconds 20
//! ```
//!
//! Everything runs on this machine at once, the generator too: what a message costs is to be compared, not how many
//! there were in a second.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program for developers: a failed expectation ends it"
)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tidings_load::process::{Processes, disk_bytes};
use tidings_testing::cassandra::Cassandra;
use tidings_testing::cluster::{Cluster, Ground};
use tidings_testing::server::Server;

/// What a generator may do that real people on many addresses may, too.
const WIDE: [(&str, &str); 4] = [
    ("log.filter", "\"warn,scylla=error\""),
    ("sessions.heartbeat_ms", "30000"),
    ("limits.address_connections_max", "100000"),
    ("users.address_sign_ups_burst_max", "100000"),
];
const EMBEDDED: &str = "1 server, embedded store";
/// So slow that nobody waits for anybody else.
const CALM_RATE: &str = "40";

struct Options {
    seconds: String,
    pairs: String,
    warm_up: String,
    /// Only the set-ups whose names hold this.
    only: String,
    json: bool,
}

/// What one set-up did.
struct Row {
    name: &'static str,
    busy: Value,
    calm: Value,
    /// Per message, of all nodes together: µs of CPU, bytes in tables.
    cassandra: Option<[f64; 2]>,
}

fn main() {
    let mut options = Options {
        seconds: "20".to_owned(),
        pairs: "16".to_owned(),
        warm_up: "60".to_owned(),
        only: String::new(),
        json: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => options.seconds = words.next().expect("--seconds N"),
            "--pairs" => options.pairs = words.next().expect("--pairs N"),
            "--warm-up-seconds" => options.warm_up = words.next().expect("--warm-up-seconds N"),
            "--only" => options.only = words.next().expect("--only TEXT"),
            "--json" => options.json = true,
            _ => panic!(
                "cluster-load [--seconds N] [--pairs N] [--warm-up-seconds N] [--only TEXT] [--json]"
            ),
        }
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    print_head();
    if EMBEDDED.contains(&options.only) {
        show(&options, &runtime.block_on(embedded(&options)));
    }
    for (name, nodes, servers) in [
        ("1 server, 1 Cassandra node", 1, 1),
        ("1 server, 3 Cassandra nodes", 3, 1),
        ("3 servers, 3 Cassandra nodes", 3, 3),
    ] {
        if !name.contains(&options.only) {
            continue;
        }
        let cassandra = Cassandra::start(nodes);
        let row = runtime.block_on(clustered(&options, name, &cassandra, servers));
        show(&options, &row);
    }
}

async fn embedded(options: &Options) -> Row {
    let server = Server::start_with(&WIDE).await;
    Row {
        name: EMBEDDED,
        busy: load(options, &[&server], &[]),
        calm: load(
            options,
            &[&server],
            &["--mode", "open", "--rate", CALM_RATE],
        ),
        cassandra: None,
    }
}

async fn clustered(
    options: &Options,
    name: &'static str,
    cassandra: &Cassandra,
    servers: usize,
) -> Row {
    let ground = Ground {
        contact_points: cassandra.contact_points(),
        replication: u8::try_from(cassandra.pids().len()).unwrap(),
        nats: if servers > 1 { 3 } else { 1 },
    };
    let cluster = Cluster::start("cluster-load", servers, &ground, &WIDE).await;
    let servers: Vec<&Server> = cluster.worlds.iter().map(|world| &world.server).collect();
    let nodes = Processes::new(cassandra.pids());
    // The virtual machine compiles what is often used: not part of what a message costs.
    load(options, &servers, &["--warm-up-seconds", &options.warm_up]);
    let tables = table_bytes(cassandra, &cluster.keyspace.name);
    let cpu = nodes.cpu().unwrap();
    let busy = load(options, &servers, &["--warm-up-seconds", "0"]);
    let cpu = nodes.cpu().unwrap().saturating_sub(cpu);
    let messages = busy["messages"].as_f64().unwrap();
    let grown = table_bytes(cassandra, &cluster.keyspace.name).saturating_sub(tables);
    let calm = load(options, &servers, &["--mode", "open", "--rate", CALM_RATE]);
    Row {
        name,
        busy,
        calm,
        cassandra: Some([cpu.as_secs_f64() * 1e6 / messages, grown as f64 / messages]),
    }
}

/// Plays pairs that write to each other, the two of a pair at different servers.
fn load(options: &Options, servers: &[&Server], more: &[&str]) -> Value {
    let own = std::env::current_exe().unwrap();
    let joined = |words: Vec<String>| words.join(",");
    let addresses = servers
        .iter()
        .map(|server| format!("http://127.0.0.1:{}", server.port));
    let pids = servers
        .iter()
        .map(|server| server.process().unwrap().to_string());
    let output = Command::new(own.with_file_name("tidings-load"))
        .args(["chat", "--json", "--seconds", &options.seconds])
        .args(["--pairs", &options.pairs])
        .args(["--server", &joined(addresses.collect())])
        .args(["--server-pid", &joined(pids.collect())])
        .args(more)
        .output()
        .expect("tidings-load is built beside this program");
    let said = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|error| {
        panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr))
    });
    assert!(output.status.success(), "{report:#}");
    report
}

/// Bytes of a keyspace's tables on all nodes, with what was only in memory.
fn table_bytes(cassandra: &Cassandra, keyspace: &str) -> u64 {
    let nodes = 0..cassandra.pids().len();
    nodes
        .map(|node| {
            let _ = cassandra.nodetool(node, &["flush", keyspace]);
            let data = cassandra.data_folder(node).unwrap();
            disk_bytes(&Path::new(&data).join("data").join(keyspace))
        })
        .sum()
}

fn print_head() {
    println!(
        "{:<30} {:>9} {:>10} {:>9} {:>9} {:>11} {:>10}",
        "", "messages", "server µs", "calm p50", "calm p99", "Cassandra", "bytes"
    );
    println!(
        "{:<30} {:>9} {:>10} {:>9} {:>9} {:>11} {:>10}",
        "", "per s", "per msg", "ms", "ms", "µs per msg", "per msg"
    );
}

fn show(options: &Options, row: &Row) {
    let number = |report: &Value, name: &str| report[name].as_f64().unwrap_or(f64::NAN);
    let [cpu, bytes] = row.cassandra.unwrap_or([f64::NAN; 2]);
    println!(
        "{:<30} {:>9.0} {:>10.0} {:>9.2} {:>9.2} {:>11.0} {:>10.0}",
        row.name,
        number(&row.busy, "messages_per_s"),
        number(&row.busy, "server_cpu_us_per_message"),
        number(&row.calm, "send_to_sent_p50_ms"),
        number(&row.calm, "send_to_sent_p99_ms"),
        cpu,
        bytes,
    );
    if options.json {
        println!("busy: {}\ncalm: {}", row.busy, row.calm);
    }
}

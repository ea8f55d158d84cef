//! Every scenario, small, against a server that is started for it. It needs the program `tidings` of the same
//! build: `./test` builds it first, and `TIDINGS_BIN` names another one.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;

use clap::Parser;
use tidings_load::args::Args;
use tidings_load::report::Report;

fn program() -> PathBuf {
    let program = match std::env::var_os("TIDINGS_BIN") {
        Some(program) => PathBuf::from(program),
        None => {
            // target/<profile>/deps/<this test>
            let test = std::env::current_exe().unwrap();
            let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
            profile.join(format!("tidings{}", std::env::consts::EXE_SUFFIX))
        }
    };
    assert!(
        program.exists(),
        "{} is not there: build it with `cargo build -p tidings-server`, or set TIDINGS_BIN",
        program.display()
    );
    program
}

/// Plays a scenario and checks that nothing was wrong.
fn play(arguments: &str) -> Report {
    let program = program();
    let before = ["tidings-load", "--spawn", program.to_str().unwrap()];
    let line = before.into_iter().chain(arguments.split_whitespace());
    let report = tidings_load::run(&Args::parse_from(line)).unwrap();
    assert!(report.faults().is_empty(), "{}", report.table());
    report
}

fn number(report: &Report, name: &str) -> f64 {
    let value = report.get(name).and_then(|value| value.as_f64());
    value.unwrap_or_else(|| panic!("no number {name} in\n{}", report.table()))
}

#[test]
fn pairs_chat_in_a_closed_loop() {
    for encoding in ["short", "cbor", "json"] {
        let report = play(&format!(
            "chat --pairs 4 --until read --pipeline 2 --seconds 0.5 --warm-up-seconds 0.1 --encoding {encoding}"
        ));
        assert!(number(&report, "messages") > 0.0);
        assert!(number(&report, "send_to_read_p99_ms") >= number(&report, "send_to_read_p50_ms"));
        assert!(number(&report, "server_resident_bytes") > 0.0);
        assert!(number(&report, "disk_bytes_per_message") > 0.0);
    }
}

#[test]
fn pairs_chat_by_appointment_on_several_threads() {
    let report = play(
        "chat --connections 12 --partners 2 --mode open --rate 200 --threads 3 --seconds 0.5 --warm-up-seconds 0",
    );
    // Every appointment was kept, up to those whose answer came after the end.
    assert!(number(&report, "messages") >= 10.0);
    assert!(report.get("generator_lag_p99_ms").is_some());
}

#[test]
fn idle_sessions_are_weighed_and_keep_their_heartbeat() {
    let report = play(
        "idle --sessions 20 --seconds 1 --heartbeat-ms 300 --set sessions.heartbeat_ms_min=100",
    );
    assert!(number(&report, "heartbeats") >= 20.0);
    assert!(report.get("server_resident_bytes_per_session").is_some());
    assert!(number(&report, "ping_to_pong_p99_ms") > 0.0);
}

#[test]
fn a_group_receives_everything() {
    let report = play(
        "fanout --members 40 --senders 4 --pipeline 2 --seconds 0.5 --warm-up-seconds 0.1 --threads 2 --acknowledge-after-ms 50",
    );
    assert!(number(&report, "deliveries") > number(&report, "messages"));
}

#[test]
fn devices_come_back_to_all_that_waited() {
    let report = play("offline --devices 30 --waiting 20 --senders 4 --page 7");
    assert_eq!(number(&report, "messages"), 600.0);
    assert_eq!(number(&report, "devices_level"), 30.0);
}

#[test]
fn pages_come_compressed_if_asked_for() {
    let bytes = |more: &str| {
        let report = play(&format!(
            "offline --devices 4 --waiting 60 --senders 2 --encoding json --set sessions.compress_from_bytes=1024 {more}"
        ));
        number(&report, "wire_down_bytes_per_message")
    };
    assert!(bytes("--compress") < bytes("") / 2.0);
}

//! `tidings send` and `tidings tail` as scripts use them.
#![allow(
    clippy::unwrap_used,
    reason = "a failed expectation is how a test speaks"
)]

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tidings_testing::server::{Server, program};

struct Scripts {
    server: Server,
    home: TempDir,
}

impl Scripts {
    async fn start() -> Scripts {
        let scripts = Scripts {
            server: Server::start().await,
            home: TempDir::new().unwrap(),
        };
        for name in ["ana", "ben"] {
            scripts.run(name, &["tail", "--sign-up", "--once"]);
        }
        scripts
    }

    fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(args)
            .env(
                "TIDINGS_SERVER",
                format!("http://127.0.0.1:{}", self.server.port),
            )
            .env("TIDINGS_USER", name)
            .env("TIDINGS_PASSWORD", "correct-horse")
            .env("TIDINGS_HOME", self.home.path())
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, name: &str, args: &[&str]) -> String {
        text(&self.command(name, args).output().unwrap())
    }
}

fn text(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What is printed behind the time.
fn said(output: &str) -> Vec<&str> {
    output.lines().filter_map(|line| line.get(20..)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_goes_on_where_it_was() {
    let scripts = Scripts::start().await;
    scripts.run("ana", &["send", "--to", "ben", "one"]);
    scripts.run("ana", &["send", "--to", "@ben", "two\nlines \u{1b}[31m"]);
    let first = scripts.run("ben", &["tail", "--once", "--from-start"]);
    assert_eq!(said(&first), ["ana: one", "ana: two lines ␛[31m"]);
    for transport in ["ws", "poll", "auto"] {
        scripts.run("ana", &["send", "--to", "ben", transport]);
        let next = scripts.run("ben", &["tail", "--once", "--transport", transport]);
        assert_eq!(said(&next), [format!("ana: {transport}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn send_says_what_went_wrong() {
    let scripts = Scripts::start().await;
    let nobody = scripts
        .command("ana", &["send", "--to", "nobody", "one"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    let error = String::from_utf8(nobody.stderr).unwrap();
    assert!(error.contains("there is no user nobody"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn send_outlives_a_server_that_is_away() {
    let mut scripts = Scripts::start().await;
    scripts.server.kill();
    let args = [
        "send",
        "--to",
        "ben",
        "--json",
        "--timeout",
        "60",
        "patience",
    ];
    let sending = scripts
        .command("ana", &args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    scripts.server.start_again().await;
    let sent: serde_json::Value =
        serde_json::from_str(&text(&sending.wait_with_output().unwrap())).unwrap();
    // The same once more makes no second message.
    let client_id = sent["client_id"].as_str().unwrap();
    let again = scripts.run(
        "ana",
        &[
            "send",
            "--to",
            "ben",
            "--json",
            "--client-id",
            client_id,
            "patience",
        ],
    );
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&again).unwrap(),
        sent
    );
    let received = scripts.run("ben", &["tail", "--once", "--from-start"]);
    assert_eq!(said(&received), ["ana: patience"]);

    scripts.server.kill();
    let late = scripts
        .command("ana", &["send", "--to", "ben", "--timeout", "1", "late"])
        .output()
        .unwrap();
    assert_eq!(late.status.code(), Some(75));
}

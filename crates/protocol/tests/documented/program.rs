//! What the server's program says of itself: its addresses and settings.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::types::WireType;
use super::{Page, top};

/// The gateway's table of addresses, read from its source: this crate cannot depend on the server.
pub(crate) fn routes(
    types: &BTreeMap<String, WireType>,
    homes: &BTreeMap<String, String>,
    page: &Page,
) -> String {
    let name = "crates/server/src/gateway/routes.rs";
    let source = std::fs::read_to_string(top().join(name)).unwrap();
    let (_, table) = source.split_once("vec![").unwrap();
    let (table, _) = table.split_once("\n    ]\n").unwrap();
    // One item begins where a line begins with a method.
    let mut items: Vec<String> = Vec::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let begins = ["get(", "post(", "put(", "patch(", "delete("]
            .iter()
            .any(|method| line.starts_with(method));
        match items.last_mut() {
            Some(item) if !begins => item.push_str(line),
            _ => items.push(line.to_owned()),
        }
    }
    let of = |item: &str, call: &str| {
        let (_, rest) = item.split_once(call)?;
        let (kind, _) = rest.split_once(">()")?;
        let kind = kind.rsplit("::").next().unwrap_or(kind);
        let home = homes.get(kind).filter(|_| types.contains_key(kind))?;
        let file = if *home == page.name {
            ""
        } else {
            home.rsplit('/').next().unwrap_or_default()
        };
        Some(format!("[{kind}]({file}#{})", kind.to_lowercase()))
    };
    let mut text =
        String::from("| address | what it does | takes | answers |\n|---|---|---|---|\n");
    for item in &items {
        let (method, _) = item.split_once('(').unwrap();
        let quoted: Vec<&str> = item.split('"').skip(1).step_by(2).collect();
        let [path, summary, ..] = quoted.as_slice() else {
            panic!("{name}: {item}");
        };
        let or_none = |found: Option<String>| found.unwrap_or_default();
        let open = if item.contains(".open()") {
            " (no token)"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "| `{} {path}` | {summary}{open} | {} | {} |",
            method.to_uppercase(),
            or_none(of(item, ".takes::<")),
            or_none(of(item, ".answers::<"))
        );
    }
    assert!(items.len() > 20, "{name} has another form");
    text
}

/// What `tidings config` prints. `./test` builds the program before it runs the tests.
pub(crate) fn settings() -> Option<String> {
    let test = std::env::current_exe().unwrap();
    let program = test.parent()?.parent()?.join("tidings");
    if !program.exists() {
        return None;
    }
    let mut command = std::process::Command::new(&program);
    // Nobody's settings but the defaults.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDINGS_") {
            command.env_remove(name);
        }
    }
    let output = command.arg("config").output().unwrap();
    assert!(
        output.status.success(),
        "{} config: {output:?}",
        program.display()
    );
    let text = String::from_utf8(output.stdout).unwrap();
    Some(format!("```toml\n{text}```\n"))
}

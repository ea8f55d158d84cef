//! Holds `docs/` against the code: every example is read with the types, every table is made from
//! them, every frame, action and kind of entry has an example, every number in CBOR is for ever.
//!
//! `UPDATE_EXPECT=1 cargo test -p tidings-protocol` brings generated tables and snapshots up to date;
//! it never takes a number back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks, also in its helpers"
)]

mod documented;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use documented::examples::{Example, examples_of};
use documented::types::{self, WireType};
use documented::{Page, generated, page, pages_under, top, updating};
use expect_test::expect_file;

fn protocol_pages() -> Vec<Page> {
    pages_under("docs/protocol")
}

fn type_of<'a>(types: &'a BTreeMap<String, WireType>, example: &Example) -> &'a WireType {
    let name = match example.is.as_str() {
        "client" => "ClientFrame",
        "server" => "ServerFrame",
        name => name,
    };
    types
        .get(name)
        .unwrap_or_else(|| panic!("{}: there is no type {name}", example.at))
}

#[test]
fn examples_are_what_they_say_in_json_and_in_cbor() {
    let types = types::all();
    let examples = examples_of(&protocol_pages());
    assert!(!examples.is_empty());
    let faults: Vec<String> = examples
        .iter()
        .filter_map(|example| {
            let fault = type_of(&types, example).check(&example.text).err()?;
            Some(format!("{}: {fault}", example.at))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_frame_has_an_example() {
    let examples = examples_of(&protocol_pages());
    for (is, frames) in [
        ("client", types::client_frame()),
        ("server", types::server_frame()),
    ] {
        let shown: BTreeSet<String> = examples
            .iter()
            .filter(|example| example.is == is)
            .map(Example::frame)
            .collect();
        let missing: Vec<_> = frames
            .shape
            .names()
            .iter()
            .filter(|name| !shown.contains(**name))
            .collect();
        assert!(
            missing.is_empty(),
            "{is} frames without an example: {missing:?}"
        );
    }
}

#[test]
fn every_action_has_an_example() {
    let shown: BTreeSet<String> = examples_of(&protocol_pages())
        .iter()
        .filter(|example| example.is == "client")
        .filter_map(|example| {
            let action = example.value().get("send")?.get("action")?.clone();
            action.as_object()?.keys().next().cloned()
        })
        .collect();
    for name in types::all()["Action"].shape.names() {
        assert!(shown.contains(*name), "the action {name} has no example");
    }
}

#[test]
fn every_kind_of_entry_has_an_example() {
    let shown: BTreeSet<String> = examples_of(&protocol_pages())
        .iter()
        .filter(|example| example.is == "Entry")
        .filter_map(|example| Some(example.value().get("kind")?.as_str()?.to_owned()))
        .collect();
    for number in 1..=u8::MAX {
        let kind = tidings_core::Kind::from_number(number);
        if matches!(kind, tidings_core::Kind::Unknown(_)) {
            break;
        }
        let name = serde_json::to_value(tidings_protocol::entry::Kind(kind)).unwrap();
        let name = name.as_str().unwrap();
        assert!(shown.contains(name), "the kind {name} has no example");
    }
}

#[test]
fn every_body_over_http_has_an_example() {
    let shown: BTreeSet<String> = examples_of(&protocol_pages())
        .into_iter()
        .map(|example| example.is)
        .collect();
    for name in [
        "SignUp",
        "LogIn",
        "LoggedIn",
        "Me",
        "ProfileChange",
        "PasswordChange",
        "Devices",
        "Blocks",
        "Problem",
    ] {
        assert!(shown.contains(name), "the body {name} has no example");
    }
}

#[test]
fn tables_are_what_the_code_says() {
    let pages = protocol_pages();
    let types = types::all();
    let homes = generated::homes(&pages);
    for page in &pages {
        generated::hold(page, |name| {
            Some(generated::of_protocol(name, &types, &homes, page))
        });
    }
    let missing = generated::missing(&types, &homes);
    assert!(missing.is_empty(), "no page describes {missing:?}");
}

#[test]
fn settings_are_what_the_code_says() {
    for page in pages_under("docs/operations") {
        generated::hold(&page, |name| generated::of_operations(name, &page));
    }
}

/// One example of each frame, byte by byte.
#[test]
fn bytes_in_cbor() {
    let types = types::all();
    let mut seen = BTreeSet::new();
    let mut text = String::new();
    for example in examples_of(&protocol_pages()) {
        if !matches!(example.is.as_str(), "client" | "server") {
            continue;
        }
        let name = format!("{} {}", example.is, example.frame());
        let bytes = type_of(&types, &example).check(&example.text).unwrap();
        if seen.insert(name.clone()) {
            let _ = writeln!(text, "{name}");
            for line in bytes.chunks(32) {
                let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
                let _ = writeln!(text, "  {hex}");
            }
        }
    }
    expect_file!["snapshots/cbor.txt"].assert_eq(&text);
}

/// What once had a number keeps it: the names in `numbers.txt` are the first of each type today, in the
/// same order. New names and types are appended by `UPDATE_EXPECT=1`; nothing is ever taken out.
#[test]
fn numbers_are_for_ever() {
    let path = top().join("crates/protocol/tests/snapshots/numbers.txt");
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    let types = types::all();
    let mut known = BTreeSet::new();
    for line in recorded.lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let names: Vec<&str> = words.collect();
        let wire = types.get(name).unwrap_or_else(|| panic!("{name} is gone"));
        let today = wire.shape.names();
        assert!(
            today.starts_with(&names),
            "{name} was {names:?} and is {today:?}: new ones go last, none is moved or renamed"
        );
        known.insert(name.to_owned());
    }
    let mut text = String::new();
    for (name, wire) in &types {
        let _ = writeln!(
            text,
            "{}",
            [&[name.as_str()], wire.shape.names()].concat().join(" ")
        );
    }
    if updating() {
        std::fs::write(&path, text).unwrap();
    } else {
        assert!(
            text == recorded,
            "new numbers: record them with UPDATE_EXPECT=1"
        );
    }
}

/// Every page of the documentation, wherever it is.
fn all_pages() -> Vec<Page> {
    let mut pages = pages_under("docs");
    pages.extend(["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(page));
    pages
}

#[test]
fn links_lead_somewhere() {
    let mut faults = Vec::new();
    for page in all_pages() {
        let folder = page.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in links_of(&page.text) {
            // The picture is made from the terminal client itself.
            if link.contains("://") || link == "docs/images/terminal.svg" {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() {
                top().join(&page.name)
            } else {
                top().join(folder).join(file)
            };
            if !path.exists() {
                faults.push(format!("{}: {link}", page.name));
            } else if !anchor.is_empty() && path.extension().is_some_and(|ext| ext == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                if !anchors_of(&text).contains(anchor) {
                    faults.push(format!("{}: {link} has no such heading", page.name));
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "links that lead nowhere:\n{}",
        faults.join("\n")
    );
}

/// Files and folders that a page names in code style, with the folder they are in, are there.
#[test]
fn files_that_are_named_are_there() {
    let mut faults = Vec::new();
    for page in all_pages() {
        for code in page.text.split('`').skip(1).step_by(2) {
            let path = code.split_once("::").map_or(code, |(path, _)| path);
            let named = ["crates/", "docs/", "scripts/", "testing/"]
                .iter()
                .any(|folder| path.starts_with(folder));
            let plain = path
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if named && plain && !top().join(path).exists() {
                faults.push(format!("{}: {path}", page.name));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "files that are not there:\n{}",
        faults.join("\n")
    );
}

/// The targets of `[text](target)`.
fn links_of(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        let parts = line.split("](").skip(1);
        links.extend(parts.filter_map(|part| part.split_once(')').map(|(link, _)| link)));
    }
    links
}

/// Headings as GitHub makes anchors of them, and explicit ones.
fn anchors_of(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        if let Some(id) = line
            .strip_prefix("<a id=\"")
            .and_then(|rest| rest.split_once('"'))
        {
            anchors.insert(id.0.to_owned());
        }
        if let Some(heading) = line.strip_prefix('#') {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c });
            anchors.insert(kept.collect());
        }
    }
    anchors
}

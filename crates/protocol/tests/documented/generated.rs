//! Parts of the documentation that are made from the code: everything between `<!-- generated NAME -->`
//! and `<!-- end -->`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use tidings_core::Kind;
use tidings_core::conversation::Limits;
use tidings_protocol::problem::Problem;
use tidings_protocol::{Code, Retry};

use super::types::{self, SCALARS, Shape, WireType};
use super::{Page, program, reckoned, top, updating};

const OPENING: &str = "<!-- generated ";
const CLOSING: &str = "<!-- end -->";

/// The names of the generated parts of a page.
pub(crate) fn names_in(page: &Page) -> Vec<&str> {
    let names = page.text.lines().filter_map(|line| {
        line.strip_prefix(OPENING)
            .and_then(|rest| rest.strip_suffix(" -->"))
    });
    names.collect()
}

/// Compares the generated parts of a page with what they should be, or brings them up to date.
/// A part that cannot be made now (`None`) is left as it is.
pub(crate) fn hold(page: &Page, make: impl Fn(&str) -> Option<String>) {
    let mut text = String::new();
    let mut lines = page.text.lines();
    while let Some(line) = lines.next() {
        let _ = writeln!(text, "{line}");
        let Some(name) = line
            .strip_prefix(OPENING)
            .and_then(|rest| rest.strip_suffix(" -->"))
        else {
            continue;
        };
        let mut now = String::new();
        loop {
            match lines.next() {
                Some(CLOSING) => break,
                Some(line) => {
                    let _ = writeln!(now, "{line}");
                }
                None => panic!("{}: {name} has no end", page.name),
            }
        }
        let _ = writeln!(text, "{}{CLOSING}", make(name).unwrap_or(now));
    }
    if text == page.text {
        return;
    }
    if updating() {
        std::fs::write(top().join(&page.name), text).unwrap();
        return;
    }
    let differing = text.lines().zip(page.text.lines()).find(|(a, b)| a != b);
    panic!(
        "{} is not what the code says: {differing:#?}\nUPDATE_EXPECT=1 cargo test -p tidings-protocol brings it up to date",
        page.name
    );
}

/// The generated parts of `docs/protocol`. `homes` says on which page each type is described.
pub(crate) fn of_protocol(
    name: &str,
    types: &BTreeMap<String, WireType>,
    homes: &BTreeMap<String, String>,
    page: &Page,
) -> String {
    let (what, rest) = name.split_once(' ').unwrap_or((name, ""));
    match what {
        "type" => {
            let wire = types
                .get(rest)
                .unwrap_or_else(|| panic!("{}: no type {rest}", page.name));
            table(wire, homes, page)
        }
        "codes" => codes(),
        "kinds" => kinds(),
        "digest" => reckoned::digest_examples(),
        "short-hash" => reckoned::short_hash_example(),
        "handles" => reckoned::handle_examples(),
        "direct-id" => reckoned::direct_id_example(),
        "limits" => limits(),
        "cbor" => reckoned::cbor_examples(types),
        "routes" => program::routes(types, homes, page),
        _ => panic!("{}: nothing is generated as {name}", page.name),
    }
}

/// Number, name, type and meaning of each field or variant.
fn table(wire: &WireType, homes: &BTreeMap<String, String>, page: &Page) -> String {
    let mut text = format!("<a id=\"{}\"></a>\n\n", wire.name.to_lowercase());
    let names = wire.shape.names();
    match &wire.shape {
        Shape::Fields(_) if names.is_empty() => text.push_str("No fields.\n"),
        Shape::Fields(_) => {
            text.push_str("| # | field | type | meaning |\n|--:|---|---|---|\n");
            let required: Vec<&str> = wire.schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            for (number, name) in names.iter().enumerate() {
                let schema = &wire.schema["properties"][name];
                let optional = if required.contains(name) {
                    ""
                } else {
                    ", optional"
                };
                let kind = type_of(schema, homes, page);
                let meaning = meaning(schema);
                let _ = writeln!(
                    text,
                    "| {number} | `{name}` | {kind}{optional} | {meaning} |"
                );
            }
        }
        Shape::Variants(_) => {
            text.push_str("| # | name | content | meaning |\n|--:|---|---|---|\n");
            for (number, name) in names.iter().enumerate() {
                let (schema, content) = variant(&wire.schema, name);
                let content =
                    content.map_or("–".to_owned(), |content| type_of(content, homes, page));
                let _ = writeln!(
                    text,
                    "| {number} | `{name}` | {content} | {} |",
                    meaning(schema)
                );
            }
        }
    }
    text.push('\n');
    text
}

/// A variant's schema, and that of its content if it has some.
fn variant<'a>(schema: &'a Value, name: &str) -> (&'a Value, Option<&'a Value>) {
    let all = schema["oneOf"].as_array().into_iter().flatten();
    for one in all {
        if one["const"] == name
            || one["enum"]
                .as_array()
                .is_some_and(|all| all.iter().any(|n| n == name))
        {
            return (one, None);
        }
        if let Some(content) = one["properties"].get(name) {
            return (one, Some(content));
        }
    }
    panic!("no variant {name} in {schema:#}");
}

fn meaning(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

/// A type in words, with a link to where it is described.
fn type_of(schema: &Value, homes: &BTreeMap<String, String>, page: &Page) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        if SCALARS.contains(&name) {
            let here = if page.name.ends_with("/README.md") {
                ""
            } else {
                "README.md"
            };
            return format!("[{name}]({here}#values)");
        }
        let home = homes.get(name).map_or("", String::as_str);
        let file = home.rsplit('/').next().unwrap_or_default();
        let here = if home == page.name { "" } else { file };
        return format!("[{name}]({here}#{})", name.to_lowercase());
    }
    if let Some(either) = schema["anyOf"].as_array() {
        let one = either.iter().find(|one| one["type"] != "null");
        return one.map_or_else(String::new, |one| type_of(one, homes, page));
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.as_str(),
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null")
            .unwrap_or_default(),
        _ => "",
    };
    match kind {
        "integer" => "number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "string" => "text".to_owned(),
        "array" => format!("list of {}", type_of(&schema["items"], homes, page)),
        "object" => "the type's own fields".to_owned(),
        other => panic!("no words for {other:?}: {schema:#}"),
    }
}

fn codes() -> String {
    let mut text = String::from("| code | status | retry | what it says |\n|---|--:|---|---|\n");
    for &code in Code::ALL {
        let problem = Problem::new(code);
        let retry = match problem.retry {
            Retry::Never => "never",
            Retry::Later => "later",
            Retry::CatchUp => "catch_up",
            Retry::Reconnect => "reconnect",
            Retry::LogIn => "log_in",
        };
        let _ = writeln!(
            text,
            "| `{}` | {} | `{retry}` | {} |",
            code.name(),
            problem.status,
            problem.title
        );
    }
    text
}

fn kinds() -> String {
    let mut text = String::from("| number in CBOR | kind in JSON |\n|--:|---|\n");
    for number in 1..=u8::MAX {
        let kind = Kind::from_number(number);
        if matches!(kind, Kind::Unknown(_)) {
            break;
        }
        let name = serde_json::to_string(&tidings_protocol::entry::Kind(kind)).unwrap();
        let _ = writeln!(text, "| {number} | `{}` |", name.trim_matches('"'));
    }
    text
}

fn limits() -> String {
    let limits = Limits::default();
    let all = [
        (
            "text_chars_max",
            limits.text_chars_max as u64,
            "Unicode scalar values of a message's text",
        ),
        (
            "opaque_bytes_max",
            limits.opaque_bytes_max as u64,
            "bytes of opaque content",
        ),
        (
            "attachments_max",
            limits.attachments_max as u64,
            "attachments of one message",
        ),
        (
            "mentions_max",
            limits.mentions_max as u64,
            "mentions in one message",
        ),
        (
            "group_members_max",
            u64::from(limits.group_members_max),
            "members of a group",
        ),
        (
            "name_chars_max",
            limits.name_chars_max as u64,
            "Unicode scalar values of a name",
        ),
        (
            "description_chars_max",
            limits.description_chars_max as u64,
            "Unicode scalar values of a description",
        ),
        (
            "reference_bytes_max",
            limits.reference_bytes_max as u64,
            "bytes of a reference, file name or media type",
        ),
        (
            "emoji_bytes_max",
            limits.emoji_bytes_max as u64,
            "bytes of a reaction's emoji",
        ),
        (
            "reactions_per_member_max",
            limits.reactions_per_member_max as u64,
            "reactions of one member on one message",
        ),
        ("edits_max", limits.edits_max as u64, "edits of one message"),
    ];
    let mut text = String::from("| limit | default | of what |\n|---|--:|---|\n");
    for (name, value, meaning) in all {
        let _ = writeln!(text, "| `{name}` | {value} | {meaning} |");
    }
    text
}

/// The generated parts of `docs/operations`; `None` where the program that says it is not built.
pub(crate) fn of_operations(name: &str, page: &Page) -> Option<String> {
    match name {
        "settings" => program::settings(),
        // Held by the server's own tests.
        "metrics" => None,
        _ => panic!("{}: nothing is generated as {name}", page.name),
    }
}

/// On which page each type's table stands.
pub(crate) fn homes(pages: &[Page]) -> BTreeMap<String, String> {
    let mut homes = BTreeMap::new();
    for page in pages {
        for name in names_in(page) {
            if let Some(wire) = name.strip_prefix("type ") {
                let before = homes.insert(wire.to_owned(), page.name.clone());
                assert!(before.is_none(), "{wire} is described twice");
            }
        }
    }
    homes
}

/// The types that frames and bodies are made of but no page describes.
pub(crate) fn missing(
    types: &BTreeMap<String, WireType>,
    homes: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut names = types::names_in_schemas(types);
    names.extend(types.keys().cloned());
    names.retain(|name| !SCALARS.contains(&name.as_str()) && !homes.contains_key(name));
    names.into_iter().collect()
}

//! Parts of the documentation that are made from the code: everything between `<!-- generated NAME -->`
//! and `<!-- end -->`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use tidings_core::conversation::Limits;
use tidings_core::id::direct_id;
use tidings_core::{ConversationId, DeviceId, Envelope, Kind, Time, UserId, digest};
use tidings_protocol::problem::Problem;
use tidings_protocol::{Code, Retry};

use super::types::{self, SCALARS, Shape, WireType};
use super::{Page, top, updating};

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
        "digest" => digest_examples(),
        "short-hash" => short_hash_example(),
        "direct-id" => direct_id_example(),
        "limits" => limits(),
        "cbor" => cbor_examples(types),
        "routes" => routes(types, homes, page),
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

/// The people and conversations of the documentation.
fn ada() -> UserId {
    "u_01M7YZMHG0ADAADAADAADAADAA".parse().unwrap()
}

fn ben() -> UserId {
    "u_01M7YZMHG0BENBENBENBENBENB".parse().unwrap()
}

fn group() -> ConversationId {
    "c_01M7YZMHG0GRPGRPGRPGRPGRPG".parse().unwrap()
}

fn digest_examples() -> String {
    let (me, other, direct) = (ada(), ben(), direct_id(ada(), ben()));
    let mut text = String::from("```text\n");
    let _ = writeln!(
        text,
        "hash(\"head\", no bytes)     = 0x{:016x}",
        digest::hash(b"head", b"")
    );
    let _ = writeln!(
        text,
        "hash(\"head\", 01 02 03)     = 0x{:016x}",
        digest::hash(b"head", &[1, 2, 3])
    );
    let _ = writeln!(text);
    let _ = writeln!(text, "me      = {me}");
    let _ = writeln!(text, "other   = {other}");
    let _ = writeln!(
        text,
        "direct  = {direct}, head 7, my read mark 5, other's delivered 7, other's shown 4"
    );
    let _ = writeln!(
        text,
        "group   = {}, head 3, my read mark 3, other's delivered 0, other's shown 0",
        group()
    );
    let _ = writeln!(text);
    let parts = [
        ("head(direct, 7)            ", digest::head(direct, 7)),
        ("read(direct, me, 5)        ", digest::read(direct, me, 5)),
        (
            "delivered(direct, other, 7)",
            digest::delivered(direct, other, 7),
        ),
        (
            "shown(direct, other, 4)    ",
            digest::shown(direct, other, 4),
        ),
        ("head(group, 3)             ", digest::head(group(), 3)),
        ("read(group, me, 3)         ", digest::read(group(), me, 3)),
        (
            "delivered(group, other, 0) ",
            digest::delivered(group(), other, 0),
        ),
        (
            "shown(group, other, 0)     ",
            digest::shown(group(), other, 0),
        ),
    ];
    let mut sum = 0;
    for (name, part) in parts {
        let _ = writeln!(text, "{name} = {part}");
        sum = digest::add(sum, part);
    }
    let _ = writeln!(text, "digest                      = {sum}");
    text.push_str("```\n");
    text
}

/// The same frames in both encodings.
fn cbor_examples(types: &BTreeMap<String, WireType>) -> String {
    let mut text = String::from("```text\n");
    for (frames, json) in [
        ("ClientFrame", r#"{"ping":{"id":17}}"#),
        ("ServerFrame", r#"{"done":{"id":500}}"#),
        (
            "ServerFrame",
            r#"{"gone":{"conversation":"c_01M7YZMHG0GRPGRPGRPGRPGRPG","seq":20}}"#,
        ),
        (
            "ClientFrame",
            r#"{"typing":{"conversation":"c_01M7YZMHG0GRPGRPGRPGRPGRPG","on":true}}"#,
        ),
    ] {
        let bytes = types[frames].check(json).unwrap();
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(text, "{json}");
        for line in hex.chunks(24) {
            let _ = writeln!(text, "    {}", line.join(" "));
        }
    }
    text.push_str("```\n");
    text
}

/// The gateway's table of addresses, read from its source: this crate cannot depend on the server.
fn routes(
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

fn short_hash_example() -> String {
    let envelope = Envelope {
        seq: 7,
        kind: Kind::Message,
        rules: 1,
        author: ben(),
        device: DeviceId([0; 16]),
        at: Time(1_795_262_400_007),
        client_id: tidings_core::ClientId([0; 16]),
        target: None,
        lane: 0,
        expires: None,
        epoch: 0,
        counts: true,
        ordinal: 6,
    };
    format!(
        "```text\nseq 7, at {} ({}), ordinal 6, kind message (2), author {}\nshort hash = {}\n```\n",
        envelope.at,
        envelope.at.0,
        envelope.author,
        envelope.short_hash()
    )
}

fn direct_id_example() -> String {
    format!(
        "```text\n{}\n{}\n{}\n```\n",
        ada(),
        ben(),
        direct_id(ada(), ben())
    )
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
        "settings" => settings(),
        "metrics" => Some(metrics()),
        _ => panic!("{}: nothing is generated as {name}", page.name),
    }
}

/// What `tidings config` prints. `./test` builds the program before it runs the tests.
fn settings() -> Option<String> {
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

/// The metrics, read from their source: this crate cannot depend on the server.
fn metrics() -> String {
    let name = "crates/server/src/metrics.rs";
    let source = std::fs::read_to_string(top().join(name)).unwrap();
    let mut text = String::from("| metric | kind | what it says |\n|---|---|---|\n");
    let mut count = 0;
    for item in source.split("registry.register").skip(1) {
        let has_unit = item.starts_with("_with_unit(");
        let quoted: Vec<&str> = item.split('"').skip(1).step_by(2).take(2).collect();
        let (_, field) = item.split_once("self.").unwrap();
        let (field, _) = field.split_once('.').unwrap();
        let [metric, help] = quoted.as_slice() else {
            panic!("{name}: {item}");
        };
        let declared = source
            .lines()
            .find_map(|line| line.trim().strip_prefix(field)?.strip_prefix(": "))
            .unwrap_or_else(|| panic!("{name}: no field {field}"));
        let (kind, suffix) = match declared.trim_end_matches(',') {
            kind if kind.starts_with("Gauge") => ("gauge", ""),
            kind if kind.starts_with("Counter") => ("counter", "_total"),
            _ => ("histogram", ""),
        };
        let unit = if has_unit { "_seconds" } else { "" };
        let _ = writeln!(
            text,
            "| `tidings_{metric}{unit}{suffix}` | {kind} | {help} |"
        );
        count += 1;
    }
    assert!(count > 5, "{name} has another form");
    text
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

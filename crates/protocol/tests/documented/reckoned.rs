//! Numbers to test a client's arithmetic with: the digest, the short hash, ids, CBOR.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tidings_core::id::direct_id;
use tidings_core::{ConversationId, DeviceId, Envelope, Generation, Kind, Time, UserId, digest};

use super::types::WireType;

pub(crate) fn digest_examples() -> String {
    let (me, other, direct) = (ada(), ben(), direct_id(ada(), ben()));
    let generation = Generation(group().0);
    let at = Time(1_795_262_400_007);
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
        "generation of both = {generation}, their last entries at {at}"
    );
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
        (
            "head(direct, 7)            ",
            digest::head(direct, generation, 7, at),
        ),
        ("read(direct, me, 5)        ", digest::read(direct, me, 5)),
        (
            "delivered(direct, other, 7)",
            digest::delivered(direct, other, 7),
        ),
        (
            "shown(direct, other, 4)    ",
            digest::shown(direct, other, 4),
        ),
        (
            "head(group, 3)             ",
            digest::head(group(), generation, 3, at),
        ),
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
pub(crate) fn cbor_examples(types: &BTreeMap<String, WireType>) -> String {
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

pub(crate) fn short_hash_example() -> String {
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

pub(crate) fn handle_examples() -> String {
    let generation = "01M7YZMHG0GENGENGENGENGENG".parse().unwrap();
    format!(
        "```text\n{}, generation {generation}: {}\n{}: {}\n```\n",
        group(),
        digest::handle(group(), generation),
        ben(),
        digest::user_handle(ben())
    )
}

pub(crate) fn direct_id_example() -> String {
    format!(
        "```text\n{}\n{}\n{}\n```\n",
        ada(),
        ben(),
        direct_id(ada(), ben())
    )
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

//! Prints what one envelope costs to write and to read, and its size: ours, two serde CBOR crates, and JSON.
//!
//! `cargo bench -p tidings-protocol --bench encoding`. One thread; the best and the middle of 41 rounds of 20,000 each.
//! "into" reuses the output vector, as a connection does.

use std::error::Error;
use std::fmt;
use std::hint::black_box;
use std::time::Instant;

use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidings_protocol::cbor;

const ROUNDS: usize = 41;
const REPEATS: u32 = 20_000;

/// Sixteen bytes, or 32 hexadecimal digits for people.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Id(u128);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&format_args!("{:032x}", self.0))
        } else {
            serializer.serialize_bytes(&self.0.to_be_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(IdVisitor)
        } else {
            deserializer.deserialize_bytes(IdVisitor)
        }
    }
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = Id;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an id")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
        u128::from_str_radix(text, 16).map(Id).map_err(E::custom)
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Id, E> {
        bytes
            .try_into()
            .map(u128::from_be_bytes)
            .map(Id)
            .map_err(E::custom)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Frame {
    Heartbeat,
    Entry(Envelope),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Envelope {
    conversation: Id,
    author: Id,
    sequence: u64,
    generation: u32,
    kind: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<u64>,
    /// Milliseconds since 1970.
    sent_at: u64,
    text: String,
}

/// Nanoseconds per call: the best round and the middle one.
fn nanoseconds(mut call: impl FnMut()) -> (f64, f64) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..REPEATS).for_each(|_| call());
            start.elapsed().as_nanos() as f64 / f64::from(REPEATS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let at = |index: usize| rounds.get(index).copied().unwrap_or_default();
    (at(0), at(ROUNDS / 2))
}

fn row<T, W: Error, R: Error>(
    name: &str,
    value: &T,
    write: impl Fn(&T) -> Result<Vec<u8>, W>,
    read: impl Fn(&[u8]) -> Result<T, R>,
) -> Result<(), Box<dyn Error>>
where
    T: Serialize + DeserializeOwned + PartialEq,
{
    let bytes = write(value).map_err(|error| error.to_string())?;
    if read(&bytes).map_err(|error| error.to_string())? != *value {
        return Err(format!("{name} reads something else").into());
    }
    let (write_best, write_middle) = nanoseconds(|| drop(black_box(write(black_box(value)))));
    let (read_best, read_middle) = nanoseconds(|| drop(black_box(read(black_box(&bytes)))));
    let size = bytes.len();
    println!(
        "{name:<14} {size:>6} {write_best:>10.0} {write_middle:>10.0} {read_best:>10.0} {read_middle:>10.0}"
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let frame = Frame::Entry(Envelope {
        conversation: Id(0x0198_c5a1_77f0_7c3e_9b1d_2f60_4a8e_d3b7),
        author: Id(0x0198_c5a1_7802_7d11_8c44_91be_07f3_5a2c),
        sequence: 41_207,
        generation: 3,
        kind: 1,
        reply_to: None,
        sent_at: 1_791_234_567_890,
        text: "The ferry leaves at ten past four, so let us meet at the pier at half past three with the tickets ü"
            .into(),
    });

    println!(
        "an envelope: two ids, three integers, a time, 100 bytes of text; nanoseconds per call"
    );
    println!(
        "{:<14} {:>6} {:>10} {:>10} {:>10} {:>10}",
        "", "bytes", "write best", "middle", "read best", "middle"
    );
    row("ours", &frame, cbor::to_vec, |bytes| {
        cbor::from_slice(bytes)
    })?;
    row(
        "cbor4ii serde",
        &frame,
        |frame| cbor4ii::serde::to_vec(Vec::with_capacity(256), frame),
        |bytes| cbor4ii::serde::from_slice(bytes),
    )?;
    let ciborium_write = |frame: &Frame| {
        let mut output = Vec::with_capacity(256);
        ciborium::into_writer(frame, &mut output).map(|()| output)
    };
    row("ciborium", &frame, ciborium_write, |bytes| {
        ciborium::from_reader(bytes)
    })?;
    row("serde_json", &frame, serde_json::to_vec, |bytes| {
        serde_json::from_slice(bytes)
    })?;

    let mut output = Vec::with_capacity(256);
    let (into_best, into_middle) = nanoseconds(|| {
        output.clear();
        let written = cbor::extend(&mut output, black_box(&frame));
        drop(black_box(written));
        black_box(&output);
    });
    println!(
        "{:<14} {:>6} {into_best:>10.0} {into_middle:>10.0}",
        "ours, into",
        output.len()
    );
    let (peek_best, peek_middle) = nanoseconds(|| {
        black_box(cbor::peek_id(black_box(&output)));
    });
    println!(
        "{:<14} {:>6} {:>10} {:>10} {peek_best:>10.0} {peek_middle:>10.0}",
        "peek_id",
        output.len(),
        "",
        ""
    );
    Ok(())
}

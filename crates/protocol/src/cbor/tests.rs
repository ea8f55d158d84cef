mod refused;

use std::borrow::Cow;
use std::collections::BTreeMap;

use ciborium::Value;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::blob::Blob;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Number(u32),
    Pair(i64, String),
    Fields {
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nick: Option<String>,
        inner: Vec<Shape>,
    },
    Whole(Box<Point>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    x: i32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    history: Vec<i16>,
    y: i8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    unit: (),
    numbers: (u8, u16, u64, i64),
    ratios: (f32, f64),
    letter: char,
    text: String,
    blob: Blob,
    maybe: Option<i64>,
    points: Vec<Point>,
    counts: BTreeMap<String, i64>,
    by_number: BTreeMap<i32, Shape>,
    shapes: Vec<Shape>,
}

fn point() -> impl Strategy<Value = Point> {
    let strategy = (
        any::<Option<String>>(),
        any::<i32>(),
        vec(any::<i16>(), 0..4),
        any::<i8>(),
    );
    strategy.prop_map(|(label, x, history, y)| Point {
        label,
        x,
        history,
        y,
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(Shape::Nothing),
        any::<u32>().prop_map(Shape::Number),
        any::<(i64, String)>().prop_map(|(number, text)| Shape::Pair(number, text)),
        point().prop_map(|point| Shape::Whole(Box::new(point))),
    ];
    leaf.prop_recursive(5, 20, 4, |shape| {
        (any::<String>(), any::<Option<String>>(), vec(shape, 0..4))
            .prop_map(|(name, nick, inner)| Shape::Fields { name, nick, inner })
    })
}

fn everything() -> impl Strategy<Value = Everything> {
    let simple = (
        any::<bool>(),
        any::<(u8, u16, u64, i64)>(),
        any::<(f32, f64)>(),
        any::<char>(),
    );
    let strings = (
        any::<String>(),
        vec(any::<u8>(), 0..300),
        any::<Option<i64>>(),
    );
    let nested = (
        vec(point(), 0..4),
        btree_map(any::<String>(), any::<i64>(), 0..4),
        btree_map(any::<i32>(), shape(), 0..3),
        vec(shape(), 0..30),
    );
    (simple, strings, nested).prop_map(|(simple, strings, nested)| {
        let (flag, numbers, ratios, letter) = simple;
        let (text, bytes, maybe) = strings;
        let (points, counts, by_number, shapes) = nested;
        let blob = Blob(bytes);
        Everything {
            flag,
            unit: (),
            numbers,
            ratios,
            letter,
            text,
            blob,
            maybe,
            points,
            counts,
            by_number,
            shapes,
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in everything()) {
        let bytes = to_vec(&value).unwrap();
        prop_assert_eq!(from_slice::<Everything>(&bytes).unwrap(), value);
    }

    /// The same types in JSON: neither encoding asks for anything that the other cannot have.
    #[test]
    fn json_carries_the_same_types(value in point()) {
        let json = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(serde_json::from_str::<Point>(&json).unwrap(), value);
    }

    #[test]
    fn ciborium_reads_what_is_written(value in everything()) {
        let bytes = to_vec(&value).unwrap();
        let mut rest = bytes.as_slice();
        let read: Value = ciborium::from_reader(&mut rest).unwrap();
        prop_assert!(rest.is_empty());
        let fields = read.as_map().unwrap();
        prop_assert_eq!(fields.len(), 12);
        for (index, (key, _)) in (0_u32..).zip(fields) {
            prop_assert_eq!(key, &Value::from(index));
        }
        prop_assert_eq!(&fields[5].1, &Value::from(value.text));
        prop_assert_eq!(&fields[6].1, &Value::Bytes(value.blob.0));
        prop_assert_eq!(&fields[7].1, &value.maybe.map_or(Value::Null, Value::from));
        prop_assert_eq!(fields[11].1.as_array().unwrap().len(), value.shapes.len());
    }

    /// ciborium writes names where we write numbers, and enums in the same shape.
    #[test]
    fn what_ciborium_writes_is_read(value in everything()) {
        let mut bytes = Vec::new();
        ciborium::into_writer(&value, &mut bytes).unwrap();
        prop_assert_eq!(from_slice::<Everything>(&bytes).unwrap(), value);
    }

    #[test]
    fn every_cut_is_refused(value in shape(), cut in any::<prop::sample::Index>()) {
        let bytes = to_vec(&value).unwrap();
        let cut = cut.index(bytes.len());
        prop_assert_eq!(from_slice::<Shape>(&bytes[..cut]), Err(Error::EndsEarly));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        read_as_everything(&bytes);
    }

    /// Bytes that were good until somebody changed a few get further than random ones.
    #[test]
    fn damaged_bytes_never_panic(
        value in everything(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = to_vec(&value).unwrap();
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        read_as_everything(&bytes);
    }
}

fn read_as_everything(bytes: &[u8]) {
    let _ = from_slice::<Everything>(bytes);
    let _ = from_slice::<Shape>(bytes);
    let _ = from_slice::<Vec<Option<Blob>>>(bytes);
    let _ = from_slice::<Value>(bytes);
    let _ = from_slice::<serde::de::IgnoredAny>(bytes);
    let _ = peek_id(bytes);
}

/// Bytes as RFC 8949 writes them; blanks are for the eye.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    let pairs = digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

#[track_caller]
fn check_written<T: Serialize>(value: T, expected: &str) {
    assert_eq!(to_vec(&value).unwrap(), hex(expected));
}

#[track_caller]
fn check_read<T: for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug>(
    bytes: &str,
    expected: T,
) {
    assert_eq!(from_slice::<T>(&hex(bytes)), Ok(expected));
}

/// These bytes are the format: a change here breaks every client and every stored value.
#[test]
fn the_bytes_stay_as_they_are() {
    check_written(Shape::Nothing, "00");
    check_written(Shape::Number(500), "a1 01 1901f4");
    check_written(Shape::Pair(-1, "ü".into()), "a1 02 82 20 62c3bc");
    check_written(
        Shape::Whole(Box::new(point_at(1, -2))),
        "a1 04 a2 01 01 03 21",
    );
    let fields = |nick| Shape::Fields {
        name: "a".into(),
        nick,
        inner: vec![Shape::Nothing],
    };
    check_written(fields(None), "a1 03 a2 00 6161 02 81 00");
    check_written(
        fields(Some("b".into())),
        "a1 03 a3 00 6161 01 6162 02 81 00",
    );

    check_written((0, 23, 24, 255, 256), "85 00 17 1818 18ff 190100");
    check_written(
        (65_535, 65_536, u32::MAX),
        "83 19ffff 1a00010000 1affffffff",
    );
    check_written(
        (u64::MAX, i64::MIN),
        "82 1bffffffffffffffff 3b7fffffffffffffff",
    );
    check_written((1.5f32, -4.1f64), "82 fa3fc00000 fbc010666666666666");
    check_written((true, false, None::<u8>, (), 'x'), "85 f5 f4 f6 f6 6178");
    check_written(Blob(vec![1, 2]), "42 0102");
    check_written(BTreeMap::from([("k", 1)]), "a1 616b 01");
    // An iterator that does not know its length: a map in between stands open until its break.
    check_written(Open, "bf 00 01 ff");
}

struct Open;

impl Serialize for Open {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(&0, &1)?;
        map.end()
    }
}

fn point_at(x: i32, y: i8) -> Point {
    Point {
        label: None,
        x,
        history: Vec::new(),
        y,
    }
}

#[test]
fn unknown_fields_are_skipped_and_names_accepted() {
    let point = || point_at(1, -2);
    check_read("a2 01 01 03 21", point());
    check_read("a2 03 21 01 01", point());
    check_read("a2 6178 01 6179 21", point());
    check_read("a2 6178 01 03 21", point());
    // Unknown by number (small, large, negative), by name, by a name in chunks, holding anything.
    check_read("a3 01 01 04 83 01 a1 02 f5 5f 41 00 ff 03 21", point());
    check_read("a3 1bffffffffffffffff f6 01 01 03 21", point());
    check_read("a3 20 fb c010666666666666 01 01 03 21", point());
    check_read("a3 636e6577 bf 00 9f ff ff 01 01 03 21", point());
    check_read("a3 7f 616e ff 7f 61 61 ff 01 01 03 21", point());
    // A name in chunks that is known.
    check_read("bf 7f 6178 60 ff 01 03 21 ff", point());
    // Null stands for a missing option.
    check_read("a3 00 f6 01 01 03 21", point());
    check_read("a3 00 f7 01 01 03 21", point());
}

#[test]
fn enums_by_number_or_name() {
    check_read("00", Shape::Nothing);
    check_read("67 4e6f7468696e67", Shape::Nothing);
    check_read("a1 00 f6", Shape::Nothing);
    check_read("a1 00 82 01 02", Shape::Nothing);
    check_read("a1 66 4e756d626572 07", Shape::Number(7));
    check_read("bf 01 07 ff", Shape::Number(7));
    check_read("a1 02 9f 01 6161 ff", Shape::Pair(1, "a".into()));
    for bytes in [
        "01",
        "a0",
        "a2 01 07 01 07",
        "bf ff",
        "bf 01 07 01 07 ff",
        "05",
        "20",
        "f6",
        "a1 02 81 01",
    ] {
        assert!(from_slice::<Shape>(&hex(bytes)).is_err(), "{bytes}");
    }

    /// What a client does that must live with the variants of later versions.
    #[derive(Debug, PartialEq, Deserialize)]
    enum Tolerant {
        Known(u8),
        #[serde(other)]
        Unknown,
    }
    check_read("a1 00 05", Tolerant::Known(5));
    check_read("a1 18 2a a1 00 05", Tolerant::Unknown);
    check_read("18 2a", Tolerant::Unknown);
    check_read("a1 6161 82 01 02", Tolerant::Unknown);
}

#[test]
fn any_width_tags_and_halves() {
    for bytes in [
        "07",
        "1807",
        "190007",
        "1a00000007",
        "1b0000000000000007",
        "c0 07",
        "d9d9f7 c1 07",
    ] {
        check_read(bytes, 7u8);
        check_read(bytes, Some(7i64));
        check_read(bytes, 7.0f64);
    }
    check_read("c1 f6", None::<u8>);
    check_read("c1 a1 01 07", Shape::Number(7));
    check_read("7f 61 61 61 62 ff", String::from("ab"));
    check_read("9a00000002 01 02", vec![1u8, 2]);
    for (bytes, value) in [
        ("f90000", 0.0),
        ("f93c00", 1.0),
        ("f93e00", 1.5),
        ("f97bff", 65504.0),
        ("f90001", 5.960464477539063e-8),
        ("f90400", 0.00006103515625),
        ("f9c400", -4.0),
        ("f97c00", f64::INFINITY),
        ("f9fc00", f64::NEG_INFINITY),
    ] {
        check_read(bytes, value);
    }
    assert!(from_slice::<f64>(&hex("f97e00")).unwrap().is_nan());
}

#[test]
fn text_and_bytes_are_borrowed() {
    let bytes = to_vec(&("text", Blob(vec![1, 2, 3]))).unwrap();
    let (text, blob): (&str, &[u8]) = from_slice(&bytes).unwrap();
    assert_eq!((text, blob), ("text", [1, 2, 3].as_slice()));

    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let text = from_slice::<Text<'_>>(&bytes[1..6]).unwrap();
    assert!(matches!(text.0, Cow::Borrowed("text")));
}

/// Room is asked for once for the widest head: what is written may end exactly where the room does, or not.
#[test]
fn heads_grow_the_output() {
    for number in [
        23,
        24,
        255,
        256,
        65_535,
        65_536,
        u64::from(u32::MAX),
        1 << 32,
    ] {
        let expected = to_vec(&number).unwrap();
        for room in 0..12 {
            let mut output = Vec::with_capacity(room);
            extend(&mut output, &number).unwrap();
            assert_eq!(output, expected, "{number} in {room}");
        }
    }
}

#[test]
fn peek_finds_the_request_id() {
    for (bytes, id) in [
        ("a1 05 a1 00 18 2a", Some(42)),
        ("a1 64 73656e64 a1 626964 18 2a", Some(42)),
        ("bf 05 bf 01 82 01 02 6161 f6 00 18 2a ff ff", Some(42)),
        ("c1 a1 05 c1 a1 c1 00 c1 18 2a", Some(42)),
        ("a1 05 a2 6178 00 626964 1bffffffffffffffff", Some(u64::MAX)),
        // The id is there, what follows is broken.
        ("a1 05 a2 00 18 2a 01 ff", Some(42)),
        ("a1 05 a1 01 18 2a", None),
        ("a1 05 a1 00 20", None),
        ("a1 05 a1 00 6131", None),
        ("a1 05 bf ff", None),
        ("a1 05 81 00", None),
        ("a1 05", None),
        ("a0", None),
        ("bf ff", None),
        ("05", None),
        ("", None),
    ] {
        assert_eq!(peek_id(&hex(bytes)), id, "{bytes}");
    }
}

#[test]
fn an_error_leaves_the_output_as_it_was() {
    let mut output = vec![1, 2, 3];
    extend(&mut output, &Shape::Nothing).unwrap();
    assert_eq!(output, [1, 2, 3, 0]);
    assert!(extend(&mut output, &("text", u128::MAX)).is_err());
    assert_eq!(output, [1, 2, 3, 0]);
}

//! What is refused, and why.

use super::*;

#[test]
fn malformed_input_is_refused() {
    let malformed = |what| Error::Malformed(what);
    for (bytes, error) in [
        ("", Error::EndsEarly),
        ("18", Error::EndsEarly),
        ("00 00", Error::TrailingBytes),
        ("61 ff", Error::NotUtf8),
        ("7f 61c3 61bc ff", Error::NotUtf8),
        ("1c", malformed("a head that is reserved")),
        ("1f", malformed("a head that is reserved")),
        ("df 00", malformed("a head that is reserved")),
        ("ff", malformed("a break where a value belongs")),
        ("9f c0 ff", malformed("a break where a value belongs")),
        ("bf 00 ff", malformed("a break where a value belongs")),
        ("7f 41 61 ff", malformed("a text holds another type")),
        ("7f 7f ff ff", malformed("a text holds another type")),
        ("5f 61 61 ff", malformed("a byte string holds another type")),
        ("f0", malformed("a simple value without a meaning")),
        ("f8 20", malformed("a simple value without a meaning")),
        ("9f", Error::EndsEarly),
        ("bf 00", Error::EndsEarly),
        ("5f 41", Error::EndsEarly),
    ] {
        assert_eq!(from_slice::<Value>(&hex(bytes)), Err(error), "{bytes}");
    }
    assert_eq!(
        from_slice::<(u8, u8)>(&hex("83 01 02 03")),
        Err(Error::WrongLength)
    );
    assert!(from_slice::<u8>(&hex("20")).is_err());
    assert!(from_slice::<u8>(&hex("190100")).is_err());
    assert!(from_slice::<i64>(&hex("3bffffffffffffffff")).is_err());
    check_read(
        "3bffffffffffffffff",
        Value::Integer((-18_446_744_073_709_551_616i128).try_into().unwrap()),
    );
}

/// What a type mostly looks like is read in a short way; whatever else stands there is refused as by the long one.
#[test]
fn what_does_not_fit_says_why() {
    let unfit = |what: &str| Error::Unfit(what.into());
    let reserved = Error::Malformed("a head that is reserved");
    for (bytes, error) in [
        ("", Error::EndsEarly),
        ("18", Error::EndsEarly),
        ("1a000000", Error::EndsEarly),
        ("1c", reserved.clone()),
        ("1f", reserved),
        ("c1", Error::EndsEarly),
        ("190100", unfit("invalid value: integer `256`, expected u8")),
        ("20", unfit("invalid value: integer `-1`, expected u8")),
        ("6161", unfit("invalid type: string \"a\", expected u8")),
        ("81 00", unfit("invalid type: sequence, expected u8")),
        ("f6", unfit("invalid type: unit value, expected u8")),
    ] {
        assert_eq!(from_slice::<u8>(&hex(bytes)), Err(error), "{bytes}");
    }
    for (bytes, error) in [
        ("62 61", Error::EndsEarly),
        ("7b ffffffffffffffff 61", Error::EndsEarly),
        ("61 ff", Error::NotUtf8),
        ("07", unfit("invalid type: integer `7`, expected a string")),
    ] {
        assert_eq!(from_slice::<String>(&hex(bytes)), Err(error), "{bytes}");
    }
    for (bytes, error) in [
        ("a2 01 01 03", Error::EndsEarly),
        ("a1 01 01", unfit("missing field `y`")),
        ("a2 01 01 01 01", unfit("duplicate field `x`")),
        (
            "a2 c1 20 01 01 01",
            unfit("invalid type: integer `-1`, expected field identifier"),
        ),
        (
            "f5",
            unfit("invalid type: boolean `true`, expected struct Point"),
        ),
    ] {
        assert_eq!(from_slice::<Point>(&hex(bytes)), Err(error), "{bytes}");
    }
    for (bytes, error) in [
        // One byte cannot be an entry, whatever it is.
        ("a1", Error::EndsEarly),
        ("a1 ff", Error::EndsEarly),
        ("a0", Error::WrongLength),
        ("a2 01 07 01 07", Error::WrongLength),
        ("bf 01 07 01 07 ff", Error::WrongLength),
        ("bf 01 07", Error::EndsEarly),
        ("a1 01 07 00", Error::TrailingBytes),
        ("bd", Error::Malformed("a head that is reserved")),
        (
            "01",
            unfit("invalid type: unit variant, expected a variant with a value"),
        ),
        (
            "02",
            unfit("invalid type: unit variant, expected a variant with values"),
        ),
        (
            "03",
            unfit("invalid type: unit variant, expected a variant with fields"),
        ),
        (
            "05",
            unfit("invalid value: integer `5`, expected variant index 0 <= i < 5"),
        ),
    ] {
        assert_eq!(from_slice::<Shape>(&hex(bytes)), Err(error), "{bytes}");
    }
    assert_eq!(
        from_slice::<bool>(&hex("07")),
        Err(unfit("invalid type: integer `7`, expected a boolean"))
    );
    check_read("c1 f5", true);
}

/// A claim is measured against the input before the visitor hears of it, so no hint can make it allocate.
#[test]
fn lengths_beyond_the_input_are_refused() {
    for kind in ["5", "7", "9", "b"] {
        for claim in [
            "a ffffffff",
            "b ffffffffffffffff",
            "b 7fffffffffffffff",
            "8 04",
            "a 00000004",
        ] {
            let bytes = hex(&format!("{kind}{claim} 00 00 00"));
            assert_eq!(
                from_slice::<Value>(&bytes),
                Err(Error::EndsEarly),
                "{kind}{claim}"
            );
            assert_eq!(
                from_slice::<serde::de::IgnoredAny>(&bytes),
                Err(Error::EndsEarly),
                "{kind}{claim}"
            );
        }
    }
    // Two entries cannot be in three bytes.
    assert_eq!(
        from_slice::<Value>(&hex("a2 00 00 00")),
        Err(Error::EndsEarly)
    );
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Nest {
    End,
    Deeper(Box<Nest>),
}

#[test]
fn deep_nesting_is_refused() {
    let depth_max = usize::from(DEPTH_MAX);
    // An array of one, a map of one under key 0, an open array, an open map.
    for (open, end) in [
        ("81", "00"),
        ("a100", "00"),
        ("9f", "00"),
        ("bf00", "00"),
        ("a101", "00"),
    ] {
        for depth in [depth_max + 1, 1_000_000] {
            let bytes = hex(&(open.repeat(depth) + end));
            assert_eq!(from_slice::<Value>(&bytes), Err(Error::TooDeep), "{open}");
            assert_eq!(
                from_slice::<serde::de::IgnoredAny>(&bytes),
                Err(Error::TooDeep),
                "{open}"
            );
            assert_eq!(peek_id(&bytes), None);
        }
    }
    let nest = |depth| hex(&("a101".repeat(depth) + "00"));
    assert!(from_slice::<Nest>(&nest(depth_max)).is_ok());
    assert_eq!(
        from_slice::<Nest>(&nest(depth_max + 1)),
        Err(Error::TooDeep)
    );
    assert_eq!(from_slice::<Nest>(&nest(1_000_000)), Err(Error::TooDeep));
    // Siblings do not add up.
    check_read(
        &format!("98ff {}", "80".repeat(255)),
        vec![Vec::<u8>::new(); 255],
    );
    // Tags do not nest here, however many there are.
    check_read(&("c1".repeat(1_000_000) + "07"), 7u8);
}

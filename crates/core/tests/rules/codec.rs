//! Stored forms: what is written is read, and what is damaged is refused without a panic.

use proptest::prelude::*;
use tidings_core::codec::{
    decode_body, decode_envelope, decode_member, decode_state, encode_body, encode_envelope,
    encode_member, encode_state,
};
use tidings_core::entry::{Body, Kind};

use crate::world::World;

proptest! {
    #[test]
    fn what_a_history_makes_comes_back(steps in prop::collection::vec(any::<u64>(), 0..300)) {
        let world = World::run(&steps);
        let state = decode_state(&encode_state(&world.state));
        prop_assert_eq!(state.as_ref(), Ok(&world.state));
        for member in world.members.values() {
            let again = decode_member(&encode_member(member));
            prop_assert_eq!(again.as_ref(), Ok(member));
        }
        for entry in &world.log {
            let envelope = decode_envelope(&encode_envelope(&entry.envelope));
            prop_assert_eq!(envelope.as_ref(), Ok(&entry.envelope));
            let body = decode_body(entry.envelope.kind, &encode_body(&entry.body));
            prop_assert_eq!(body.as_ref(), Ok(&entry.body));
            let erased = decode_body(entry.envelope.kind, &encode_body(&Body::Erased));
            // These two say everything in their envelope.
            let needless = matches!(entry.envelope.kind, Kind::Delete | Kind::Leave);
            let expected = if needless { entry.body.clone() } else { Body::Erased };
            prop_assert_eq!(erased, Ok(expected));
        }
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_refused(
        steps in prop::collection::vec(any::<u64>(), 0..100),
        more in any::<u8>(),
    ) {
        let world = World::run(&steps);
        check_cuts(encode_state(&world.state), more, |bytes| decode_state(bytes).is_ok());
        for member in world.members.values() {
            check_cuts(encode_member(member), more, |bytes| decode_member(bytes).is_ok());
        }
        for entry in world.log.iter().rev().take(10) {
            check_cuts(encode_envelope(&entry.envelope), more, |bytes| decode_envelope(bytes).is_ok());
            let kind = entry.envelope.kind;
            check_cuts(encode_body(&entry.body), more, |bytes| {
                // A body of nothing but its version is an erased one.
                decode_body(kind, bytes).is_ok_and(|body| body != Body::Erased)
            });
        }
    }

    #[test]
    fn damaged_bytes_do_no_harm(
        steps in prop::collection::vec(any::<u64>(), 0..60),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let world = World::run(&steps);
        decode_all(&damaged(encode_state(&world.state), &damage));
        for member in world.members.values() {
            decode_all(&damaged(encode_member(member), &damage));
        }
        for entry in &world.log {
            decode_all(&damaged(encode_envelope(&entry.envelope), &damage));
            decode_all(&damaged(encode_body(&entry.body), &damage));
        }
    }

    #[test]
    fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_all(&bytes);
        let mut versioned = bytes;
        versioned.insert(0, 1);
        decode_all(&versioned);
    }
}

/// No beginning of the bytes is whole, nor are they with another one behind.
fn check_cuts(mut bytes: Vec<u8>, more: u8, is_whole: impl Fn(&[u8]) -> bool) {
    assert!(is_whole(&bytes));
    for length in 0..bytes.len() {
        assert!(!is_whole(&bytes[..length]), "{length} of {bytes:?}");
    }
    bytes.push(more);
    assert!(!is_whole(&bytes), "{bytes:?}");
}

fn damaged(mut bytes: Vec<u8>, damage: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (index, byte) in damage {
        let index = index.index(bytes.len());
        bytes[index] = *byte;
    }
    bytes
}

/// Whatever can be read of the bytes is written and read again to the same.
fn decode_all(bytes: &[u8]) {
    if let Ok(state) = decode_state(bytes) {
        assert_eq!(decode_state(&encode_state(&state)), Ok(state));
    }
    if let Ok(member) = decode_member(bytes) {
        assert_eq!(decode_member(&encode_member(&member)), Ok(member));
    }
    if let Ok(envelope) = decode_envelope(bytes) {
        assert_eq!(decode_envelope(&encode_envelope(&envelope)), Ok(envelope));
    }
    for number in 0..=12 {
        let kind = Kind::from_number(number);
        if let Ok(body) = decode_body(kind, bytes) {
            assert_eq!(decode_body(kind, &encode_body(&body)), Ok(body));
        }
    }
}

//! A layer is what a sorted map of all its rows would be.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::changes::Changes;
use crate::tables::place;

type Rows = BTreeMap<(u8, Vec<u8>), Option<Vec<u8>>>;

/// Keys of three tables, whose logs differ in their first byte, their last, or their part; of one table they begin
/// with no log.
fn key() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let by_log = (0..3_u8, 0..3_u8, 1..4_u8, 0..60_u8).prop_map(|(first, last, part, seq)| {
        let mut key = [7; LOG_BYTES];
        (key[0], key[15], key[16]) = (first, last, part);
        let mut key = key.to_vec();
        // The log's own row, or one of its rows.
        key.extend((seq > 0).then_some(seq));
        key
    });
    prop_oneof![
        8 => (prop_oneof![Just(1_u8), Just(4)], by_log),
        1 => (Just(9_u8), prop::collection::vec(0..4_u8, 0..20)),
    ]
}

const LOG_BYTES: usize = 17;

proptest! {
    #[test]
    fn a_layer_says_what_a_sorted_map_says(
        commits in prop::collection::vec(
            prop::collection::vec((key(), prop::option::of(0..90_usize)), 1..60),
            1..12,
        ),
    ) {
        let (layer, mut rows) = (Layer::default(), Rows::new());
        for (number, commit) in commits.into_iter().enumerate() {
            let mut changes = Changes::default();
            for ((table, key), length) in commit {
                let value = length.map(|length| vec![number as u8; length]);
                changes.push(Change { table, key: &key, value: value.as_deref() });
                rows.insert((table, key), value);
            }
            layer.take(changes.bytes().unwrap(), place).unwrap();
        }

        let mut seen = Rows::new();
        layer.for_each_table(|table, of_table| {
            let mut size = Size::default();
            let mut last: Option<Vec<u8>> = None;
            for (key, value) in of_table.iter() {
                // What is written into a sorted file must ascend.
                assert!(last.is_none_or(|last| last.as_slice() < key));
                last = Some(key.to_vec());
                size.rows += 1;
                size.bytes += key.len() + value.map_or(0, <[u8]>::len);
                seen.insert((table, key.to_vec()), value.map(<[u8]>::to_vec));
            }
            assert_eq!(size, of_table.size);
            Ok::<_, Infallible>(())
        }).unwrap();
        prop_assert_eq!(&seen, &rows);
        prop_assert_eq!(layer.rows(), rows.len());
        for ((table, key), value) in &rows {
            let found = layer.get(place(*table, key), key);
            prop_assert_eq!(found, Some(value.as_ref().map(|value| value.as_slice().into())));
        }

        let layer = Arc::new(layer);
        let (to_give_back, mut given_back) = (layer.rows_to_give_back(), 0);
        layer.give_back(|rows| given_back += rows);
        prop_assert_eq!(given_back, to_give_back);
    }
}

//! The other servers: who is alive, whose clock is right, who takes which conversation, where clients may go.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidings_core::Time;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::message::{Beat, NodeId};

/// A server that was not heard of for so long is taken for dead.
pub(super) const SILENT: Duration = Duration::from_secs(3);

/// How far a clock may be from those of the others.
pub(crate) const CLOCK_APART_MS: u64 = 5_000;

#[derive(Clone, Debug)]
struct Peer {
    beat: Beat,
    heard: Instant,
    /// How far its clock was ahead of ours when it was last heard.
    ahead_ms: i64,
}

/// All other servers that are alive.
#[derive(Debug, Default)]
pub(super) struct Peers {
    peers: BTreeMap<NodeId, Peer>,
}

impl Peers {
    /// A heartbeat came. Answers whether the server is new.
    pub(super) fn beat(&mut self, beat: Beat, now: Time, at: Instant) -> bool {
        let ahead_ms = i64::try_from(beat.at.0).unwrap_or(0) - i64::try_from(now.0).unwrap_or(0);
        let node = beat.node;
        let peer = Peer {
            beat,
            heard: at,
            ahead_ms,
        };
        self.peers.insert(node, peer).is_none()
    }

    /// Forgets those that are silent, and answers which they were.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<NodeId> {
        let silent = |peer: &Peer| now.duration_since(peer.heard) > SILENT;
        let gone = self.peers.iter().filter(|(_, peer)| silent(peer));
        let gone: Vec<NodeId> = gone.map(|(node, _)| *node).collect();
        for node in &gone {
            self.peers.remove(node);
        }
        gone
    }

    pub(super) fn count(&self) -> usize {
        self.peers.len()
    }

    #[cfg(test)]
    fn is_alive(&self, node: NodeId) -> bool {
        self.peers.contains_key(&node)
    }

    /// How far our clock is from the middle one of all clocks, ours and that of the store among them, in
    /// milliseconds; positive if ours is ahead. Two alone cannot say which of them is wrong.
    pub(super) fn clock_ahead_ms(&self, store_ahead_ms: Option<i64>) -> i64 {
        let others = self.peers.values().map(|peer| peer.ahead_ms);
        let mut clocks: Vec<i64> = others.chain(store_ahead_ms).chain([0]).collect();
        if clocks.len() < 3 {
            return 0;
        }
        clocks.sort_unstable();
        -clocks.get(clocks.len() / 2).copied().unwrap_or(0)
    }

    /// Who takes what belongs to this key, by rendezvous hashing over all servers that take any: each key goes
    /// to the server with the highest hash of both, so that one more or less moves only its share. `None`: we.
    pub(super) fn holder(&self, me: NodeId, me_aside: bool, key: &[u8]) -> Option<NodeId> {
        let weight = |node: &NodeId| {
            let seed = u64::from_be_bytes(*node.last_chunk().unwrap_or(&[0; 8]));
            (xxh3_64_with_seed(key, seed), *node)
        };
        let others = self
            .peers
            .values()
            .filter(|peer| peer.beat.takes_conversations);
        let best = others.map(|peer| peer.beat.node).max_by_key(weight)?;
        (me_aside || weight(&best) > weight(&me)).then_some(best)
    }

    /// Where clients may go besides us, best first: in our region, and with the most room.
    pub(super) fn addresses(&self, region: &str) -> Vec<String> {
        let open = self.peers.values().map(|peer| &peer.beat);
        let open = open.filter(|beat| beat.takes_clients && !beat.address.is_empty());
        let mut open: Vec<(bool, u64, &str)> = open
            .map(|beat| {
                let load = beat.sessions.saturating_mul(1_000) / beat.sessions_max.max(1);
                (beat.region != region, load, beat.address.as_str())
            })
            .collect();
        open.sort_unstable();
        open.dedup_by_key(|(_, _, address)| *address);
        open.into_iter()
            .map(|(_, _, address)| address.to_owned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Summary;

    fn beat(number: u8, at: u64) -> Beat {
        Beat {
            node: [number; 16],
            at: Time(at),
            rules: 1,
            address: format!("https://{number}.example"),
            region: if number < 5 { "north" } else { "south" }.to_owned(),
            sessions: 100 - u64::from(number),
            sessions_max: 100,
            takes_conversations: true,
            takes_clients: true,
            connected: Summary::default(),
            online: Summary::default(),
            version: String::new(),
        }
    }

    fn peers(numbers: std::ops::RangeInclusive<u8>) -> Peers {
        let mut peers = Peers::default();
        for number in numbers {
            assert!(peers.beat(beat(number, 1_000), Time(1_000), Instant::now()));
        }
        peers
    }

    #[test]
    fn one_server_more_takes_only_its_share() {
        let keys: Vec<[u8; 2]> = (0..2_000_u16).map(u16::to_be_bytes).collect();
        let holders = |peers: &Peers| -> Vec<Option<NodeId>> {
            keys.iter()
                .map(|key| peers.holder([0; 16], false, key))
                .collect()
        };
        let (three, four) = (holders(&peers(1..=2)), holders(&peers(1..=3)));
        let moved = three.iter().zip(&four).filter(|(one, other)| one != other);
        assert!(
            moved.clone().all(|(_, now)| *now == Some([3; 16])),
            "nothing moves between the others"
        );
        let count = moved.count();
        assert!(
            (350..650).contains(&count),
            "about a quarter moves: {count}"
        );
    }

    #[test]
    fn all_servers_agree_who_takes_a_key() {
        for key in 0..200_u16 {
            let key = key.to_be_bytes();
            let mut all = peers(1..=3);
            let seen_by_one = {
                all.peers.remove(&[1; 16]);
                all.holder([1; 16], false, &key).unwrap_or([1; 16])
            };
            let mut all = peers(1..=3);
            all.peers.remove(&[2; 16]);
            let seen_by_two = all.holder([2; 16], false, &key).unwrap_or([2; 16]);
            assert_eq!(seen_by_one, seen_by_two);
        }
    }

    #[test]
    fn who_steps_aside_takes_nothing() {
        let peers = peers(1..=1);
        for key in 0..50_u8 {
            assert_eq!(peers.holder([0; 16], true, &[key]), Some([1; 16]));
        }
        assert_eq!(
            Peers::default().holder([0; 16], true, b"x"),
            None,
            "there is nobody else"
        );
    }

    #[test]
    fn the_clock_in_the_middle_is_right() {
        let mut peers = peers(1..=2);
        assert_eq!(peers.clock_ahead_ms(None), 0);
        peers.beat(beat(1, 61_000), Time(1_000), Instant::now());
        assert_eq!(peers.clock_ahead_ms(None), 0, "the other one is wrong");
        peers.beat(beat(2, 61_500), Time(1_000), Instant::now());
        assert_eq!(peers.clock_ahead_ms(None), -60_000, "we are");
        let mut one = Peers::default();
        one.beat(beat(1, 61_000), Time(1_000), Instant::now());
        assert_eq!(one.clock_ahead_ms(None), 0, "two cannot tell");
        assert_eq!(
            one.clock_ahead_ms(Some(60_000)),
            -60_000,
            "with the store they can"
        );
        assert_eq!(one.clock_ahead_ms(Some(10)), -10);
    }

    #[test]
    fn clients_are_sent_near_and_where_there_is_room() {
        let mut peers = peers(3..=6);
        peers.beat(
            Beat {
                takes_clients: false,
                ..beat(4, 1_000)
            },
            Time(1_000),
            Instant::now(),
        );
        assert_eq!(
            peers.addresses("north"),
            [
                "https://3.example",
                "https://6.example",
                "https://5.example"
            ]
        );
    }

    #[test]
    fn the_silent_are_forgotten() {
        let mut peers = peers(1..=2);
        let later = Instant::now() + SILENT + Duration::from_secs(1);
        peers.beat(beat(2, 1_000), Time(1_000), later);
        assert_eq!(peers.expire(later), [[1; 16]]);
        assert!(!peers.is_alive([1; 16]) && peers.is_alive([2; 16]));
    }
}

//! The digest: one number over everything of a user's inbox, by which a lost last message or tick
//! is noticed within one heartbeat.
//!
//! It is a sum, modulo 2^53, of one [`hash`] per watermark, so a mark that moves costs one
//! subtraction and one addition, and the order of conversations does not matter.

use crate::id::{ConversationId, UserId};
use crate::log::{Generation, Seq};
use crate::time::Time;

/// Numbers on the wire fit in 53 bits.
pub const MASK: u64 = (1 << 53) - 1;

/// A 64-bit hash of tagged bytes: FNV-1a over the tag, a zero byte and the bytes, then the
/// finaliser of MurmurHash3 (both public domain). Any language computes it in ten lines, which is
/// what matters here; it is not cryptographic.
#[must_use]
pub fn hash(tag: &[u8], bytes: &[u8]) -> u64 {
    let mut state = fnv(0xcbf2_9ce4_8422_2325, tag);
    state = fnv(fnv(state, &[0]), bytes);
    state = (state ^ (state >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    state = (state ^ (state >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    state ^ (state >> 33)
}

fn fnv(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, &byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The part of the digest that a conversation's head contributes. The generation is in it, and the last entry's
/// time, so that the same head of a restored or rolled back log is not taken for the old one.
#[must_use]
pub fn head(conversation: ConversationId, generation: Generation, seq: Seq, at: Time) -> u64 {
    if seq == 0 {
        return 0;
    }
    let mut bytes = [0; 48];
    bytes[..16].copy_from_slice(&conversation.0);
    bytes[16..32].copy_from_slice(&generation.0);
    bytes[32..40].copy_from_slice(&seq.to_be_bytes());
    bytes[40..].copy_from_slice(&at.0.to_be_bytes());
    hash(b"head", &bytes) & MASK
}

/// The part that my own read mark contributes.
#[must_use]
pub fn read(conversation: ConversationId, me: UserId, seq: Seq) -> u64 {
    term(b"read", conversation, me.0, seq)
}

/// The part that another member's delivered mark contributes (in conversations of up to 32 members).
#[must_use]
pub fn delivered(conversation: ConversationId, member: UserId, seq: Seq) -> u64 {
    term(b"delivered", conversation, member.0, seq)
}

/// The part that another member's shown mark contributes (in conversations of up to 32 members).
#[must_use]
pub fn shown(conversation: ConversationId, member: UserId, seq: Seq) -> u64 {
    term(b"shown", conversation, member.0, seq)
}

/// A conversation in 32 bits, for both sides of a session to name it by. The generation is in it: nobody can aim
/// at the handle of another conversation, and one of an earlier life of the log means nothing.
#[must_use]
pub fn handle(conversation: ConversationId, generation: Generation) -> u32 {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&conversation.0);
    bytes[16..].copy_from_slice(&generation.0);
    hash(b"handle", &bytes) as u32
}

/// A user in 32 bits, for the conversations in which nobody else has the same: the last of its id, which are
/// random.
#[must_use]
pub fn user_handle(user: UserId) -> u32 {
    let [.., a, b, c, d] = user.0;
    u32::from_be_bytes([a, b, c, d])
}

/// The sum of two digests or parts.
#[must_use]
pub fn add(sum: u64, part: u64) -> u64 {
    sum.wrapping_add(part) & MASK
}

/// A digest without a part that was in it.
#[must_use]
pub fn remove(sum: u64, part: u64) -> u64 {
    sum.wrapping_sub(part) & MASK
}

/// A mark at 0 contributes nothing, so that absent and never raised are the same.
fn term(tag: &[u8], conversation: ConversationId, of: [u8; 16], seq: Seq) -> u64 {
    if seq == 0 {
        return 0;
    }
    let mut bytes = [0; 40];
    bytes[..16].copy_from_slice(&conversation.0);
    bytes[16..32].copy_from_slice(&of);
    bytes[32..].copy_from_slice(&seq.to_be_bytes());
    hash(tag, &bytes) & MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERATION: Generation = Generation([3; 16]);
    const AT: Time = Time(1_795_262_400_007);

    #[test]
    fn sums_do_not_depend_on_order_and_can_be_taken_back() {
        let (c, d) = (ConversationId([1; 16]), ConversationId([2; 16]));
        let both = add(head(c, GENERATION, 7, AT), head(d, GENERATION, 9, AT));
        assert_eq!(
            both,
            add(head(d, GENERATION, 9, AT), head(c, GENERATION, 7, AT))
        );
        assert_eq!(
            remove(both, head(d, GENERATION, 9, AT)),
            head(c, GENERATION, 7, AT)
        );
        assert_eq!(head(c, GENERATION, 0, AT), 0);
        assert!(both <= MASK);
    }

    /// Written down in docs/protocol for those who write a client: it never changes.
    #[test]
    fn the_documented_examples() {
        assert_eq!(format!("{:016x}", hash(b"head", b"")), "84e8d08147ebcce8");
        let me = UserId([2; 16]);
        let digest = add(
            head(ConversationId([1; 16]), GENERATION, 7, AT),
            read(ConversationId([1; 16]), me, 5),
        );
        expect_test::expect!["2268997184819476"].assert_eq(&digest.to_string());
    }
}

//! Messages made smaller (RFC 7692, `permessage-deflate`): bytes in, bytes out, no I/O. Each message stands for itself
//! ("no context takeover"), so a session keeps no window: a thread has one compressor and one decompressor, which are
//! wiped for each message.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::framing::Broken;

/// From 1 (quick) to 9: `docs/performance.md` has what they cost.
const LEVEL: u32 = 1;
/// What every compressed message ends with, and is left away (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// A last block of nothing, to see that what stands before it is whole.
const LAST_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];
/// Last blocks in one message. One is legal (section 7.2.3.4); to begin again after each costs more than to send it.
const LAST_BLOCKS_MAX: usize = 4;
/// Room that is made for a message before it is known how long it becomes.
const INFLATED_BYTES_MIN: usize = 1024;

thread_local! {
    static COMPRESS: RefCell<Compress> =
        RefCell::new(Compress::new(Compression::new(LEVEL), false));
    static INFLATE: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// The message as it goes over the wire, if that is smaller.
pub(super) fn compress(message: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(message.len());
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        compress
            .compress_vec(message, &mut output, FlushCompress::Sync)
            .ok()
    })?;
    // With room left over all is written.
    if output.len() >= message.len() || !output.ends_with(&TAIL) {
        return None;
    }
    output.truncate(output.len() - TAIL.len());
    Some(output)
}

/// The message that went over the wire as this payload.
///
/// # Errors
/// [`Broken::TooLong`] if it is longer than `bytes_max`, of which no more is kept; [`Broken::NotDeflate`].
pub(super) fn inflate(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, Broken> {
    INFLATE.with_borrow_mut(|inflate| {
        let mut inflating = Inflating {
            inflate,
            output: Vec::new(),
            bytes_max,
            last_blocks: 0,
        };
        // What an earlier message left must not be seen by this one.
        inflating.inflate.reset(false);
        inflating.take(payload)?;
        inflating.take(&TAIL)?;
        match inflating.take(&LAST_BLOCK)? {
            Status::StreamEnd => Ok(inflating.output),
            Status::Ok | Status::BufError => Err(Broken::NotDeflate),
        }
    })
}

/// A message that is being inflated.
struct Inflating<'i> {
    inflate: &'i mut Decompress,
    output: Vec<u8>,
    bytes_max: usize,
    last_blocks: usize,
}

impl Inflating<'_> {
    /// Takes all of `input`. Answers [`Status::StreamEnd`] if it ends with a last block.
    fn take(&mut self, mut input: &[u8]) -> Result<Status, Broken> {
        loop {
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.step(input)?;
            let after = (self.inflate.total_in(), self.inflate.total_out());
            input = input
                .get((after.0 - before.0) as usize..)
                .unwrap_or_default();
            if matches!(status, Status::StreamEnd) {
                if input.is_empty() {
                    return Ok(status);
                }
                self.last_blocks += 1;
                if self.last_blocks > LAST_BLOCKS_MAX {
                    return Err(Broken::NotDeflate);
                }
                self.inflate.reset(false);
            } else if after == before {
                return match input {
                    [] => Ok(status),
                    _ => Err(Broken::NotDeflate),
                };
            }
        }
    }

    /// Inflates into the room there is, or into more.
    fn step(&mut self, input: &[u8]) -> Result<Status, Broken> {
        let room = self.bytes_max.saturating_sub(self.output.len());
        if room == 0 {
            // The message may end here. If a byte more comes out it does not.
            let before = self.inflate.total_out();
            let status = self
                .inflate
                .decompress(input, &mut [0], FlushDecompress::None);
            if self.inflate.total_out() > before {
                return Err(Broken::TooLong);
            }
            return status.map_err(|_| Broken::NotDeflate);
        }
        if self.output.len() == self.output.capacity() {
            let more = self.output.len().max(2 * input.len());
            self.output
                .reserve_exact(more.max(INFLATED_BYTES_MIN).min(room));
        }
        let status = self
            .inflate
            .decompress_vec(input, &mut self.output, FlushDecompress::None)
            .map_err(|_| Broken::NotDeflate)?;
        // An allocator may give more than was asked for.
        if self.output.len() > self.bytes_max {
            return Err(Broken::TooLong);
        }
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 100_000;

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // Section 7.2.3: a compressed block, one without compression, a last block, two blocks.
        for payload in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0, 5, 0, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[
                0xf2, 0x48, 0x05, 0, 0, 0, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0,
            ],
        ] {
            assert_eq!(
                inflate(payload, MAX).as_deref(),
                Ok(&b"Hello"[..]),
                "{payload:x?}"
            );
            assert_eq!(inflate(payload, 5).as_deref(), Ok(&b"Hello"[..]));
            assert_eq!(inflate(payload, 4), Err(Broken::TooLong), "{payload:x?}");
        }
        // Section 7.2.3.6: nothing.
        assert_eq!(inflate(&[0], 0), Ok(Vec::new()));
    }

    #[test]
    fn what_is_cut_short_or_goes_on_is_refused() {
        let message = "the same and the same again, ".repeat(20);
        let whole = compress(message.as_bytes()).unwrap();
        for end in 0..whole.len() {
            assert!(inflate(&whole[..end], MAX).is_err(), "{end}");
        }
        for more in [&[0][..], &[7], &[0xff; 9]] {
            let longer = [&whole, more].concat();
            assert_ne!(
                inflate(&longer, MAX).as_deref(),
                Ok(message.as_bytes()),
                "{more:?}"
            );
        }
        // Last blocks of nothing, each of which would cost a new beginning.
        assert_eq!(inflate(&[3, 0].repeat(MAX), MAX), Err(Broken::NotDeflate));
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        for (bytes, limit) in [(MAX + 1, MAX), (50_000_000, MAX), (50_000_000, 1)] {
            let bomb = compress(&vec![b'x'; bytes]).unwrap();
            assert_eq!(inflate(&bomb, limit), Err(Broken::TooLong), "{bytes}");
        }
        let most = compress(&[b'x'; MAX]).unwrap();
        let message = inflate(&most, MAX).unwrap();
        assert_eq!((message.len(), message.capacity()), (MAX, MAX));
    }

    #[test]
    fn no_message_sees_another() {
        // Longer than the window, so that it fills it.
        let secret = b"the password of somebody else".repeat(2_000);
        let payload = compress(&secret).unwrap();
        assert_eq!(inflate(&payload, MAX), Ok(secret));
        // A copy of the three bytes before the beginning. The library takes that, as three zeros.
        let before_the_beginning = [0x02, 0x02, 0x00, 0x00];
        assert_eq!(inflate(&before_the_beginning, MAX), Ok(vec![0; 3]));
    }

    #[test]
    fn what_would_not_become_smaller_is_left() {
        assert_eq!(compress(b""), None);
        assert_eq!(compress(b"short"), None);
        let mut noise = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .take(5_000)
        .collect();
        assert_eq!(compress(&noise), None);
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(
            words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..5),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..2_000),
        ) {
            let message: Vec<u8> = order.iter().flat_map(|at| at.get(&words)).copied().collect();
            if let Some(payload) = compress(&message) {
                prop_assert!(payload.len() < message.len());
                prop_assert_eq!(inflate(&payload, message.len()), Ok(message.clone()));
                prop_assert_eq!(inflate(&payload, message.len() - 1), Err(Broken::TooLong));
            }
        }

        #[test]
        fn any_bytes_are_inflated_within_bounds(
            payload in prop::collection::vec(any::<u8>(), 0..300),
            bytes_max in 0_usize..2_000,
        ) {
            if let Ok(message) = inflate(&payload, bytes_max) {
                prop_assert!(message.capacity() <= bytes_max.max(message.len()));
                prop_assert!(message.len() <= bytes_max);
            }
        }

        #[test]
        fn damage_is_an_error_or_another_message(
            words in prop::collection::vec("[a-z]{1,9} ", 100..300),
            at: prop::sample::Index,
            flip in 1_u8..,
        ) {
            let message = words.concat();
            let mut payload = compress(message.as_bytes()).unwrap();
            let at = at.index(payload.len());
            payload[at] ^= flip;
            if let Ok(other) = inflate(&payload, MAX) {
                prop_assert!(other.len() <= MAX);
            }
        }
    }
}

//! The text of a message under load: its number in the conversation, when its clock started, and padding
//! up to the wanted size. By the number the recipient tells what is lost, doubled or out of order; by the
//! time it tells how long the way was (all clients of a run share one clock).

use std::time::{Duration, Instant};

/// What a text needs at least: two numbers in hexadecimal.
pub const HEADER_BYTES: usize = NUMBER_DIGITS + MICROS_DIGITS;

const NUMBER_DIGITS: usize = 8;
const MICROS_DIGITS: usize = 16;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The sender's how-manieth message in this conversation, from 0.
    pub number: u32,
    /// When its clock started, after the beginning of the run.
    pub started: Duration,
}

impl Letter {
    /// A letter whose clock started at `at`.
    #[must_use]
    pub fn new(number: u32, at: Instant, beginning: Instant) -> Letter {
        Letter {
            number,
            started: at.saturating_duration_since(beginning),
        }
    }

    /// The text, of this many bytes (or [`HEADER_BYTES`], if that is more).
    #[must_use]
    pub fn text(&self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes.max(HEADER_BYTES));
        let micros = u64::try_from(self.started.as_micros()).unwrap_or(u64::MAX);
        put_hex(&mut text, u64::from(self.number), NUMBER_DIGITS);
        put_hex(&mut text, micros, MICROS_DIGITS);
        text.extend(std::iter::repeat_n('.', bytes.saturating_sub(HEADER_BYTES)));
        text
    }

    /// Reads a text back; `None` if it is none of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Letter> {
        let number = u32::from_str_radix(text.get(..NUMBER_DIGITS)?, 16).ok()?;
        let micros = u64::from_str_radix(text.get(NUMBER_DIGITS..HEADER_BYTES)?, 16).ok()?;
        Some(Letter {
            number,
            started: Duration::from_micros(micros),
        })
    }
}

fn put_hex(text: &mut String, number: u64, digits: usize) {
    for place in (0..digits).rev() {
        let digit = (number >> (4 * place)) & 15;
        text.push(char::from(HEX[digit as usize]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_wanted_size_and_read_back() {
        let letter = Letter {
            number: 0x1234_5678,
            started: Duration::from_micros(987_654_321),
        };
        for bytes in [HEADER_BYTES, 100, 5_000] {
            let text = letter.text(bytes);
            assert_eq!(text.len(), bytes);
            assert_eq!(Letter::parse(&text), Some(letter));
        }
        assert_eq!(letter.text(0).len(), HEADER_BYTES);
    }

    #[test]
    fn other_texts_are_none_of_ours() {
        for text in [
            "",
            "hello",
            "é23456781234567812345678",
            "0000000g0000000000000000",
        ] {
            assert_eq!(Letter::parse(text), None, "{text}");
        }
    }
}

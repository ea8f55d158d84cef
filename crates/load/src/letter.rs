//! The text of a message under load: its number in the conversation, when its clock started, and words
//! up to the wanted size (drawn by number and time, so that a text compresses about as well as what people write). By the number the recipient tells what is lost, doubled or out of order; by the
//! time it tells how long the way was (all clients of a run share one clock).

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// What a text needs at least: two numbers in hexadecimal.
pub const HEADER_BYTES: usize = NUMBER_DIGITS + MICROS_DIGITS;

/// Words may be so long, with the space before them.
const WORD_BYTES_MAX: usize = 16;
const NUMBER_DIGITS: usize = 8;
const MICROS_DIGITS: usize = 16;
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Common words.
const WORD_LIST: &str = "the be to of and a in that have I it for not on with he as you do at this but his by from they we \
    say her she or an will my one all would there their what so up out if about who get which go me when make can \
    like time no just him know take people into year your good some could them see other than then now look only come \
    its over think also back after use two how our work first well way even new want because any these give day most \
    us Monday train ticket dinner tomorrow meeting photo house morning sorry thanks great really maybe later tonight \
    weekend phone garden coffee kitchen yes no okay tired happy birthday bring bread milk school children doctor \
    window street number letter answer question story music evening happened remember yesterday always never \
    nothing everything somebody quickly together without between another already almost enough quite rather \
    station airport hotel weather raining sunshine holiday summer winter brother sister mother father friend neighbour \
    money price cheap expensive market shop closed open early late hour minute week month soon again once twice \
    beautiful strange funny terrible wonderful important difficult easy possible impossible different same right wrong \
    left near far here where why while until since before during against under above the and to you is was are";

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The sender's how-manieth message in this conversation, from 0.
    pub number: u32,
    /// When its clock started, after the beginning of the run.
    pub started: Duration,
}

static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| WORD_LIST.split_whitespace().collect());

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
        let mut text = String::with_capacity(bytes.max(HEADER_BYTES) + WORD_BYTES_MAX);
        let micros = u64::try_from(self.started.as_micros()).unwrap_or(u64::MAX);
        put_hex(&mut text, u64::from(self.number), NUMBER_DIGITS);
        put_hex(&mut text, micros, MICROS_DIGITS);
        let mut draw = micros ^ (u64::from(self.number) << 32) | 1;
        while text.len() < bytes {
            // xorshift64
            draw ^= draw << 13;
            draw ^= draw >> 7;
            draw ^= draw << 17;
            text.push(' ');
            let word = WORDS.get((draw >> 48) as usize % WORDS.len());
            text.push_str(word.unwrap_or(&"and"));
        }
        text.truncate(bytes.max(HEADER_BYTES));
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
        assert!(WORDS.iter().all(|word| word.len() < WORD_BYTES_MAX));
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

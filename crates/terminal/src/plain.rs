//! Text by others, made harmless for a terminal.
//!
//! Whoever writes a message must not be able to move the cursor, change colours, turn the line around or
//! break the columns on somebody else's screen.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Marks that may stand on one letter; more are left out.
const MARKS_MAX: usize = 4;
/// A tab is so many spaces: where it ends depends on where it begins, which wrapping would not know.
const TAB: &str = "    ";

/// Text of several lines. Line breaks are `\n` alone.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c == '\n' || (' '..='~').contains(&c)) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut marks = 0;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\u{2028}' | '\u{2029}' | '\u{85}' => plain.push('\n'),
            '\r' => {
                if characters.peek() != Some(&'\n') {
                    plain.push('\n');
                }
            }
            '\t' => plain.push_str(TAB),
            // Shown as what they are: ␛ for escape.
            '\0'..='\x1f' => {
                plain.push(char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}'))
            }
            '\x7f' => plain.push('\u{2421}'),
            '\u{80}'..='\u{9f}' => plain.push('\u{fffd}'),
            _ if is_unseen(character) => {}
            _ if is_mark(character) => {
                marks += 1;
                if marks <= MARKS_MAX {
                    plain.push(character);
                }
                continue;
            }
            _ => plain.push(character),
        }
        marks = 0;
    }
    Cow::Owned(plain)
}

/// Text of one line: line breaks become spaces.
pub(crate) fn line(one: &str) -> String {
    text(one).replace('\n', " ").trim().to_owned()
}

/// A name, cut to a width; a name of nothing that can be seen says so.
pub(crate) fn name(name: &str, width: usize) -> String {
    let plain = line(name);
    if plain.width() == 0 {
        cut("(no name)", width)
    } else {
        cut(&plain, width)
    }
}

/// The text cut to so many columns, with an ellipsis if something is missing.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 0;
    for grapheme in text.graphemes(true) {
        used += grapheme.width();
        // One column is the ellipsis'.
        if used + 1 > width {
            break;
        }
        short.push_str(grapheme);
    }
    if width > 0 {
        short.push('…');
    }
    short
}

/// Characters that have no picture but an effect: on direction, on joining, on how wide others are. Terminals
/// disagree about the width of joined emoji, so these are shown side by side.
fn is_unseen(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}')
}

/// Stands on the letter before it.
fn is_mark(character: char) -> bool {
    unicode_width::UnicodeWidthChar::width(character) == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        for (hostile, harmless) in [
            ("plain", "plain"),
            ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
            ("a\u{9b}31mb", "a\u{fffd}31mb"),
            ("bell\x07 back\x08", "bell␇ back␈"),
            ("one\r\ntwo\rthree\u{2028}four", "one\ntwo\nthree\nfour"),
            ("a\tb", "a    b"),
            ("evil\u{202e}gpj.exe", "evilgpj.exe"),
            ("a\u{200b}b\u{feff}c\u{2066}d", "abcd"),
            ("👨\u{200d}👩\u{200d}👧 ❤\u{fe0f}", "👨👩👧 ❤"),
            ("tag\u{e0041}s", "tags"),
            ("é und e\u{301}", "é und e\u{301}"),
        ] {
            assert_eq!(text(hostile), harmless);
        }
        let tower = format!("z{}a", "\u{301}".repeat(1000));
        assert_eq!(text(&tower).chars().count(), 2 + MARKS_MAX);
    }

    #[test]
    fn cutting_counts_columns() {
        for (whole, width, short) in [
            ("hello", 5, "hello"),
            ("hello", 4, "hel…"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("ab", 0, ""),
        ] {
            assert_eq!(cut(whole, width), short);
        }
        assert_eq!(name("\u{200b}\u{3164}", 20), "(no name)");
        assert_eq!(line(" a\nb "), "a b");
    }
}

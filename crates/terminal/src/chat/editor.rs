//! The input line: text, a cursor, and where both stand on the screen.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};
use unicode_width::UnicodeWidthStr;

use crate::plain;

/// What a server may take is less; nothing longer is pasted, in bytes.
const BYTES_MAX: usize = 400_000;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Editor {
    text: String,
    /// In bytes, on a grapheme's edge.
    cursor: usize,
}

/// The text in lines of a width, and the cursor's line and column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Laid {
    pub(crate) lines: Vec<String>,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl Editor {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Empties it and answers what was in it.
    pub(crate) fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    pub(crate) fn set(&mut self, text: String) {
        self.cursor = text.len();
        self.text = text;
    }

    /// Types or pastes. Line breaks become `\n`, other control characters are left out.
    pub(crate) fn insert(&mut self, text: &str) {
        let text = text
            .replace("\r\n", "\n")
            .replace('\r', "\n")
            .replace('\t', "    ");
        let text: String = text
            .chars()
            .filter(|c| *c == '\n' || !c.is_control())
            .collect();
        if self.text.len() + text.len() <= BYTES_MAX {
            self.text.insert_str(self.cursor, &text);
            self.cursor += text.len();
            self.settle();
        }
    }

    pub(crate) fn left(&mut self) {
        self.cursor = self.before();
    }

    pub(crate) fn right(&mut self) {
        self.cursor = self.after();
    }

    pub(crate) fn word_left(&mut self) {
        self.cursor = self.word_before();
    }

    pub(crate) fn word_right(&mut self) {
        let rest = self.text.get(self.cursor..).unwrap_or_default();
        let end = rest
            .unicode_word_indices()
            .next()
            .map(|(at, word)| at + word.len());
        self.cursor += end.unwrap_or(rest.len());
    }

    pub(crate) fn home(&mut self) {
        self.cursor = self.line_start();
    }

    pub(crate) fn end(&mut self) {
        self.cursor = self.line_end();
    }

    /// Goes one line up. False if it is in the first.
    pub(crate) fn up(&mut self) -> bool {
        let start = self.line_start();
        if start == 0 {
            return false;
        }
        let column = self.column();
        self.cursor = start - 1;
        self.cursor = self.line_start();
        self.go_to_column(column);
        true
    }

    /// Goes one line down. False if it is in the last.
    pub(crate) fn down(&mut self) -> bool {
        let end = self.line_end();
        if end == self.text.len() {
            return false;
        }
        let column = self.column();
        self.cursor = end + 1;
        self.go_to_column(column);
        true
    }

    pub(crate) fn backspace(&mut self) {
        self.delete_from(self.before());
    }

    pub(crate) fn delete(&mut self) {
        self.text.replace_range(self.cursor..self.after(), "");
    }

    pub(crate) fn delete_word(&mut self) {
        self.delete_from(self.word_before());
    }

    pub(crate) fn delete_to_start(&mut self) {
        self.delete_from(self.line_start());
    }

    pub(crate) fn delete_to_end(&mut self) {
        self.text.replace_range(self.cursor..self.line_end(), "");
    }

    /// How it is shown: broken at the width, harmless, and where the cursor is.
    pub(crate) fn lay(&self, width: usize) -> Laid {
        let width = width.max(2);
        let mut laid = Laid {
            lines: vec![String::new()],
            row: 0,
            column: 0,
        };
        let mut column = 0;
        for (at, grapheme) in self.text.grapheme_indices(true) {
            let shown = plain::text(grapheme);
            let wide = if grapheme == "\n" { 0 } else { shown.width() };
            if column + wide > width {
                laid.lines.push(String::new());
                column = 0;
            }
            if at == self.cursor {
                (laid.row, laid.column) = (laid.lines.len() - 1, column);
            }
            if grapheme == "\n" {
                laid.lines.push(String::new());
                column = 0;
            } else if let Some(line) = laid.lines.last_mut() {
                line.push_str(&shown);
                column += wide;
            }
        }
        if self.cursor == self.text.len() {
            if column == width {
                laid.lines.push(String::new());
                column = 0;
            }
            (laid.row, laid.column) = (laid.lines.len() - 1, column);
        }
        laid
    }

    fn before(&self) -> usize {
        let mut cursor = GraphemeCursor::new(self.cursor, self.text.len(), true);
        cursor
            .prev_boundary(&self.text, 0)
            .ok()
            .flatten()
            .unwrap_or(0)
    }

    fn after(&self) -> usize {
        let mut cursor = GraphemeCursor::new(self.cursor, self.text.len(), true);
        cursor
            .next_boundary(&self.text, 0)
            .ok()
            .flatten()
            .unwrap_or(self.text.len())
    }

    fn word_before(&self) -> usize {
        let before = self.text.get(..self.cursor).unwrap_or_default();
        before
            .unicode_word_indices()
            .next_back()
            .map_or(0, |(at, _)| at)
    }

    fn line_start(&self) -> usize {
        let before = self.text.get(..self.cursor).unwrap_or_default();
        before.rfind('\n').map_or(0, |at| at + 1)
    }

    fn line_end(&self) -> usize {
        let rest = self.text.get(self.cursor..).unwrap_or_default();
        rest.find('\n')
            .map_or(self.text.len(), |at| self.cursor + at)
    }

    fn column(&self) -> usize {
        self.text
            .get(self.line_start()..self.cursor)
            .unwrap_or_default()
            .graphemes(true)
            .count()
    }

    fn go_to_column(&mut self, column: usize) {
        let line = self
            .text
            .get(self.cursor..self.line_end())
            .unwrap_or_default();
        let end = line.len();
        self.cursor += line
            .grapheme_indices(true)
            .nth(column)
            .map_or(end, |(at, _)| at);
    }

    fn delete_from(&mut self, start: usize) {
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    /// What was typed may have joined what stands after it.
    fn settle(&mut self) {
        let mut cursor = GraphemeCursor::new(self.cursor, self.text.len(), true);
        if !cursor.is_boundary(&self.text, 0).unwrap_or(true) {
            self.cursor = self.after();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn editor(text: &str) -> Editor {
        let mut editor = Editor::default();
        editor.insert(text);
        editor
    }

    #[test]
    fn letters_are_graphemes() {
        let mut editor = editor("ae\u{301}👨\u{200d}👩\u{200d}👧日");
        for rest in ["ae\u{301}👨\u{200d}👩\u{200d}👧", "ae\u{301}", "a", "", ""] {
            editor.backspace();
            assert_eq!(editor.text(), rest);
        }
    }

    #[test]
    fn moving_and_deleting() {
        let mut editor = editor("one two\nthree");
        assert!(editor.up());
        editor.insert("X");
        assert_eq!(editor.text(), "one tXwo\nthree");
        assert!(!editor.up());
        editor.delete_word();
        assert_eq!(editor.text(), "one wo\nthree");
        editor.word_left();
        editor.delete_to_end();
        editor.delete();
        assert_eq!(editor.text(), "three");
        assert!(!editor.down());
        editor.end();
        editor.delete_to_start();
        assert!(editor.is_empty());
    }

    #[test]
    fn pasting_leaves_out_what_controls() {
        assert_eq!(editor("a\r\nb\x1b[31mc\rd\te").text(), "a\nb[31mc\nd    e");
    }

    #[test]
    fn it_is_broken_at_the_width_and_the_cursor_follows() {
        let laid = editor("abcdef日本\n").lay(4);
        assert_eq!(laid.lines, ["abcd", "ef日", "本", ""]);
        assert_eq!((laid.row, laid.column), (3, 0));
        let laid = editor("abcd").lay(4);
        assert_eq!((laid.lines.len(), laid.row, laid.column), (2, 1, 0));
        let mut editor = editor("ab日");
        editor.left();
        let laid = editor.lay(3);
        assert_eq!(
            (laid.lines, laid.row, laid.column),
            (vec!["ab".to_owned(), "日".to_owned()], 1, 0)
        );
    }
}

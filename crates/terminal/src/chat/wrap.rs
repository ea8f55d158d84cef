//! Breaking text into lines.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Breaks at spaces where it can, inside words where it must. At most so many lines.
pub(crate) fn wrap(text: &str, width: usize, lines_max: usize) -> Vec<String> {
    let width = width.max(2);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let mut used = 0;
        for word in paragraph.split_inclusive(' ') {
            let wide = word.trim_end_matches(' ').width();
            if used > 0 && used + wide > width {
                lines.push(finished(&mut line));
                used = 0;
            }
            for grapheme in word.graphemes(true) {
                let wide = grapheme.width();
                if used + wide > width {
                    if grapheme == " " {
                        continue;
                    }
                    lines.push(finished(&mut line));
                    used = 0;
                }
                line.push_str(grapheme);
                used += wide;
                if lines.len() >= lines_max {
                    return lines;
                }
            }
        }
        lines.push(finished(&mut line));
        if lines.len() >= lines_max {
            break;
        }
    }
    lines
}

fn finished(line: &mut String) -> String {
    line.truncate(line.trim_end_matches(' ').len());
    std::mem::take(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_never_too_wide() {
        for (text, width, lines) in [
            ("one two three", 8, vec!["one two", "three"]),
            ("one  two", 4, vec!["one", "two"]),
            ("abcdefghij k", 4, vec!["abcd", "efgh", "ij k"]),
            ("日本語 中文", 5, vec!["日本", "語", "中文"]),
            ("", 4, vec![""]),
            ("a\n\nb", 4, vec!["a", "", "b"]),
            ("  code", 9, vec!["  code"]),
        ] {
            assert_eq!(wrap(text, width, 100), lines, "{text}");
        }
        assert_eq!(wrap(&"a\n".repeat(1000), 4, 7).len(), 7);
        assert_eq!(wrap(&"a".repeat(100_000), 10, 7).len(), 7);
    }
}

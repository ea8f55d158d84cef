//! The input line.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{list, style};
use crate::chat::editor::Laid;
use crate::chat::screen::{Composing, Screen};
use crate::plain;

const PROMPT: &str = " › ";
/// The prompt and a column at the end.
const MARGIN: u16 = 4;

/// How many lines it wants: a rule or what is answered or edited, then the text.
pub(super) fn height(screen: &Screen, width: u16) -> u16 {
    let lines = lay(screen, width).lines.len();
    u16::try_from(lines).unwrap_or(u16::MAX).saturating_add(1)
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let width = usize::from(area.width);
    let above = match above(screen) {
        Some(text) => Line::from(Span::styled(
            format!(" {}", plain::cut(&text, width.saturating_sub(2))),
            style::CHOSEN,
        )),
        None => Line::from(Span::styled("─".repeat(width), style::FAINT)),
    };
    let laid = lay(screen, area.width);
    let fitting = usize::from(area.height).saturating_sub(1).max(1);
    let first = (laid.row + 1).saturating_sub(fitting);
    let mut lines = vec![above];
    for (row, line) in laid.lines.into_iter().enumerate().skip(first).take(fitting) {
        let prompt = Span::styled(if row == 0 { PROMPT } else { "   " }, style::NEW);
        let text = if row == 0 && screen.editor.is_empty() {
            Span::styled(placeholder(screen), style::FAINT)
        } else {
            Span::raw(line)
        };
        lines.push(Line::from(vec![prompt, text]));
    }
    frame.render_widget(Paragraph::new(lines), area);
    if screen.overlay.is_none() && screen.selected.is_none() {
        let row = u16::try_from(laid.row - first).unwrap_or(0);
        let column = u16::try_from(laid.column).unwrap_or(0);
        frame.set_cursor_position(Position::new(
            area.x + MARGIN - 1 + column,
            area.y + 1 + row,
        ));
    }
}

fn lay(screen: &Screen, width: u16) -> Laid {
    screen.editor.lay(usize::from(width.saturating_sub(MARGIN)))
}

fn above(screen: &Screen) -> Option<String> {
    let seq = match screen.composing {
        Composing::Message => return None,
        Composing::Edit(_) => {
            return Some("Change the message · Enter: done · Esc: leave it".to_owned());
        }
        Composing::Reply(seq) => seq,
    };
    let item = screen.items().iter().find(|item| item.seq == Some(seq));
    let preview = item.and_then(|item| match &item.body {
        tidings_client::ItemBody::Message(content) => {
            Some((item.author, plain::line(&content.text)))
        }
        _ => None,
    });
    let reply = |item: &tidings_client::Item| item.reply.clone();
    Some(
        match (
            preview,
            item.and_then(reply).and_then(|reply| reply.preview),
        ) {
            (Some((author, text)), _) => format!("↪ {}: {text}", screen.model.name(author)),
            (None, Some(preview)) => format!("↪ {}", list::in_words(&preview)),
            (None, None) => "↪ Reply".to_owned(),
        },
    )
}

fn placeholder(screen: &Screen) -> &'static str {
    let gone = |current: &crate::chat::model::Current| {
        current
            .details
            .as_ref()
            .is_some_and(|details| details.view.gone)
    };
    match &screen.model.current {
        None => "/dm NAME",
        Some(current) if gone(current) => "You can read, not write.",
        Some(_) => "Write a message",
    }
}

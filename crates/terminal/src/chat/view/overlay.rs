//! What lies over the rest: help, long texts, questions; and the line at the bottom.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::style;
use crate::chat::command::COMMANDS;
use crate::chat::screen::{Composing, Overlay, Screen};
use crate::chat::wrap::wrap;
use crate::plain;

const WIDTH_MAX: u16 = 84;
/// Nothing longer is laid out, in lines.
const LINES_MAX: usize = 10_000;

const KEYS: [(&str, &str); 14] = [
    ("Enter", "send"),
    ("Alt+Enter, Ctrl+J", "a new line"),
    ("Alt+↑ ↓, Ctrl+P N", "the conversation above, below"),
    ("Alt+1 … Alt+9", "the first, … ninth conversation"),
    ("Ctrl+G", "the next conversation with something new"),
    ("PgUp PgDn, Shift+↑ ↓", "scroll"),
    (
        "Ctrl+End, Ctrl+Home",
        "to the newest, to the oldest that is loaded",
    ),
    ("↑", "choose a message; then:"),
    ("   r  e  d", "reply, edit, delete"),
    (
        "   + or a digit",
        "react: 1 👍  2 ❤  3 😂  4 😮  5 😢  6 🙏",
    ),
    ("   Enter", "read all of it"),
    ("   s  x", "send what failed once more, give it up"),
    ("Esc", "back"),
    ("Ctrl+Q, Ctrl+C", "quit"),
];

pub(super) fn draw(frame: &mut Frame<'_>, body: Rect, screen: &Screen) {
    match &screen.overlay {
        None | Some(Overlay::Confirm { .. }) => {}
        Some(Overlay::Help { scroll }) => {
            let mut lines = vec![Line::from(Span::styled("Keys", style::STRONG))];
            lines.extend(KEYS.map(entry));
            lines.push(Line::default());
            lines.push(Line::from(Span::styled("Commands", style::STRONG)));
            lines.extend(COMMANDS.map(entry));
            lines.push(Line::default());
            lines.push(Line::from(Span::styled("Ticks", style::STRONG)));
            for (sign, sign_style, meaning) in [
                ("○", style::FAINT, "waits to be sent"),
                ("✓", style::FAINT, "the server has it for good"),
                ("✓✓", style::FAINT, "everybody it is for has received it"),
                ("✓✓", style::READ, "everybody has read it"),
                ("!", style::ERROR, "was refused"),
            ] {
                let sign = Span::styled(format!("  {sign:<22}"), sign_style);
                lines.push(Line::from(vec![sign, Span::raw(meaning)]));
            }
            window(frame, body, " Help ", lines, *scroll);
        }
        Some(Overlay::Text {
            title,
            text,
            scroll,
        }) => {
            let width = usize::from(width(body)).saturating_sub(4);
            let lines = wrap(&plain::text(text), width, LINES_MAX)
                .into_iter()
                .map(Line::from)
                .collect();
            window(frame, body, &format!(" {title} "), lines, *scroll);
        }
    }
}

fn entry((key, meaning): (&'static str, &'static str)) -> Line<'static> {
    Line::from(vec![
        Span::styled(format!("  {key:<31}"), style::NEW),
        Span::raw(meaning),
    ])
}

fn width(body: Rect) -> u16 {
    body.width.saturating_sub(4).min(WIDTH_MAX)
}

fn window(frame: &mut Frame<'_>, body: Rect, title: &str, lines: Vec<Line<'_>>, scroll: usize) {
    let wanted = u16::try_from(lines.len())
        .unwrap_or(u16::MAX)
        .saturating_add(2);
    let (width, height) = (width(body), wanted.min(body.height));
    let x = body.x + (body.width - width) / 2;
    let area = Rect {
        x,
        y: body.y + (body.height - height) / 2,
        width,
        height,
    };
    let inside = usize::from(height.saturating_sub(2));
    let scroll = scroll.min(lines.len().saturating_sub(inside));
    let more = if lines.len() > inside {
        " ↑ ↓ · Esc "
    } else {
        " Esc "
    };
    let shown: Vec<Line<'_>> = lines.into_iter().skip(scroll).take(inside).collect();
    frame.render_widget(Clear, area);
    let block = Block::bordered()
        .border_style(style::FAINT)
        .title(title.to_owned())
        .title_bottom(more);
    frame.render_widget(
        Paragraph::new(shown).block(block.padding(ratatui::widgets::Padding::horizontal(1))),
        area,
    );
}

/// A question, a notice, or what the keys do now.
pub(super) fn draw_footer(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let width = usize::from(area.width).saturating_sub(2);
    let (text, style) = match (&screen.overlay, &screen.notice) {
        (Some(Overlay::Confirm { question, .. }), _) => {
            (format!("{question}  y: yes · n: no"), style::WARNING)
        }
        (_, Some(notice)) if notice.is_error => (plain::line(&notice.text), style::ERROR),
        (_, Some(notice)) => (plain::line(&notice.text), style::NEW),
        (Some(_), None) => ("Esc close · ↑ ↓ scroll".to_owned(), style::FAINT),
        (None, None) => (keys(screen).to_owned(), style::FAINT),
    };
    let text = format!(" {}", plain::cut(&text, width));
    frame.render_widget(Paragraph::new(Line::from(Span::styled(text, style))), area);
}

fn keys(screen: &Screen) -> &'static str {
    match (screen.selected.is_some(), screen.composing) {
        (true, _) => {
            "r reply · e edit · d delete · + react · Enter read all · ↑ ↓ choose · Esc back"
        }
        (false, Composing::Reply(_)) => "Enter send the reply · Esc no reply",
        (false, Composing::Edit(_)) => "Enter change the message · Esc leave it",
        (false, Composing::Message) => {
            "Enter send · Alt+↑↓ switch · ↑ choose · PgUp scroll · F1 help · Ctrl+Q quit"
        }
    }
}

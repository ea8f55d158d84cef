//! The conversations, newest first: name, last message, how many are new.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use tidings_client::{ConversationView, Preview, Status};
use tidings_core::ConversationId;
use tidings_protocol::entry::ConversationKind;
use unicode_width::UnicodeWidthStr;

use super::item::tick;
use super::style;
use crate::chat::screen::Screen;
use crate::plain;

/// Each conversation has two lines.
const ROWS: usize = 2;

pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    screen: &Screen,
) -> Vec<(ConversationId, u16)> {
    let width = usize::from(area.width);
    let model = &screen.model;
    let (dot, dot_style) = match model.status {
        Status::Online => ("●", style::NEW),
        Status::Syncing | Status::Connecting => ("◌", style::WARNING),
        Status::Offline | Status::Stopped(_) => ("○", style::ERROR),
    };
    let title = plain::cut(
        &format!("{}@{}", model.username, model.server),
        width.saturating_sub(3),
    );
    let mut lines = vec![
        Line::from(vec![
            Span::raw(" "),
            Span::styled(dot, dot_style),
            Span::raw(" "),
            Span::styled(title, style::STRONG),
        ]),
        Line::from(Span::styled("─".repeat(width), style::FAINT)),
    ];
    let top = lines.len();
    let fitting = usize::from(area.height).saturating_sub(top) / ROWS;
    let current = model.current.as_ref().map(|current| current.conversation);
    let at = model
        .conversations
        .iter()
        .position(|view| Some(view.conversation) == current)
        .unwrap_or(0);
    let first = (at + 1).saturating_sub(fitting);
    let mut rows = Vec::new();
    for view in model.conversations.iter().skip(first).take(fitting) {
        let row = area
            .y
            .saturating_add(u16::try_from(lines.len()).unwrap_or(u16::MAX));
        rows.push((view.conversation, row));
        lines.extend(conversation(
            screen,
            view,
            Some(view.conversation) == current,
            width,
        ));
    }
    if model.conversations.is_empty() {
        lines.push(Line::default());
        lines.push(Line::from(Span::styled("  Nobody here yet.", style::FAINT)));
        lines.push(Line::from(Span::styled(
            "  /dm NAME begins a talk.",
            style::FAINT,
        )));
    }
    frame.render_widget(Paragraph::new(lines), area);
    rows
}

fn conversation(
    screen: &Screen,
    view: &ConversationView,
    here: bool,
    width: usize,
) -> [Line<'static>; ROWS] {
    let at = screen.clock.short(view.at);
    let badge = match view.unread {
        0 => String::new(),
        1..=999 => format!(" {} ", view.unread),
        _ => " 999+ ".to_owned(),
    };
    let sign = match (view.kind, view.online) {
        (ConversationKind::Group, _) => Span::styled("#", style::FAINT),
        (ConversationKind::Direct, Some(true)) => Span::styled("●", style::NEW),
        (ConversationKind::Direct, _) => Span::raw(" "),
    };
    let name = plain::name(&view.name, width.saturating_sub(at.width() + 5));
    let name_style = match (view.gone, view.unread > 0) {
        (true, _) => style::FAINT,
        (false, true) => style::STRONG,
        (false, false) => Style::new(),
    };
    let pad = width.saturating_sub(name.width() + at.width() + 4);
    let edge = Span::styled(if here { "▌" } else { " " }, style::NEW);
    let name = Span::styled(name, if here { style::STRONG } else { name_style });
    let time = Span::styled(
        at,
        if view.unread > 0 {
            style::NEW
        } else {
            style::FAINT
        },
    );
    let first = Line::from(vec![
        edge.clone(),
        sign,
        Span::raw(" "),
        name,
        Span::raw(" ".repeat(pad)),
        time,
    ]);

    let room = width.saturating_sub(badge.width() + 4);
    let mut second = vec![edge, Span::raw("  ")];
    // A column between the text and the badge.
    let used = below(screen, view, room.saturating_sub(1), &mut second);
    second.push(Span::raw(" ".repeat(room.saturating_sub(used))));
    second.push(Span::styled(badge, style::BADGE));
    [first, Line::from(second)]
}

/// Who is typing, or the last message. Answers its width.
fn below(
    screen: &Screen,
    view: &ConversationView,
    room: usize,
    spans: &mut Vec<Span<'static>>,
) -> usize {
    let mut push = |text: String, style: Style| {
        let width = text.width();
        spans.push(Span::styled(text, style));
        width
    };
    if let Some(user) = view.typing.first() {
        let text = match view.kind {
            ConversationKind::Direct => "typing…".to_owned(),
            ConversationKind::Group => format!("{} is typing…", screen.model.name(*user)),
        };
        return push(plain::cut(&text, room), style::TYPING);
    }
    let draft = screen
        .drafts
        .get(&view.conversation)
        .filter(|draft| !draft.trim().is_empty());
    if let Some(draft) = draft {
        return push(
            plain::cut(&format!("Draft: {}", plain::line(draft)), room),
            style::WARNING,
        );
    }
    if view.gone {
        return push(plain::cut("You are no longer in it.", room), style::FAINT);
    }
    let Some(last) = &view.last else { return 0 };
    let mut used = 0;
    if let Some((sign, style)) = tick(&last.state) {
        used += push(format!("{sign} "), style);
    }
    let mut text = in_words(last);
    if view.kind == ConversationKind::Group && last.author != screen.model.me {
        text = format!("{}: {text}", screen.model.name(last.author));
    }
    used + push(plain::cut(&text, room.saturating_sub(used)), style::FAINT)
}

/// A preview in one line.
pub(super) fn in_words(preview: &Preview) -> String {
    match (preview.erased, plain::line(&preview.text), preview.more) {
        (true, ..) => "(deleted)".to_owned(),
        (false, text, false) => text,
        (false, text, true) if text.is_empty() => "[attachment]".to_owned(),
        (false, text, true) => format!("{text} [+]"),
    }
}

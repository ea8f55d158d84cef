//! One item of the timeline as lines: others' messages on the left, one's own on the right.

use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use tidings_client::{Item, ItemBody, ItemState};
use tidings_core::UserId;
use tidings_protocol::entry::{Content, ConversationKind, Role, SettingsChange};
use unicode_width::UnicodeWidthStr;

use super::{list, style};
use crate::chat::clock::span;
use crate::chat::screen::Screen;
use crate::chat::wrap::wrap;
use crate::driver::http::explain;
use crate::plain;

/// A longer message is cut, in lines and characters; Enter on it shows all.
const LINES_MAX: usize = 24;
const CHARACTERS_MAX: usize = 3_000;
/// Wider lines are hard to read, in columns.
const WIDTH_MAX: usize = 76;
/// Messages of one author within so many milliseconds stand together.
const TOGETHER_MS: u64 = 5 * 60_000;
const REACTIONS_MAX: usize = 12;

/// The sign of how far a message is, and its colour.
pub(super) fn tick(state: &ItemState) -> Option<(&'static str, Style)> {
    match state {
        ItemState::Plain => None,
        ItemState::Pending => Some(("○", style::FAINT)),
        ItemState::Sent => Some(("✓", style::FAINT)),
        ItemState::Delivered => Some(("✓✓", style::FAINT)),
        ItemState::Read => Some(("✓✓", style::READ)),
        ItemState::Failed(_) => Some(("!", style::ERROR)),
    }
}

/// The item with what stands between it and the one before: a new day, what is new, a name.
pub(super) fn block(screen: &Screen, index: usize, width: usize) -> Vec<Line<'static>> {
    let items = screen.items();
    let Some(item) = items.get(index) else {
        return Vec::new();
    };
    let before = index.checked_sub(1).and_then(|before| items.get(before));
    let mut lines = Vec::new();
    let day = screen.clock.day(item.at);
    let new_day = before.is_none_or(|before| screen.clock.day(before.at) != day);
    if new_day {
        lines.push(rule(
            &screen.clock.day_in_words(item.at),
            width,
            style::FAINT,
        ));
    }
    let is_new = |item: &Item| {
        let above = screen.new_above;
        is_said(item)
            && item.author != screen.model.me
            && item.seq.zip(above).is_some_and(|(seq, above)| seq > above)
    };
    let first_new = is_new(item) && !items.get(..index).unwrap_or_default().iter().any(is_new);
    if first_new {
        lines.push(rule("New", width, style::NEW));
    }
    match &item.body {
        ItemBody::Message(_)
        | ItemBody::Deleted
        | ItemBody::Vanished
        | ItemBody::Unsupported(_) => {
            let together = before.filter(|before| {
                !new_day
                    && !first_new
                    && is_said(before)
                    && before.author == item.author
                    && item.at.millis_since(before.at) < TOGETHER_MS
            });
            if together.is_none() && !new_day && !first_new {
                lines.push(Line::default());
            }
            lines.extend(said(screen, item, together.is_some(), width));
        }
        _ => lines.extend(event(screen, item, width)),
    }
    lines
}

fn is_said(item: &Item) -> bool {
    matches!(
        item.body,
        ItemBody::Message(_) | ItemBody::Deleted | ItemBody::Vanished | ItemBody::Unsupported(_)
    )
}

fn rule(text: &str, width: usize, style: Style) -> Line<'static> {
    let text = plain::cut(text, width.saturating_sub(6));
    let dashes = width.saturating_sub(text.width() + 4);
    let left = dashes / 2;
    Line::from(Span::styled(
        format!(
            " {} {text} {} ",
            "─".repeat(left),
            "─".repeat(dashes - left)
        ),
        style,
    ))
}

/// A message: whom it answers, what it says, when, how far it is, what others think of it.
fn said(screen: &Screen, item: &Item, together: bool, width: usize) -> Vec<Line<'static>> {
    let own = item.author == screen.model.me;
    let room = if width < 44 {
        width.saturating_sub(4)
    } else if width < 60 {
        width.saturating_sub(10)
    } else {
        (width * 3 / 4).min(WIDTH_MAX)
    };
    let mut lines: Vec<Line<'static>> = Vec::new();
    let in_group = screen
        .model
        .current
        .as_ref()
        .and_then(|current| current.details.as_ref())
        .is_some_and(|details| details.view.kind == ConversationKind::Group);
    if !own && in_group && !together {
        let name = plain::cut(&screen.model.name(item.author), room);
        lines.push(Line::from(Span::styled(
            name,
            style::of(item.author).patch(style::STRONG),
        )));
    }
    if let Some(reply) = &item.reply {
        let text = match &reply.preview {
            Some(preview) => format!(
                "↪ {}: {}",
                screen.model.name(preview.author),
                list::in_words(preview)
            ),
            None => format!("↪ message {}", reply.seq),
        };
        lines.push(Line::from(Span::styled(
            plain::cut(&text, room),
            style::FAINT,
        )));
    }
    let (text, text_style) = text(item);
    let mut wrapped = wrap(&text, room, LINES_MAX + 1);
    if wrapped.len() > LINES_MAX {
        wrapped.truncate(LINES_MAX);
        wrapped.push("… (choose it and press Enter to read on)".to_owned());
    }
    lines.extend(
        wrapped
            .into_iter()
            .map(|line| Line::from(Span::styled(plain::cut(&line, room), text_style))),
    );
    append(&mut lines, meta(screen, item), room);
    if !item.reactions.is_empty() {
        lines.push(reactions(item, room));
    }
    if let ItemState::Failed(problem) = &item.state {
        let why = format!(
            "not sent: {} (/retry or /cancel)",
            plain::line(&explain(problem))
        );
        lines.extend(
            wrap(&why, room, 3)
                .into_iter()
                .map(|line| Line::from(Span::styled(line, style::ERROR))),
        );
    }
    frame(screen, item, lines, own, width)
}

fn text(item: &Item) -> (String, Style) {
    let faint = style::FAINT.add_modifier(Modifier::ITALIC);
    match &item.body {
        ItemBody::Message(content) if content.opaque.is_some() => {
            ("not supported here".to_owned(), faint)
        }
        ItemBody::Message(content) => (in_words(content), Style::new()),
        ItemBody::Deleted => ("deleted".to_owned(), faint),
        ItemBody::Vanished => ("vanished".to_owned(), faint),
        _ => ("not supported here".to_owned(), faint),
    }
}

/// The text, harmless and not longer than is shown, then the names of the files.
fn in_words(content: &Content) -> String {
    let mut text: String = content.text.chars().take(CHARACTERS_MAX).collect();
    if text.len() < content.text.len() {
        // One line too many says that there is more.
        text.push_str(&"\n".repeat(LINES_MAX));
    }
    let mut text = plain::text(&text).into_owned();
    for attachment in &content.attachments {
        let name = if attachment.name.is_empty() {
            &attachment.reference
        } else {
            &attachment.name
        };
        text = format!(
            "{text}\n📎 {} ({} bytes)",
            plain::name(name, 40),
            attachment.bytes
        );
    }
    text.trim_start_matches('\n').to_owned()
}

/// When, whether edited, whether it vanishes, how far.
fn meta(screen: &Screen, item: &Item) -> Vec<Span<'static>> {
    let mut text = String::new();
    if let Some(expires) = item.expires {
        let left = expires.millis_since(screen.clock.now);
        // In full minutes, so that it does not flicker.
        let left = if left >= 60_000 {
            left - left % 60_000
        } else {
            left
        };
        if is_message(item) && left > 0 {
            text += &format!("⧗{} ", span(left));
        }
    }
    if item.edited.is_some() {
        text += "edited ";
    }
    text += &screen.clock.time(item.at);
    let mut spans = vec![Span::styled(text, style::FAINT)];
    if let Some((sign, style)) = tick(&item.state).filter(|_| is_message(item)) {
        spans.push(Span::styled(format!(" {sign}"), style));
    }
    spans
}

fn is_message(item: &Item) -> bool {
    matches!(item.body, ItemBody::Message(_))
}

/// Puts it behind the last line if it fits, else below.
fn append(lines: &mut Vec<Line<'static>>, meta: Vec<Span<'static>>, room: usize) {
    let wide: usize = meta.iter().map(Span::width).sum();
    match lines.last_mut() {
        Some(last) if last.width() + 2 + wide <= room => {
            last.spans.push(Span::raw("  "));
            last.spans.extend(meta);
        }
        _ => lines.push(Line::from(meta)),
    }
}

fn reactions(item: &Item, room: usize) -> Line<'static> {
    let mut spans = Vec::new();
    let mut used = 0;
    for reaction in item.reactions.iter().take(REACTIONS_MAX) {
        let text = format!("{} {}", plain::name(&reaction.emoji, 12), reaction.count);
        used += text.width() + 2;
        if used > room {
            break;
        }
        spans.push(Span::styled(
            text,
            if reaction.mine {
                style::STRONG
            } else {
                Style::new()
            },
        ));
        spans.push(Span::raw("  "));
    }
    spans.pop();
    Line::from(spans)
}

/// The bar at the side, and one's own to the right.
fn frame(
    screen: &Screen,
    item: &Item,
    lines: Vec<Line<'static>>,
    own: bool,
    width: usize,
) -> Vec<Line<'static>> {
    let chosen = screen.selected == Some(item.key);
    let (bar, bar_style) = match (chosen, own) {
        (true, _) => ("█", style::CHOSEN),
        (false, true) => ("▐", style::OWN),
        (false, false) => ("▌", style::of(item.author)),
    };
    let widest = lines.iter().map(Line::width).max().unwrap_or(0);
    let indent = if own {
        width.saturating_sub(widest + 3)
    } else {
        0
    };
    lines
        .into_iter()
        .map(|line| {
            let wide = line.width();
            let mut spans = Vec::with_capacity(line.spans.len() + 3);
            if own {
                spans.push(Span::raw(" ".repeat(indent)));
                spans.extend(line.spans);
                spans.push(Span::raw(" ".repeat(widest - wide + 1)));
                spans.push(Span::styled(bar, bar_style));
            } else {
                spans.push(Span::raw(" "));
                spans.push(Span::styled(bar, bar_style));
                spans.push(Span::raw(" "));
                spans.extend(line.spans);
            }
            Line::from(spans)
        })
        .collect()
}

/// What is no message: in the middle, in a few words.
fn event(screen: &Screen, item: &Item, width: usize) -> Vec<Line<'static>> {
    let name = |user: &UserId| screen.model.name(*user);
    let author = name(&item.author);
    let names = |users: &[UserId]| users.iter().map(name).collect::<Vec<_>>().join(", ");
    let text = match &item.body {
        ItemBody::Created(Some(create)) if create.kind == ConversationKind::Group => {
            format!(
                "{author} began the group “{}”",
                plain::name(&create.settings.name, 60)
            )
        }
        ItemBody::Created(_) => "The conversation began".to_owned(),
        ItemBody::Joined(Some(join)) if join.users == [item.author] => {
            format!("{author} came in by the link")
        }
        ItemBody::Joined(Some(join)) => format!("{author} brought in {}", names(&join.users)),
        ItemBody::Joined(None) => format!("{author} brought somebody in"),
        ItemBody::Left => format!("{author} left"),
        ItemBody::Removed(user) => format!(
            "{author} removed {}",
            user.as_ref().map_or("somebody".to_owned(), name)
        ),
        ItemBody::RoleChanged(user, role) => {
            let role = match role {
                Some(Role::Owner) => "an owner",
                Some(Role::Admin) => "an admin",
                Some(Role::Member) => "a member",
                None => "something else",
            };
            format!(
                "{author} made {} {role}",
                user.as_ref().map_or("somebody".to_owned(), name)
            )
        }
        ItemBody::SettingsChanged(change) => change.as_ref().map_or_else(
            || format!("{author} changed the settings"),
            |change| settings_changed(&author, change),
        ),
        ItemBody::EpochMoved => format!("{author} renewed the keys"),
        _ => String::new(),
    };
    let text = format!("{text} · {}", screen.clock.time(item.at));
    let centred = |line: String| {
        let indent = width.saturating_sub(line.width()) / 2;
        let style = style::FAINT.add_modifier(Modifier::ITALIC);
        Line::from(Span::styled(format!("{}{line}", " ".repeat(indent)), style))
    };
    wrap(&text, width.saturating_sub(4), 4)
        .into_iter()
        .map(centred)
        .collect()
}

fn settings_changed(author: &str, change: &SettingsChange) -> String {
    let mut parts = Vec::new();
    if let Some(name) = &change.name {
        parts.push(format!("renamed the group to “{}”", plain::name(name, 60)));
    }
    match change.vanish_after_ms {
        Some(0) => parts.push("lets messages stay".to_owned()),
        Some(after) => parts.push(format!("lets messages vanish after {}", span(after))),
        None => {}
    }
    if change.description.is_some() {
        parts.push("changed the description".to_owned());
    }
    match change.invite_link {
        Some(true) => parts.push("made an invite link".to_owned()),
        Some(false) => parts.push("withdrew the invite link".to_owned()),
        None => {}
    }
    if parts.is_empty() {
        parts.push("changed the settings".to_owned());
    }
    format!("{author} {}", parts.join(", "))
}

//! Above and below the messages: who it is, whether they are there, who is typing; and no connection.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use tidings_client::Status;
use tidings_core::UserId;
use tidings_protocol::entry::{ConversationKind, Retention};
use unicode_width::UnicodeWidthStr;

use super::style;
use crate::chat::clock::span;
use crate::chat::model::Current;
use crate::chat::screen::Screen;
use crate::plain;

/// Names of those who type, at most.
const TYPING_NAMES_MAX: usize = 3;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let width = usize::from(area.width);
    let mut line = vec![Span::raw(" ")];
    if let Some(current) = &screen.model.current {
        let name = name(screen, current);
        let (about, about_style) = about(screen, current);
        let room = width.saturating_sub(name.width() + 4);
        line.push(Span::styled(
            plain::cut(&name, width.saturating_sub(1)),
            style::STRONG,
        ));
        line.push(Span::raw("  "));
        line.push(Span::styled(plain::cut(&about, room), about_style));
    } else {
        line.push(Span::styled("Tidings", style::STRONG));
    }
    let rule = Line::from(Span::styled("─".repeat(width), style::FAINT));
    frame.render_widget(Paragraph::new(vec![Line::from(line), rule]), area);
}

pub(super) fn name(screen: &Screen, current: &Current) -> String {
    match (&current.details, current.other()) {
        (Some(details), _) => plain::name(&details.view.name, 60),
        (None, Some(other)) => screen.model.name(other),
        (None, None) => String::new(),
    }
}

fn about(screen: &Screen, current: &Current) -> (String, Style) {
    let mut parts = Vec::new();
    let mut style = style::FAINT;
    match &current.details {
        Some(details) if details.view.kind == ConversationKind::Group => {
            let names: Vec<String> = details
                .members
                .iter()
                .map(|member| screen.model.name(member.user))
                .collect();
            let names = if names.is_empty() {
                String::new()
            } else {
                format!(": {}", names.join(", "))
            };
            let noun = if details.member_count == 1 {
                "member"
            } else {
                "members"
            };
            parts.push(format!("{} {noun}{names}", details.member_count));
        }
        // Without a connection nobody knows.
        _ if !matches!(screen.model.status, Status::Online | Status::Syncing) => {}
        _ => match current.presence {
            Some(presence) if presence.online => {
                style = style::NEW;
                parts.push("online".to_owned());
            }
            Some(presence) => parts.extend(presence.last_seen.map(|at| screen.clock.last_seen(at))),
            None => {}
        },
    }
    if let Some(details) = &current.details {
        if details.view.gone {
            style = style::WARNING;
            parts = vec!["you are no longer in it".to_owned()];
        }
        parts.extend(
            details
                .settings
                .vanish_after_ms
                .map(|after| format!("vanishes after {}", span(after))),
        );
        match details.settings.retention {
            Retention::Forever => {}
            Retention::Days(days) => parts.push(format!("kept for {days} days")),
            Retention::UntilDelivered => parts.push("kept until delivered".to_owned()),
        }
        if !details.settings.description.is_empty() {
            parts.push(plain::line(&details.settings.description));
        }
    }
    (parts.join(" · "), style)
}

/// What is wrong with the connection, if something is.
pub(super) fn banner(screen: &Screen) -> Option<String> {
    let waiting = match screen.model.outbox_len {
        0 => "you can write, it is sent later".to_owned(),
        1 => "1 message waits to be sent".to_owned(),
        more => format!("{more} messages wait to be sent"),
    };
    match screen.model.status {
        Status::Offline | Status::Connecting => {
            let why = screen.model.why_offline.as_ref()?;
            Some(format!("Offline · {waiting} · {}", plain::line(why)))
        }
        Status::Stopped(Some(code)) => Some(format!(
            "Disconnected for good: {}",
            tidings_protocol::Problem::new(code).title
        )),
        Status::Stopped(None) | Status::Syncing | Status::Online => None,
    }
}

pub(super) fn draw_banner(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    if let Some(banner) = banner(screen) {
        let text = plain::cut(&banner, usize::from(area.width).saturating_sub(2));
        frame.render_widget(
            Paragraph::new(Line::from(Span::styled(format!(" {text}"), style::WARNING))),
            area,
        );
    }
}

pub(super) fn draw_typing(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let details = screen
        .model
        .current
        .as_ref()
        .and_then(|current| current.details.as_ref());
    let Some(details) = details else { return };
    if let Some(text) = typing(screen, &details.view.typing) {
        let text = plain::cut(&text, usize::from(area.width).saturating_sub(2));
        frame.render_widget(
            Paragraph::new(Line::from(Span::styled(format!(" {text}"), style::TYPING))),
            area,
        );
    }
}

fn typing(screen: &Screen, users: &[UserId]) -> Option<String> {
    let names: Vec<String> = users
        .iter()
        .take(TYPING_NAMES_MAX)
        .map(|user| screen.model.name(*user))
        .collect();
    match users.len() {
        0 => None,
        1 => Some(format!("{} is typing…", names.join(""))),
        count if count <= TYPING_NAMES_MAX => Some(format!("{} are typing…", names.join(", "))),
        count => Some(format!("{} people are typing…", count)),
    }
}

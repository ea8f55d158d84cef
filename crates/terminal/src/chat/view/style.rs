//! Colours: the sixteen that every terminal has, so that they fit dark and light ones.

use ratatui::style::{Color, Modifier, Style};
use tidings_core::UserId;

pub(super) const FAINT: Style = Style::new().fg(Color::DarkGray);
pub(super) const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
pub(super) const OWN: Style = Style::new().fg(Color::Green);
pub(super) const READ: Style = Style::new()
    .fg(Color::LightBlue)
    .add_modifier(Modifier::BOLD);
pub(super) const NEW: Style = Style::new().fg(Color::Green).add_modifier(Modifier::BOLD);
pub(super) const CHOSEN: Style = Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD);
pub(super) const WARNING: Style = Style::new().fg(Color::Yellow);
pub(super) const ERROR: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
pub(super) const TYPING: Style = Style::new().fg(Color::Green).add_modifier(Modifier::ITALIC);
pub(super) const BADGE: Style = Style::new()
    .fg(Color::Black)
    .bg(Color::Green)
    .add_modifier(Modifier::BOLD);
pub(super) const HERE: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Each person has a colour, the same on every screen.
pub(super) fn of(user: UserId) -> Style {
    const COLOURS: [Color; 6] = [
        Color::Cyan,
        Color::Magenta,
        Color::Yellow,
        Color::LightRed,
        Color::LightCyan,
        Color::LightMagenta,
    ];
    let sum = user.0.iter().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
    });
    Style::new().fg(COLOURS
        .get(sum % COLOURS.len())
        .copied()
        .unwrap_or(Color::Cyan))
}

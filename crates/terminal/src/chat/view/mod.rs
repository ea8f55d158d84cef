//! The screen as a picture: in goes [`Screen`], out come cells and what of the timeline can be seen.

mod header;
mod input;
mod item;
mod list;
mod overlay;
mod style;
#[cfg(test)]
mod tests;
mod timeline;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use tidings_client::ItemKey;
use tidings_core::ConversationId;

use super::screen::{Anchor, Screen};

/// Narrower screens show the list or the conversation, not both.
const BOTH_WIDTH: u16 = 70;
const LIST_WIDTH: u16 = 30;
/// The input grows up to so many lines.
const INPUT_LINES_MAX: u16 = 6;

/// What was shown, for who must act on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shown {
    /// The highest entry of which the end could be seen.
    pub(crate) last_seq: Option<u64>,
    /// The newest end of the timeline could be seen.
    pub(crate) at_end: bool,
    /// The first items that are loaded are near.
    pub(crate) near_start: bool,
    /// Items in the window, oldest first.
    pub(crate) items: Vec<ItemKey>,
    /// Where the timeline stands, in lines.
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// The conversations of the list and the rows they stand in.
    pub(crate) list: Vec<(ConversationId, u16)>,
    pub(crate) list_width: u16,
}

pub(crate) fn draw(frame: &mut Frame<'_>, screen: &Screen) -> Shown {
    let [body, footer] =
        Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
    let mut shown = Shown::default();
    let has_current = screen.model.current.is_some();
    if body.width >= BOTH_WIDTH {
        let [left, rule, right] = Layout::horizontal([
            Constraint::Length(LIST_WIDTH),
            Constraint::Length(1),
            Constraint::Min(1),
        ])
        .areas(body);
        shown.list_width = left.width;
        shown.list = list::draw(frame, left, screen);
        let bar = vec![Line::from(Span::styled("│", style::FAINT)); usize::from(rule.height)];
        frame.render_widget(Paragraph::new(bar), rule);
        draw_conversation(frame, right, screen, &mut shown);
    } else if has_current {
        draw_conversation(frame, body, screen, &mut shown);
    } else {
        let [above, below] =
            Layout::vertical([Constraint::Min(1), Constraint::Length(2)]).areas(body);
        shown.list_width = above.width;
        shown.list = list::draw(frame, above, screen);
        input::draw(frame, below, screen);
    }
    overlay::draw_footer(frame, footer, screen);
    overlay::draw(frame, body, screen);
    shown
}

fn draw_conversation(frame: &mut Frame<'_>, area: Rect, screen: &Screen, shown: &mut Shown) {
    let banner = u16::from(header::banner(screen).is_some());
    let lines = input::height(screen, area.width)
        .min(INPUT_LINES_MAX + 2)
        .min(area.height / 2)
        .max(2);
    let [head, warning, window, typing, below] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(banner),
        Constraint::Min(1),
        Constraint::Length(1),
        Constraint::Length(lines),
    ])
    .areas(area);
    header::draw(frame, head, screen);
    header::draw_banner(frame, warning, screen);
    timeline::draw(frame, window, screen, shown);
    header::draw_typing(frame, typing, screen);
    input::draw(frame, below, screen);
}

/// Where the window is after scrolling by so many lines (up if positive).
pub(crate) fn scroll(screen: &Screen, shown: &Shown, lines: isize) -> Option<Anchor> {
    timeline::scroll(screen, shown, lines)
}

/// Where the window must be for an item to be seen.
pub(crate) fn reveal(screen: &Screen, shown: &Shown, key: ItemKey) -> Option<Anchor> {
    timeline::reveal(screen, shown, key)
}

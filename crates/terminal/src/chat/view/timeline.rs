//! The window onto the messages. Only what can be seen is laid out.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use tidings_client::ItemKey;

use super::{Shown, item, style};
use crate::chat::screen::{Anchor, Screen};

/// Older messages are asked for when fewer items than this are above the window.
const NEAR_ITEMS: usize = 10;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, screen: &Screen, shown: &mut Shown) {
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    (shown.width, shown.height) = (width, height);
    let items = screen.items();
    let Some(current) = &screen.model.current else {
        let hint = [
            "",
            "  Choose a conversation with Alt+↑ and Alt+↓, or begin one:",
            "",
            "  /dm NAME               talk with somebody",
            "  /group NAME @ana @ben  begin a group",
            "  F1                     all keys and commands",
        ];
        let hint: Vec<Line<'_>> = hint
            .into_iter()
            .map(|line| Line::from(Span::styled(line, style::FAINT)))
            .collect();
        frame.render_widget(Paragraph::new(hint), area);
        return;
    };
    let (last, above) = place(screen);
    let mut lines: Vec<Line<'static>> = Vec::new();
    let mut first = last;
    for index in (0..=last).rev() {
        let Some(one) = items.get(index) else { break };
        let mut block = item::block(screen, index, width);
        if index == last {
            block.truncate(block.len().saturating_sub(above));
        }
        if above == 0 || index < last {
            shown.last_seq = shown.last_seq.max(one.seq);
        }
        shown.items.push(one.key);
        first = index;
        block.extend(lines);
        lines = block;
        if lines.len() >= height {
            break;
        }
    }
    shown.items.reverse();
    shown.at_end = above == 0 && last + 1 >= items.len() && !current.timeline.newer;
    shown.near_start = first < NEAR_ITEMS;
    let short = height.saturating_sub(lines.len());
    let top = if current.timeline.loading && short > 0 {
        " Loading …"
    } else {
        ""
    };
    let mut all = vec![Line::default(); short];
    if let Some(line) = all.last_mut() {
        *line = Line::from(Span::styled(top, style::FAINT));
    }
    all.extend(lines.split_off(lines.len().saturating_sub(height)));
    frame.render_widget(Paragraph::new(all), area);
    if !shown.at_end && !items.is_empty() && width > 24 && height > 2 {
        let text = " ↓ End: newest ";
        let place = Rect {
            x: area.x + area.width - 17,
            y: area.y + area.height - 1,
            width: 15,
            height: 1,
        };
        frame.render_widget(
            Paragraph::new(Line::from(Span::styled(text, style::HERE))),
            place,
        );
    }
}

/// The last item in the window, and how many of its lines are below it.
fn place(screen: &Screen) -> (usize, usize) {
    let items = screen.items();
    let end = (items.len().saturating_sub(1), 0);
    let Some(anchor) = screen.anchor else {
        return end;
    };
    items
        .iter()
        .position(|item| item.key == anchor.key)
        .map_or(end, |index| (index, anchor.above))
}

pub(super) fn scroll(screen: &Screen, shown: &Shown, lines: isize) -> Option<Anchor> {
    let items = screen.items();
    let (mut index, above) = place(screen);
    let mut above = isize::try_from(above).unwrap_or(0) + lines;
    let height = |index: usize| {
        isize::try_from(item::block(screen, index, shown.width).len()).unwrap_or(isize::MAX)
    };
    while above < 0 {
        if index + 1 >= items.len() {
            return None;
        }
        index += 1;
        above += height(index);
    }
    while above >= height(index) {
        if index == 0 {
            break;
        }
        above -= height(index);
        index -= 1;
    }
    // Not further than that the window is full.
    let window = isize::try_from(shown.height).unwrap_or(isize::MAX);
    let mut there = height(index) - above;
    let mut before = index;
    while there < window && before > 0 {
        before -= 1;
        there += height(before);
    }
    if there < window {
        let down = scroll_to_fill(&mut index, &mut above, window - there, items.len(), &height);
        if !down {
            return None;
        }
    }
    if index + 1 >= items.len() && above == 0 {
        return None;
    }
    let item = items.get(index)?;
    Some(Anchor {
        key: item.key,
        above: usize::try_from(above).unwrap_or(0),
    })
}

/// Moves down by so many lines; false if the end comes first.
fn scroll_to_fill(
    index: &mut usize,
    above: &mut isize,
    lines: isize,
    len: usize,
    height: &impl Fn(usize) -> isize,
) -> bool {
    *above -= lines;
    while *above < 0 {
        if *index + 1 >= len {
            return false;
        }
        *index += 1;
        *above += height(*index);
    }
    true
}

pub(super) fn reveal(screen: &Screen, shown: &Shown, key: ItemKey) -> Option<Anchor> {
    let items = screen.items();
    let Some(index) = items.iter().position(|item| item.key == key) else {
        return screen.anchor;
    };
    let (last, above) = place(screen);
    if index > last || (index == last && above > 0) {
        return if index + 1 == items.len() {
            None
        } else {
            Some(Anchor { key, above: 0 })
        };
    }
    // The whole of it, from its first line down.
    let from = |index: usize| item::block(screen, index, shown.width).len();
    let lines: usize = (index..=last)
        .map(from)
        .sum::<usize>()
        .saturating_sub(above);
    if lines <= shown.height {
        return screen.anchor;
    }
    scroll(
        screen,
        shown,
        isize::try_from(lines - shown.height).unwrap_or(0),
    )
}

//! Which key means what.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::screen::{Composing, Overlay, Screen};

/// What the user wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wish {
    Quit,
    Send,
    Type(Typing),
    /// The conversation above (true) or below.
    Switch(bool),
    /// The n-th conversation.
    Go(usize),
    NextUnread,
    /// Scroll by lines, up if positive; pages are worked out by who knows the window.
    Scroll(isize),
    Page(isize),
    ToEnd,
    ToStart,
    /// Choose a message: back (true) or forth.
    Choose(bool),
    ReplyTo,
    Edit,
    Delete,
    React(String),
    ReadAll,
    Retry,
    Cancel,
    Back,
    Help,
    ScrollOverlay(isize),
    Confirm(bool),
    Repaint,
}

/// What happens to the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Typing {
    Insert(String),
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    Backspace,
    Delete,
    DeleteWord,
    DeleteToStart,
    DeleteToEnd,
}

const REACTIONS: [&str; 6] = ["👍", "❤", "😂", "😮", "😢", "🙏"];

pub(crate) fn wish(key: KeyEvent, screen: &Screen) -> Option<Wish> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    let shift = key.modifiers.contains(KeyModifiers::SHIFT);
    if control && matches!(key.code, KeyCode::Char('q' | 'c')) {
        return Some(Wish::Quit);
    }
    match &screen.overlay {
        Some(Overlay::Confirm { .. }) => {
            return match key.code {
                KeyCode::Char('y' | 'Y') => Some(Wish::Confirm(true)),
                KeyCode::Char('n' | 'N') | KeyCode::Esc | KeyCode::Enter => {
                    Some(Wish::Confirm(false))
                }
                _ => None,
            };
        }
        Some(Overlay::Help { .. } | Overlay::Text { .. }) => {
            return Some(match key.code {
                KeyCode::Up => Wish::ScrollOverlay(-1),
                KeyCode::Down => Wish::ScrollOverlay(1),
                KeyCode::PageUp => Wish::ScrollOverlay(-15),
                KeyCode::PageDown | KeyCode::Char(' ') => Wish::ScrollOverlay(15),
                _ => Wish::Back,
            });
        }
        None => {}
    }
    if screen.selected.is_some() && !control && !alt {
        match key.code {
            KeyCode::Char('r') => return Some(Wish::ReplyTo),
            KeyCode::Char('e') => return Some(Wish::Edit),
            KeyCode::Char('d') => return Some(Wish::Delete),
            KeyCode::Char('s') => return Some(Wish::Retry),
            KeyCode::Char('x') => return Some(Wish::Cancel),
            KeyCode::Char('+') => return Some(Wish::React(REACTIONS[0].to_owned())),
            KeyCode::Char(digit @ '1'..='6') => {
                let index = digit as usize - '1' as usize;
                return REACTIONS
                    .get(index)
                    .map(|emoji| Wish::React((*emoji).to_owned()));
            }
            KeyCode::Enter => return Some(Wish::ReadAll),
            // Anything else that is typed is text again.
            _ => {}
        }
    }
    Some(match key.code {
        KeyCode::F(1) => Wish::Help,
        KeyCode::Char('?') if screen.editor.is_empty() => Wish::Help,
        KeyCode::Esc => Wish::Back,
        KeyCode::Enter if alt || shift => Wish::Type(Typing::Insert("\n".to_owned())),
        KeyCode::Enter => Wish::Send,
        KeyCode::PageUp => Wish::Page(1),
        KeyCode::PageDown => Wish::Page(-1),
        KeyCode::Up if alt || control => Wish::Switch(true),
        KeyCode::Down if alt || control => Wish::Switch(false),
        KeyCode::Up if shift => Wish::Scroll(1),
        KeyCode::Down if shift => Wish::Scroll(-1),
        KeyCode::End if control => Wish::ToEnd,
        KeyCode::Home if control => Wish::ToStart,
        KeyCode::Up if screen.selected.is_some() => Wish::Choose(true),
        KeyCode::Down if screen.selected.is_some() => Wish::Choose(false),
        KeyCode::Up if screen.editor.is_empty() && screen.composing == Composing::Message => {
            Wish::Choose(true)
        }
        KeyCode::Char(digit @ '1'..='9') if alt => Wish::Go(digit as usize - '1' as usize),
        KeyCode::Char('p') if control => Wish::Switch(true),
        KeyCode::Char('n') if control => Wish::Switch(false),
        KeyCode::Char('g') if control => Wish::NextUnread,
        KeyCode::Char('l') if control => Wish::Repaint,
        KeyCode::Char(' ') if control => return None,
        _ => return typing(key.code, control, alt).map(Wish::Type),
    })
}

fn typing(code: KeyCode, control: bool, alt: bool) -> Option<Typing> {
    Some(match code {
        KeyCode::Char('j') if control => Typing::Insert("\n".to_owned()),
        KeyCode::Char('a') if control => Typing::Home,
        KeyCode::Char('e') if control => Typing::End,
        KeyCode::Char('b') if control => Typing::Left,
        KeyCode::Char('f') if control => Typing::Right,
        KeyCode::Char('d') if control => Typing::Delete,
        KeyCode::Char('h') if control => Typing::Backspace,
        KeyCode::Char('w') if control => Typing::DeleteWord,
        KeyCode::Char('u') if control => Typing::DeleteToStart,
        KeyCode::Char('k') if control => Typing::DeleteToEnd,
        KeyCode::Char('b') if alt => Typing::WordLeft,
        KeyCode::Char('f') if alt => Typing::WordRight,
        KeyCode::Char(_) if control => return None,
        // Some keyboards type by Alt; both together is AltGr.
        KeyCode::Char(character) => Typing::Insert(character.to_string()),
        KeyCode::Backspace if control || alt => Typing::DeleteWord,
        KeyCode::Backspace => Typing::Backspace,
        KeyCode::Delete => Typing::Delete,
        KeyCode::Left if control || alt => Typing::WordLeft,
        KeyCode::Right if control || alt => Typing::WordRight,
        KeyCode::Left => Typing::Left,
        KeyCode::Right => Typing::Right,
        KeyCode::Home => Typing::Home,
        KeyCode::End => Typing::End,
        KeyCode::Up => Typing::Up,
        KeyCode::Down => Typing::Down,
        _ => return None,
    })
}

//! Asking at the terminal.

use std::io::{self, IsTerminal, Write};

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal;

/// Whether there is somebody to be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a password without showing it. An error if it is broken off.
pub(crate) fn ask_password(question: &str) -> io::Result<String> {
    let mut stderr = io::stderr();
    write!(stderr, "{question}: ")?;
    stderr.flush()?;
    terminal::enable_raw_mode()?;
    let answer = read_hidden();
    let restored = terminal::disable_raw_mode();
    writeln!(stderr)?;
    restored?;
    answer
}

fn read_hidden() -> io::Result<String> {
    let mut answer = String::new();
    loop {
        let Event::Key(key) = event::read()? else {
            continue;
        };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => return Ok(answer),
            KeyCode::Char('c' | 'd') if control => return Err(io::ErrorKind::Interrupted.into()),
            KeyCode::Esc => return Err(io::ErrorKind::Interrupted.into()),
            KeyCode::Char('u') if control => answer.clear(),
            KeyCode::Char('j' | 'm') if control => return Ok(answer),
            KeyCode::Backspace => {
                answer.pop();
            }
            KeyCode::Char(character) => answer.push(character),
            _ => {}
        }
    }
}

/// Asks a question to be answered by yes or no; no is what a mere Enter says.
pub(crate) fn ask_yes(question: &str) -> io::Result<bool> {
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

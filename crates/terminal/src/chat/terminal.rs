//! The terminal: taken over, and given back however the program ends.

use std::io::{self, Stdout, Write};

use crossterm::event::{
    DisableBracketedPaste, DisableFocusChange, DisableMouseCapture, EnableBracketedPaste,
    EnableFocusChange, EnableMouseCapture,
};
use crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    SetTitle, disable_raw_mode, enable_raw_mode,
};
use crossterm::{execute, queue};
use ratatui::Frame;
use ratatui::backend::CrosstermBackend;

pub(super) struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<Stdout>>,
}

impl Terminal {
    pub(super) fn take(title: &str, mouse: bool) -> io::Result<Terminal> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
        enable_raw_mode()?;
        let taken = execute!(
            io::stdout(),
            EnterAlternateScreen,
            EnableBracketedPaste,
            EnableFocusChange,
            SetTitle(title)
        );
        let inner =
            taken.and_then(|()| ratatui::Terminal::new(CrosstermBackend::new(io::stdout())));
        if mouse {
            // Without a mouse there are still the keys.
            let _ = execute!(io::stdout(), EnableMouseCapture);
        }
        match inner {
            Ok(inner) => Ok(Terminal { inner }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    /// Draws as one update: no terminal shows half of it.
    pub(super) fn draw<T: Default>(
        &mut self,
        draw: impl FnOnce(&mut Frame<'_>) -> T,
    ) -> io::Result<T> {
        let mut drawn = T::default();
        queue!(io::stdout(), BeginSynchronizedUpdate)?;
        self.inner.draw(|frame| drawn = draw(frame))?;
        execute!(io::stdout(), EndSynchronizedUpdate)?;
        Ok(drawn)
    }

    pub(super) fn set_title(&mut self, title: &str) -> io::Result<()> {
        execute!(io::stdout(), SetTitle(title))
    }

    /// Repaints every cell: something else has written onto the screen.
    pub(super) fn repaint(&mut self) -> io::Result<()> {
        self.inner.clear()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // There is nobody left to be told.
    let _ = execute!(
        io::stdout(),
        DisableMouseCapture,
        DisableFocusChange,
        DisableBracketedPaste,
        LeaveAlternateScreen
    );
    let _ = disable_raw_mode();
    let _ = io::stdout().flush();
}

//! A terminal as it was before a training drew on it, for the case that the one that draws is killed.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::LeaveAlternateScreen;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// What standard input was like; nothing where that is no terminal.
#[derive(Debug)]
pub(super) struct Terminal(Option<(OwnedFd, Termios)>);

impl Terminal {
    /// Takes note of it.
    pub(super) fn now() -> Self {
        Self::of(io::stdin())
    }

    fn of(input: impl AsFd) -> Self {
        let before = tcgetattr(&input).ok();
        Self(before.and_then(|before| Some((input.as_fd().try_clone_to_owned().ok()?, before))))
    }

    /// Makes it that again, and leaves the page that was drawn, where it was not given back.
    pub(super) fn restore(&self) {
        self.restore_to(&mut io::stdout());
    }

    fn restore_to(&self, output: &mut impl Write) {
        let Some((input, before)) = &self.0 else { return };
        let is_drawn_on = tcgetattr(input).is_ok_and(|now| now.local_modes != before.local_modes);
        if is_drawn_on && tcsetattr(input, OptionalActions::Now, before).is_ok() {
            // A terminal that went away needs nothing.
            let _ = execute!(output, LeaveAlternateScreen, Show);
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, openpt};

    use super::*;

    #[test]
    fn a_terminal_is_given_back_where_nobody_has_done_so() {
        // Its other end is the same terminal.
        let pty = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        let modes = || tcgetattr(&pty).expect("a terminal").local_modes;
        let (terminal, before) = (Terminal::of(&pty), modes());
        let restored = || {
            let mut said = Vec::new();
            terminal.restore_to(&mut said);
            String::from_utf8(said).expect("text")
        };
        assert_eq!(restored(), "");
        let mut raw = tcgetattr(&pty).expect("a terminal");
        raw.make_raw();
        tcsetattr(&pty, OptionalActions::Now, &raw).expect("it can be set");
        assert_ne!(modes(), before);
        assert_eq!(restored(), "\u{1b}[?1049l\u{1b}[?25h");
        assert_eq!(modes(), before);
    }
}

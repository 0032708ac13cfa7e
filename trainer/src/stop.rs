//! Whether somebody wants the training to end: Ctrl-C, SIGTERM, or a key.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::{INTERRUPTED, TERMINATED};

/// Who wants the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A person, with Ctrl-C or a key.
    Interrupt,
    /// The system, with SIGTERM.
    Terminate,
}

impl Reason {
    const ALL: [Self; 2] = [Self::Interrupt, Self::Terminate];

    /// The exit code of a program that it ended, as shells have it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => INTERRUPTED,
            Self::Terminate => TERMINATED,
        }
    }

    fn signal(self) -> i32 {
        match self {
            Self::Interrupt => SIGINT,
            Self::Terminate => SIGTERM,
        }
    }

    /// How it is kept in an atomic number; 0 is none.
    pub(crate) fn code(self) -> usize {
        match self {
            Self::Interrupt => 1,
            Self::Terminate => 2,
        }
    }

    /// The reason of a [`code`](Self::code), if it is one.
    pub(crate) fn of_code(code: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// Whether the end is wanted; clones are one. Whoever waits for long looks here now and then.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// [`Reason::code`].
    reason: Arc<AtomicUsize>,
    /// Whether the next signal ends the process at once.
    at_once: Arc<AtomicBool>,
    /// Whether no signal is to.
    is_led: bool,
}

impl Stop {
    /// From now on Ctrl-C and SIGTERM are requests; after [`arm`](Self::arm) only the first of them.
    ///
    /// # Errors
    /// What the system said.
    pub fn install() -> io::Result<Self> {
        let stop = Self::default();
        for reason in Reason::ALL {
            let code = reason.exit_code().into();
            flag::register_conditional_shutdown(reason.signal(), code, Arc::clone(&stop.at_once))?;
            flag::register_usize(reason.signal(), Arc::clone(&stop.reason), reason.code())?;
        }
        Ok(stop)
    }

    /// Has no signal end the process at once, however many come: whoever started it does that.
    pub(crate) fn led(self) -> Self {
        Self { is_led: true, ..self }
    }

    /// From now on the signal after the first request ends the process at once. Whoever has changed the terminal calls
    /// this when it is as it was before.
    ///
    /// # Errors
    /// What the system said.
    pub fn arm(&self) -> io::Result<()> {
        if self.is_led {
            return Ok(());
        }
        for reason in Reason::ALL {
            // Behind the shutdown that `install` registered: the first signal finds the flag down, the second one up.
            flag::register(reason.signal(), Arc::clone(&self.at_once))?;
        }
        if self.requested().is_some() {
            self.at_once.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Asks for the end, as a signal does. For who takes the terminal's keys away from the system, or hears of it from
    /// elsewhere.
    pub fn request(&self, reason: Reason) {
        self.reason.store(reason.code(), Ordering::SeqCst);
    }

    /// Who wants the end, if anybody.
    pub fn requested(&self) -> Option<Reason> {
        Reason::of_code(self.reason.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_seen_by_all_clones() {
        let stop = Stop::default();
        let view = stop.clone();
        assert_eq!(stop.requested(), None);
        view.request(Reason::Interrupt);
        assert_eq!(stop.requested(), Some(Reason::Interrupt));
    }
}

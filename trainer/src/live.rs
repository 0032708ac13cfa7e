//! A training on a terminal: curves, progress and what happened, drawn while it goes on.
//!
//! A thread of its own draws, ten times a second at the most; the training only leaves numbers. The terminal is as it was
//! before when the view ends: at the end of the training, at an error, at a panic, or when a key or a signal asks to stop.

mod series;
mod state;
mod view;

use std::fmt;
use std::io::{self, IsTerminal};
use std::mem;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use self::state::State;
use crate::metrics::Score;
use crate::report::say;
use crate::run::StepRow;
use crate::stop::{Reason, Stop};

/// The time between two pictures.
const FRAME: Duration = Duration::from_millis(100);

/// The view of one training.
pub struct Live {
    shared: Arc<Mutex<State>>,
    start: Instant,
    drawer: Mutex<Drawer>,
}

/// The thread that draws.
enum Drawer {
    /// Not yet.
    Idle,
    /// Until the sender goes.
    Drawing(Sender<()>, JoinHandle<()>),
    Done,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Default for Live {
    /// A view that is not open yet.
    fn default() -> Self {
        Self { shared: Arc::default(), start: Instant::now(), drawer: Mutex::new(Drawer::Idle) }
    }
}

impl Live {
    /// Takes the terminal, for a training of so many epochs, until that ends, or somebody wants it to: with `q` or Ctrl-C,
    /// which the terminal does not make a signal of meanwhile, or with a signal. Then it arms `stop`.
    ///
    /// # Errors
    /// When it is not one that can be drawn on.
    pub(crate) fn open(&self, title: String, epochs: u64, stop: Stop) -> io::Result<()> {
        let mut drawer = self.drawer.lock().unwrap_or_else(PoisonError::into_inner);
        let Drawer::Idle = mem::replace(&mut *drawer, Drawer::Done) else { return Ok(()) };
        *self.state() = State::new(title, epochs);
        // What draws would write to a file as well.
        if !io::stdout().is_terminal() {
            return Err(io::Error::other("standard output is no terminal"));
        }
        // Also sets a panic hook that gives the terminal back.
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore())?;
        let (sender, ended) = mpsc::channel();
        let (shared, start) = (Arc::clone(&self.shared), self.start);
        let thread = thread::spawn(move || {
            watch(terminal, &shared, start, &ended, &stop);
            ratatui::restore();
            // It is only of use to who has no patience, and SIGKILL remains.
            let _ = stop.arm();
        });
        *drawer = Drawer::Drawing(sender, thread);
        Ok(())
    }

    /// Gives the terminal back, and prints what a person wants to find there afterwards.
    pub(crate) fn close(&self) {
        let drawer = mem::replace(&mut *self.drawer.lock().unwrap_or_else(PoisonError::into_inner), Drawer::Done);
        let Drawer::Drawing(sender, thread) = drawer else { return };
        drop(sender);
        // A panic there was reported by the hook.
        let _ = thread.join();
        let events = mem::take(&mut self.state().events);
        events.iter().for_each(|(_, text)| say(text));
    }

    /// Whether the terminal is the view's.
    fn is_open(&self) -> bool {
        match &*self.drawer.lock().unwrap_or_else(PoisonError::into_inner) {
            Drawer::Drawing(_, thread) => !thread.is_finished(),
            Drawer::Idle | Drawer::Done => false,
        }
    }

    /// A line: among the events of the view, or where there is none any more, on the terminal.
    pub(crate) fn say(&self, text: &str) {
        if self.is_open() {
            let at = self.start.elapsed();
            self.state().event(text, at);
        } else {
            // What the view left, in its order.
            self.close();
            say(text);
        }
    }

    pub(crate) fn begin_epoch(&self, epoch: u64, done: u64, samples: u64) {
        self.state().begin_epoch(epoch, done, samples);
    }

    pub(crate) fn advance(&self, samples: u64, waited: Duration) {
        let at = self.start.elapsed();
        self.state().advance(samples, waited, at);
    }

    pub(crate) fn steps(&self, rows: &[StepRow]) {
        let mut state = self.state();
        for StepRow { position, samples, loss, lr, .. } in rows {
            #[expect(clippy::cast_precision_loss, reason = "a place on a curve")]
            let place = position.epoch as f64 + *samples as f64 / state.samples.max(1) as f64;
            state.step(f64::from(*loss), *lr, place);
        }
    }

    pub(crate) fn tested(&self, score: Score) {
        self.state().tested(score);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.close();
    }
}

/// Draws until the training ends, or somebody wants it to.
fn watch(mut terminal: DefaultTerminal, shared: &Mutex<State>, start: Instant, ended: &Receiver<()>, stop: &Stop) {
    while stop.requested().is_none() {
        let state = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A terminal that went away is no reason to end a training.
        let drawn = terminal.draw(|frame| view::draw(&state, start.elapsed(), frame));
        let keys = drawn.and_then(|_| keys());
        let Ok(keys) = keys else { return };
        for key in keys {
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            match key {
                Key::Stop => return stop.request(Reason::Interrupt),
                Key::LogScale => state.log_scale = !state.log_scale,
            }
        }
        match ended.recv_timeout(FRAME) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Key {
    Stop,
    LogScale,
}

/// The keys pressed since the last time.
fn keys() -> io::Result<Vec<Key>> {
    let mut keys = Vec::new();
    while event::poll(Duration::ZERO)? {
        keys.extend(key(&event::read()?));
    }
    Ok(keys)
}

fn key(event: &Event) -> Option<Key> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Stop),
        KeyCode::Char('q') => Some(Key::Stop),
        KeyCode::Char('l') => Some(Key::LogScale),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn keys_stop_and_scale() {
        let pressed = |code, modifiers| key(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(pressed(KeyCode::Char('q'), KeyModifiers::NONE), Some(Key::Stop));
        assert_eq!(pressed(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Stop));
        assert_eq!(pressed(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(pressed(KeyCode::Char('l'), KeyModifiers::NONE), Some(Key::LogScale));
        assert_eq!(key(&Event::FocusGained), None);
    }
}

//! What there is to see of a training, told by it as it goes.

use std::collections::VecDeque;
use std::time::Duration;

use super::series::Series;
use crate::metrics::Score;

/// Events that are remembered, for the view and for the lines that are left when it ends.
const EVENTS_MAX: usize = 64;

/// The samples per second shown are those since so long ago.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// How a training stands. Times are since its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// Such as `train on cpu`.
    pub(super) title: String,
    /// Passes over the data in all.
    pub(super) epochs: u64,
    /// The pass under way, from 0.
    pub(super) epoch: u64,
    /// Samples of it trained on.
    pub(super) done: u64,
    /// Samples of each.
    pub(super) samples: u64,
    pub(super) loss: Series,
    pub(super) test_loss: Series,
    /// In percent.
    pub(super) accuracy: Series,
    pub(super) best: Option<f64>,
    pub(super) lr: Option<f64>,
    /// What happened, latest last, each with its time.
    pub(super) events: VecDeque<(Duration, String)>,
    /// Whether the loss is drawn on a scale of powers of ten.
    pub(super) log_scale: bool,
    /// Samples since the start, with the time and the waiting that they took: one a second or so.
    progress: VecDeque<Progress>,
    /// Samples since the start.
    trained: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Progress {
    at: Duration,
    waited: Duration,
    trained: u64,
}

impl State {
    /// Before the first step of a training of so many epochs.
    pub(super) fn new(title: String, epochs: u64) -> Self {
        Self { title, epochs, ..Self::default() }
    }

    pub(super) fn begin_epoch(&mut self, epoch: u64, done: u64, samples: u64) {
        (self.epoch, self.done, self.samples) = (epoch, done, samples);
    }

    /// After `samples` more samples; `waited` for data since the start.
    pub(super) fn advance(&mut self, samples: u64, waited: Duration, at: Duration) {
        self.done += samples;
        self.trained += samples;
        let now = Progress { at, waited, trained: self.trained };
        if self.progress.is_empty() {
            self.progress.push_back(Progress::default());
        }
        // The last entry is always now; those before are at least a tenth of the window apart.
        let len = self.progress.len();
        if len >= 2 && self.progress[len - 1].at.saturating_sub(self.progress[len - 2].at) < RATE_WINDOW / 10 {
            self.progress.pop_back();
        }
        self.progress.push_back(now);
        while self.progress.len() > 2 && at.saturating_sub(self.progress[1].at) > RATE_WINDOW {
            self.progress.pop_front();
        }
    }

    pub(super) fn step(&mut self, loss: f64, lr: f64, x: f64) {
        self.loss.push(x, loss);
        self.lr = Some(lr);
    }

    pub(super) fn tested(&mut self, score: Score) {
        let x = self.place();
        self.test_loss.push(x, score.loss);
        if let Some(accuracy) = score.accuracy {
            let percent = 100.0 * accuracy;
            self.accuracy.push(x, percent);
            self.best = Some(self.best.map_or(percent, |best| best.max(percent)));
        }
    }

    pub(super) fn event(&mut self, text: &str, at: Duration) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            self.events.push_back((at, line.to_owned()));
        }
        while self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    /// Passes over the data so far.
    pub(super) fn place(&self) -> f64 {
        number(self.epoch) + self.share()
    }

    /// The share of the epoch that is done.
    pub(super) fn share(&self) -> f64 {
        if self.samples == 0 { 0.0 } else { (number(self.done) / number(self.samples)).min(1.0) }
    }

    /// Samples in a second, and the share of time spent waiting for data, of late.
    pub(super) fn pace(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.progress.front()?, self.progress.back()?);
        let time = last.at.checked_sub(first.at)?.as_secs_f64();
        let waited = last.waited.saturating_sub(first.waited).as_secs_f64();
        (time > 0.0).then(|| (number(last.trained - first.trained) / time, (waited / time).min(1.0)))
    }

    /// How long the run will go on, tests and checkpoints as often as so far.
    pub(super) fn left(&self, now: Duration) -> Option<Duration> {
        let whole = self.epochs.saturating_sub(self.epoch).saturating_mul(self.samples);
        let left = number(whole.saturating_sub(self.done));
        let pace = number(self.trained) / now.as_secs_f64();
        Duration::try_from_secs_f64(left / pace).ok()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count to be looked at")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pace_is_that_of_late_and_what_is_left_that_of_all() {
        let mut state = State { epochs: 2, ..State::default() };
        state.begin_epoch(0, 0, 1000);
        assert_eq!((state.pace(), state.left(Duration::ZERO)), (None, None));
        // Ten slow seconds, then ten of twice the pace, a quarter of them waiting.
        for second in 1..=20 {
            let waited = SECOND.mul_f64(0.25 * f64::from(second));
            let samples = if second <= 10 { 20 } else { 40 };
            state.advance(samples, waited, SECOND * second);
        }
        assert_eq!(state.pace(), Some((40.0, 0.25)));
        // 600 of 2000 in 20 seconds.
        assert_eq!(state.left(SECOND * 20).map(|left| left.as_secs()), Some(46));
        assert_eq!((state.share(), state.place()), (0.6, 0.6));
    }

    #[test]
    fn of_a_fast_training_little_is_remembered() {
        let mut state = State::new(String::new(), 1);
        (0..100_000).for_each(|step| state.advance(1, Duration::ZERO, Duration::from_millis(step)));
        assert!(state.progress.len() < 16, "{}", state.progress.len());
        let (pace, _) = state.pace().expect("it is under way");
        assert!((pace - 1000.0).abs() < 1.0, "{pace}");
    }

    #[test]
    fn the_best_test_is_remembered_and_old_events_are_not() {
        let mut state = State::default();
        for accuracy in [0.5, 0.75, 0.25] {
            state.tested(Score { accuracy: Some(accuracy), loss: 1.0, mae: None, rmse: None });
        }
        assert_eq!((state.best, state.accuracy.last()), (Some(75.0), Some(25.0)));
        (0..1000).for_each(|number| state.event(&format!("event {number}\n\n"), SECOND));
        assert_eq!(state.events.len(), EVENTS_MAX);
        assert_eq!(state.events.back(), Some(&(SECOND, "event 999".to_owned())));
    }
}

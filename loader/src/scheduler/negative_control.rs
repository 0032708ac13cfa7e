//! The negative control: a scheduler that gives rows out again while their worker lives, as it never must.
//!
//! For tests alone: what goes wrong then is what they must notice. Nothing of it is compiled into a loader without the
//! feature `negative-control`.

use std::time::Duration;

use super::{Action, Death, Scheduler};

/// How long a worker may be at a task before it is taken for gone.
const PATIENCE: Duration = Duration::from_millis(50);

impl Scheduler {
    /// Takes workers that are slow for gone, without having them killed, if that is switched on.
    ///
    /// Their rows go out again at once and others are started in their place. They are told to leave, so that they do
    /// not pile up, and before that finish what they were given, which by then may be another's.
    pub(super) fn forget_slow_workers(&mut self, now: Duration) {
        if !self.without_reaping {
            return;
        }
        for worker in self.workers.dismiss_slower_than(now, PATIENCE) {
            let death = Death { how: "was slow".to_owned(), crashed: false, making: None };
            self.worker_gone(now, worker, death);
            self.actions.push(Action::Leave(worker));
        }
    }
}

//! How much of the processors all workers together may use, so that training beside them keeps its pace.
//!
//! A bucket of processor time is filled at the rate that is allowed. A task is given out when more is in there than the
//! tasks that are out will take, by their estimates, and takes out what it took when it is done (a token bucket, Turner
//! 1986). The bucket is small: what is saved up while there was nothing to do is spent in a moment that nobody notices.

use std::time::Duration;

use super::Scheduler;

/// What the bucket holds at the most, as the time in which it is filled.
const SAVED: Duration = Duration::from_millis(20);

/// The tasks that are out, all together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Out {
    /// The processor time that they are expected to take.
    pub(super) estimated: Duration,
    /// The most that they can have taken, or will by the estimates.
    pub(super) so_far: Duration,
}

/// A bucket of processor time.
#[derive(Debug)]
pub(super) struct Budget {
    /// Processors that may be busy, on average.
    cpus: f64,
    /// Seconds of processor time in the bucket; of tasks that took longer than estimated it may lack some.
    level_s: f64,
    /// When the bucket was last filled.
    filled: Duration,
    /// Until when there is too little in it for one more task.
    short_until: Option<Duration>,
}

impl Budget {
    /// Allows as much as keeps so many processors busy.
    pub(super) fn new(cpus: f64) -> Self {
        Self { cpus, level_s: 0.0, filled: Duration::ZERO, short_until: None }
    }

    /// Whether one more task may be given out beside those that are out.
    pub(super) fn allows(&mut self, now: Duration, out: Out) -> bool {
        let gained_s = now.saturating_sub(self.filled).as_secs_f64() * self.cpus;
        // What tasks that are out have taken, if they computed all the time, is still in there: it must not run over.
        let most_s = SAVED.as_secs_f64() * self.cpus + out.so_far.max(out.estimated).as_secs_f64();
        (self.level_s, self.filled) = ((self.level_s + gained_s).min(most_s), now);
        // One that takes longer than estimated may as well wait for a disk: others need not wait for it.
        let short_s = (out.estimated.as_secs_f64() - self.level_s) / self.cpus;
        self.short_until = (short_s >= 0.0).then(|| now + Duration::from_secs_f64(short_s) + Duration::from_micros(1));
        self.short_until.is_none()
    }

    /// Takes out what a task took.
    pub(super) fn take(&mut self, cpu: Duration) {
        self.level_s -= cpu.as_secs_f64();
    }
}

impl Scheduler {
    /// Limits how many processors all workers together keep busy, on average; `None` is no limit.
    pub(crate) fn allow_cpus(&mut self, cpus: Option<f64>) {
        self.budget = cpus.map(Budget::new);
    }

    /// How many that are, if it is limited.
    pub(crate) fn cpus_allowed(&self) -> Option<f64> {
        self.budget.as_ref().map(|budget| budget.cpus)
    }

    /// The processor time that workers have used for tasks.
    pub(crate) fn cpu_used(&self) -> Duration {
        self.cpu_used
    }

    /// When it wants to be told the time, for a task waits for that alone.
    pub(crate) fn wants_time_at(&self) -> Option<Duration> {
        self.budget.as_ref()?.short_until
    }

    /// Whether one more task may be given out.
    pub(super) fn is_within_budget(&mut self, now: Duration) -> bool {
        self.budget.as_mut().is_none_or(|budget| budget.allows(now, self.workers.out(now)))
    }

    /// Takes note of what a worker has used.
    pub(super) fn note_cpu(&mut self, cpu: Duration) {
        self.cpu_used += cpu;
        if let Some(budget) = &mut self.budget {
            budget.take(cpu);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Runs workers that always have work of `task` each, which is estimated as `estimate`, for `total`; gives the time
    /// that they were busy, and the most that they were in any `window`.
    fn run(budget: &mut Budget, workers: usize, task: Duration, estimate: Duration, total: Duration) -> (f64, f64) {
        let window = 100 * MS;
        let step = Duration::from_micros(100);
        let mut until = vec![None; workers];
        let (mut now, mut busy, mut used) = (Duration::ZERO, Vec::new(), Duration::ZERO);
        while now < total {
            for worker in 0..workers {
                if until[worker].is_some_and(|end| end <= now) {
                    until[worker] = None;
                    budget.take(task);
                }
                let begun = until.iter().flatten().map(|end: &Duration| end.saturating_sub(task));
                let out = begun.fold(Out::default(), |out, begun| Out {
                    estimated: out.estimated + estimate,
                    so_far: out.so_far + now.saturating_sub(begun).max(estimate),
                });
                if until[worker].is_none() && budget.allows(now, out) {
                    until[worker] = Some(now + task);
                }
            }
            let running = u32::try_from(until.iter().flatten().count()).expect("few");
            used += step * running;
            busy.push(used);
            now += step;
        }
        let span = usize::try_from(window.as_micros() / step.as_micros()).expect("small");
        let most = busy.windows(span).map(|part| part[span - 1] - part[0]).max().expect("long enough");
        (used.as_secs_f64() / total.as_secs_f64(), most.as_secs_f64() / window.as_secs_f64())
    }

    #[test]
    fn workers_use_what_is_allowed_and_no_more_for_longer_than_a_moment() {
        for (workers, processors) in [(2, 0.8), (8, 0.8), (4, 1.6), (1, 0.05)] {
            for estimate in [1, 4, 9] {
                let mut budget = Budget::new(processors);
                let (used, most) = run(&mut budget, workers, 4 * MS, estimate * MS, 10_000 * MS);
                assert!((0.97..=1.02).contains(&(used / processors)), "{workers}, {processors}: {used} on average");
                assert!(most < processors * 1.3 + 0.1, "{workers}, {processors}: {most} in a tenth of a second");
            }
        }
    }

    #[test]
    fn tasks_that_take_long_are_no_way_around_it_and_lose_nothing_by_it() {
        for (workers, processors) in [(2, 0.8), (4, 2.5)] {
            let mut budget = Budget::new(processors);
            let (used, _) = run(&mut budget, workers, 300 * MS, 300 * MS, 60_000 * MS);
            assert!((0.95..=1.02).contains(&(used / processors)), "{workers}, {processors}: {used}");
        }
    }

    #[test]
    fn little_is_saved_up_and_it_says_until_when_it_lasts() {
        let mut budget = Budget::new(0.5);
        assert!(budget.allows(3600 * 1000 * MS, Out::default()));
        budget.take(20 * MS);
        assert!(!budget.allows(3600 * 1000 * MS, Out::default()), "20 ms at half a processor are 10 ms");
        let until = budget.short_until.expect("it is short");
        assert!(until.abs_diff(3600 * 1000 * MS + 20 * MS) < MS, "10 ms more are there in 20 ms: {until:?}");
        assert!(budget.allows(until, Out::default()) && budget.short_until.is_none());
    }
}

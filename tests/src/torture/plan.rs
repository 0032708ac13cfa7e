//! What harm is done when: it follows from the seed alone. Whom it hits does not.

use std::time::Duration;

use batchmill_datasets::random::Rng;

/// How long the torture goes on.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// So long.
    Time(Duration),
    /// Until so much harm was done, one soon after the other.
    Events {
        /// To workers.
        worker: u64,
        /// To trainers.
        trainer: u64,
        /// To the daemon.
        daemon: u64,
    },
}

/// One harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    Worker(WorkerHarm),
    Trainer(TrainerHarm),
    Daemon(DaemonHarm),
    /// So many workers are wanted from now on.
    Scale(u32),
    /// A second daemon comes to the address.
    Second,
}

/// What is done to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerHarm {
    Kill,
    /// SIGSTOP, and SIGCONT after that time.
    Stop(Duration),
    /// SIGSTOP, and SIGKILL after that time.
    StopAndKill(Duration),
    Segv,
    Abort,
    /// Its address space must not grow any more.
    Starve,
}

/// What is done to a trainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrainerHarm {
    Kill,
    /// SIGKILL, and for the next one too, that time after its start: it is still attaching.
    KillTwice(Duration),
    Stop(Duration),
    /// It leaves its process with leases, and says nothing.
    Exit,
    /// It starts a child that inherits its sockets and lives for that time, then it is killed.
    Fork(Duration),
}

/// What is done to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DaemonHarm {
    /// SIGKILL; the next one starts after that time.
    Kill(Duration),
    /// The same, and the next one is killed that time after its start: it is not yet ready.
    KillTwice(Duration),
    Stop(Duration),
    /// `loader stop`; the next one starts after that time.
    End(Duration),
}

/// Who or what is harmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Worker,
    Trainer,
    Daemon,
    Scale,
    Second,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Worker, Self::Trainer, Self::Daemon, Self::Scale, Self::Second];
}

/// The harm that is still to be done.
#[derive(Debug)]
pub(super) struct Plan {
    sources: [Source; 5],
}

/// The harm of one kind.
#[derive(Debug)]
struct Source {
    rng: Rng,
    /// From one to the next.
    pause_mean: Duration,
    left: u64,
}

impl Plan {
    /// In half an hour some 1,600 workers, 300 trainers and 70 daemons die.
    pub(super) fn new(seed: u64, length: Length) -> Self {
        let ms = Duration::from_millis;
        let [worker, trainer, daemon, scale, second] = match length {
            Length::Time(_) => {
                [(900, u64::MAX), (4_000, u64::MAX), (15_000, u64::MAX), (6_000, u64::MAX), (60_000, u64::MAX)]
            }
            Length::Events { worker, trainer, daemon } => {
                [(250, worker), (1_200, trainer), (3_000, daemon), (1_500, worker / 6), (3_000, 1)]
            }
        };
        let source =
            |kind: u64, (pause_ms, left)| Source { rng: Rng::new(seed, kind, 0, 0, 0), pause_mean: ms(pause_ms), left };
        Self {
            sources: [source(0, worker), source(1, trainer), source(2, daemon), source(3, scale), source(4, second)],
        }
    }

    /// The next harm of a kind, and how long after the one before.
    pub(super) fn next(&mut self, kind: Kind) -> Option<(Duration, Harm)> {
        let place = Kind::ALL.iter().position(|other| *other == kind)?;
        let source = &mut self.sources[place];
        source.left = source.left.checked_sub(1)?;
        let pause = source.pause_mean.mul_f64(2.0 * source.rng.uniform());
        Some((pause, source.harm(kind)))
    }
}

impl Source {
    fn harm(&mut self, kind: Kind) -> Harm {
        let percent = self.rng.below(100);
        match kind {
            Kind::Worker => Harm::Worker(match percent {
                0..35 => WorkerHarm::Kill,
                35..56 => WorkerHarm::Stop(self.millis(5, 800)),
                56..68 => WorkerHarm::StopAndKill(self.millis(5, 800)),
                68..80 => WorkerHarm::Segv,
                80..92 => WorkerHarm::Abort,
                _ => WorkerHarm::Starve,
            }),
            Kind::Trainer => Harm::Trainer(match percent {
                0..35 => TrainerHarm::Kill,
                35..48 => TrainerHarm::KillTwice(self.millis(0, 40)),
                48..56 => TrainerHarm::Stop(self.millis(5, 800)),
                // For so long that those who share with it wait no more.
                56..76 => TrainerHarm::Stop(self.millis(1_500, 4_000)),
                76..84 => TrainerHarm::Exit,
                _ => TrainerHarm::Fork(self.millis(500, 3_000)),
            }),
            Kind::Daemon => Harm::Daemon(match percent {
                0..60 => DaemonHarm::Kill(self.millis(0, 400)),
                60..75 => DaemonHarm::KillTwice(self.millis(0, 100)),
                75..90 => DaemonHarm::Stop(self.millis(5, 800)),
                _ => DaemonHarm::End(self.millis(0, 400)),
            }),
            // Mostly few; the machine may have two cores.
            Kind::Scale if percent < 90 => Harm::Scale(self.number(1, 6)),
            Kind::Scale => Harm::Scale(self.number(7, 32)),
            Kind::Second => Harm::Second,
        }
    }

    fn millis(&mut self, low: u32, high: u32) -> Duration {
        Duration::from_millis(u64::from(self.number(low, high)))
    }

    fn number(&mut self, low: u32, high: u32) -> u32 {
        let drawn = self.rng.below(u64::from(high - low) + 1);
        low + u32::try_from(drawn).expect("at most the difference of two such numbers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker_harm(seed: u64) -> Vec<(Duration, Harm)> {
        let mut plan = Plan::new(seed, Length::Events { worker: 200, trainer: 0, daemon: 0 });
        std::iter::from_fn(|| plan.next(Kind::Worker)).collect()
    }

    #[test]
    fn a_seed_is_a_plan() {
        assert_eq!(worker_harm(1), worker_harm(1));
        assert_ne!(worker_harm(1), worker_harm(2));
        assert_eq!(worker_harm(1).len(), 200);
    }

    /// Whether nothing is killed.
    fn is_mild(harm: Harm) -> bool {
        matches!(
            harm,
            Harm::Worker(WorkerHarm::Stop(_))
                | Harm::Trainer(TrainerHarm::Stop(_) | TrainerHarm::Exit)
                | Harm::Daemon(DaemonHarm::Stop(_) | DaemonHarm::End(_))
        )
    }

    #[test]
    fn half_an_hour_has_enough_of_each_kind() {
        let mut plan = Plan::new(0, Length::Time(Duration::from_secs(1_800)));
        let mut count = |kind, counts: fn(Harm) -> bool| {
            let mut time = Duration::ZERO;
            let mut found = 0;
            while let Some((pause, harm)) = plan.next(kind) {
                time += pause;
                if time > Duration::from_secs(1_800) {
                    break;
                }
                found += u32::from(counts(harm));
            }
            found
        };
        assert!(count(Kind::Worker, |harm| !is_mild(harm)) > 1_300);
        assert!(count(Kind::Trainer, |harm| !is_mild(harm)) > 240);
        assert!(count(Kind::Daemon, |harm| !is_mild(harm)) > 70);
        assert!(count(Kind::Second, |_| true) > 10);
        assert!(count(Kind::Scale, |harm| matches!(harm, Harm::Scale(7..=32))) > 10);
    }
}

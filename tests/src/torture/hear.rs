//! What trainers tell, compared with what they must get.

use std::error::Error;
use std::time::Instant;

use batchmill_protocol::share::{Lag, Share};

use super::counts::{Check, Count};
use super::daemon::LIMIT;
use super::line::{Line, Told};
use super::run::{Notice, Phase, Run};
use super::sequence::{Disorder, Sequence};
use super::trainer::{self, EPOCHS};

impl Run {
    /// Takes note of what a trainer said.
    pub(super) fn hear(&mut self, notice: Notice) -> Result<(), Box<dyn Error>> {
        match notice {
            Notice::Told { trainer, line: Ok(line) } => return self.told(trainer, line),
            Notice::Told { trainer, line: Err(garbled) } => {
                self.counts.find(Check::Trainer, 1, &format!("trainer {trainer} said {garbled:?}"));
            }
            Notice::Silent { trainer, life } => return self.silent(trainer, life),
        }
        Ok(())
    }

    fn told(&mut self, number: usize, line: Line) -> Result<(), Box<dyn Error>> {
        let trainer = &mut self.trainers[number];
        trainer.alive = Instant::now();
        match line {
            Line::Attached(_) => {}
            Line::Batch(told) => return self.batch(number, &told),
            Line::Lost(_) => self.counts.add(Count::TrainerReconnect),
            Line::Refused(reason) => self.counts.refused(reason),
            Line::Failed { position, reason } => {
                self.counts.find(Check::FailedStep, 1, &format!("trainer {number} at {position}: {reason}"));
            }
            Line::Broken(what) => self.counts.find(Check::Protocol, 1, &format!("trainer {number}: {what}")),
            Line::Dismissed { position, reason } => {
                let lagged = self.trainers[number].share == Share::Broadcast { lag: Lag::Drop };
                if lagged && reason.starts_with("it lags ") {
                    self.counts.add(Count::Dismissals);
                } else {
                    self.counts.find(Check::Dismissed, 1, &format!("trainer {number} at {position}: {reason}"));
                }
            }
            Line::Forked(pid) => self.forked(number, pid),
            Line::End(position) => {
                let resume = trainer::position(trainer.sequence.resume(), self.extent);
                if let Some(running) = &mut trainer.running {
                    running.ended = true;
                }
                if resume != position {
                    let what =
                        format!("trainer {number} was told of the end at {position}, but got all before {resume}");
                    self.counts.find(Check::Lost, 1, &what);
                }
                self.counts.add(Count::Epochs);
            }
        }
        Ok(())
    }

    /// Compares a batch with what it must be.
    fn batch(&mut self, number: usize, told: &Told) -> Result<(), Box<dyn Error>> {
        let trainer = &mut self.trainers[number];
        trainer.batches += 1;
        self.counts.add(Count::Deliveries);
        let position = told.position;
        if position.step >= self.extent.steps() || position.epoch >= EPOCHS {
            self.counts.find(Check::Protocol, 1, &format!("trainer {number} got {position}, which does not exist"));
            return Ok(());
        }
        for disorder in trainer.sequence.note(told.number, trainer::place(position, self.extent)) {
            let (check, times, how) = match disorder {
                Disorder::Lost(times) => (Check::Lost, times, format!("{times} batches are missing before it")),
                Disorder::Duplicated => (Check::Duplicated, 1, "it had it already".to_owned()),
                Disorder::Reordered => (Check::Reordered, 1, "it comes too late".to_owned()),
            };
            if check == Check::Reordered {
                self.counts.not_lost();
            }
            self.counts.find(check, times, &format!("trainer {number} got {position}: {how}"));
        }
        let expected = self.reference.digest(number, position)?;
        if told.digest != expected {
            let what = format!(
                "trainer {number} read {position} with digest {:032x} at the end of its lease, the reference is {expected:032x}",
                told.digest
            );
            self.counts.find(Check::Corrupt, 1, &what);
        }
        if !trainer.was_stopped(told.came_us.saturating_sub(told.wait_us), told.came_us) {
            let after = self.counts.elapsed().as_secs_f64();
            let what = || format!("trainer {number} for {position}, {after:.1} s after the start");
            self.counts.waits.waited(told.wait_us, told.came_us, what);
        }
        Ok(())
    }

    /// A trainer has ended: the next one goes on where it was, or anew.
    fn silent(&mut self, number: usize, life: u32) -> Result<(), Box<dyn Error>> {
        let trainer = &mut self.trainers[number];
        if trainer.life != life {
            return Ok(());
        }
        let Some((running, status)) = trainer.bury(LIMIT) else { return Ok(()) };
        let well = running.ended && status.as_ref().is_ok_and(|status| status.success());
        if running.ended {
            self.trainers[number].rounds += 1;
            self.trainers[number].sequence = Sequence::new(self.first_place(number));
        }
        if !well && !running.doomed {
            let what = format!("trainer {number} (pid {}) ended by itself: {status:?}", running.pid());
            self.counts.find(Check::Trainer, 1, &format!("{what}: {}", self.place.last_words()));
        }
        if matches!(self.phase, Phase::Harm | Phase::Calm) { self.start_trainer(number) } else { Ok(()) }
    }
}

//! What a stream delivers, as a worker says it: asked before it opens, and again when its bad samples are retried.

use std::collections::BTreeMap;
use std::time::Duration;

use batchmill_protocol::message::{StreamId, WorkerId};
use batchmill_protocol::slab::Making;

use super::quarantine::Quarantine;
use super::{Action, CRASHES_MAX, Death, Scheduler, Stream};

/// Workers that may die on surveying one stream before it is given up.
const DEATHS_MAX: u32 = 2;

/// Samples that may end workers before one is found that does not.
const POISONOUS_MAX: usize = 16;

/// A survey under way.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Who makes it; nobody yet, or any more.
    asked: Option<WorkerId>,
    /// Workers that died, while making no sample.
    deaths: u32,
    /// Workers that died on a sample, by its index.
    deaths_on: BTreeMap<u64, u32>,
    /// What was learned on the way.
    quarantine: Quarantine,
}

impl Survey {
    fn is_by(&self, worker: WorkerId) -> bool {
        self.asked == Some(worker)
    }

    /// Has somebody else try, who is not to read what ended too many.
    ///
    /// # Errors
    /// One sentence fragment when there is no sense in it.
    fn lost(&mut self, death: &Death, expected: bool) -> Result<(), String> {
        self.asked = None;
        if expected {
            return Ok(());
        }
        let (deaths, name) = match &death.making {
            Some(Making { index: Some(index), name }) => {
                let deaths = self.deaths_on.entry(*index).or_default();
                *deaths += 1;
                let deaths = *deaths;
                if deaths < CRASHES_MAX {
                    return Ok(());
                }
                self.quarantine.poison(*index, name, deaths, &death.how, None);
                if self.quarantine.poisonous().len() <= POISONOUS_MAX {
                    return Ok(());
                }
                (deaths, name.as_str())
            }
            making => {
                self.deaths += 1;
                if self.deaths < DEATHS_MAX {
                    return Ok(());
                }
                (self.deaths, making.as_ref().map_or("the dataset's index", |making| making.name.as_str()))
            }
        };
        Err(format!("{deaths} worker processes died on reading {name}; the last {}", death.how))
    }
}

impl Stream {
    fn survey(&mut self) -> Option<&mut Survey> {
        match self {
            Self::Survey(survey) => Some(survey),
            Self::Open(open) => open.retry.as_mut(),
            Self::Reserving(_) | Self::Failed => None,
        }
    }
}

impl Scheduler {
    /// Hands each survey that nobody makes to a worker that makes none, so that a death tells whose it was.
    pub(super) fn ask_for_surveys(&mut self, now: Duration) {
        for (&stream, state) in &mut self.streams {
            if let Some(survey @ Survey { asked: None, .. }) = state.survey()
                && let Some(worker) = { self.workers.unoccupied().next() }
            {
                survey.asked = Some(worker);
                self.workers.occupy(now, worker);
                let quarantined = survey.quarantine.poisonous();
                self.actions.push(Action::Survey { worker, stream, quarantined });
            }
        }
    }

    pub(super) fn stream_surveyed(&mut self, worker: WorkerId, stream: StreamId) {
        if let Some(state @ Stream::Survey(_)) = self.streams.get_mut(&stream)
            && let Stream::Survey(survey) = state
            && survey.is_by(worker)
        {
            *state = Stream::Reserving(std::mem::take(&mut survey.quarantine));
            self.workers.relieve(worker);
        }
    }

    /// Has the index of an open stream read anew.
    pub(super) fn retry(&mut self, stream: StreamId) {
        if let Some(Stream::Open(open)) = self.streams.get_mut(&stream) {
            open.retry.get_or_insert_default();
        }
    }

    /// Forgets the samples that could not be read and has all workers use the index that was read `anew`; or leaves
    /// everything as it was.
    pub(super) fn retried(&mut self, now: Duration, worker: WorkerId, stream: StreamId, anew: bool) {
        let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else { return };
        if !open.retry.as_ref().is_some_and(|survey| survey.is_by(worker)) {
            return;
        }
        let survey = open.retry.take().expect("just looked at");
        self.workers.relieve(worker);
        if anew {
            open.quarantine = survey.quarantine.within(open.quarantine.limit());
            self.open_everywhere(now, stream);
        }
    }

    /// Has somebody else make the survey that a dead worker was to make.
    pub(super) fn survey_lost(&mut self, worker: WorkerId, death: &Death, expected: bool) {
        for (&stream, state) in &mut self.streams {
            let Some(survey) = state.survey().filter(|survey| survey.is_by(worker)) else { continue };
            if let Err(reason) = survey.lost(death, expected) {
                match state {
                    Stream::Open(open) => open.retry = None,
                    _ => *state = Stream::Failed,
                }
                self.actions.push(Action::StreamFailed { stream, reason });
            }
        }
    }
}

//! What a stream delivers, as a worker says it: asked before it opens, and again when its bad samples are retried.

use std::collections::BTreeMap;
use std::time::Duration;

use batchmill_protocol::message::{StreamId, WorkerId};

use super::quarantine::Quarantine;
use super::slots::Deaths;
use super::{Action, Death, Scheduler, Stream, TaskId};

/// Samples that may end workers before one is found that does not.
const POISONOUS_MAX: usize = 16;

/// A survey under way.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Who makes it; nobody yet, or any more.
    asked: Option<WorkerId>,
    /// Workers that died on it, by the index of the sample that they tried, if they were that far.
    deaths: BTreeMap<Option<u64>, Deaths>,
    /// What was learned on the way.
    quarantine: Quarantine,
}

impl Survey {
    fn is_by(&self, worker: WorkerId) -> bool {
        self.asked == Some(worker)
    }

    /// Has somebody else try, who is not to read what ended too many. `death` is that of the last one, if it was on the
    /// survey and not wished for.
    ///
    /// # Errors
    /// One sentence fragment when there is no sense in it.
    fn lost(&mut self, death: Option<&Death>) -> Result<(), String> {
        self.asked = None;
        let Some(death @ Death { how, making, .. }) = death else { return Ok(()) };
        let index = making.as_ref().and_then(|making| making.index);
        let deaths = self.deaths.entry(index).or_default();
        deaths.add(death);
        if !deaths.are_too_many() {
            return Ok(());
        }
        let count = deaths.count();
        let name = making.as_ref().map_or("the dataset's index", |making| making.name.as_str());
        if let Some(index) = index {
            self.quarantine.poison(index, name, count, how, None)?;
            if self.quarantine.poisonous().count() <= POISONOUS_MAX {
                return Ok(());
            }
        }
        Err(format!("{count} worker processes died on reading {name}; the last {how}"))
    }
}

impl Stream {
    fn survey(&mut self) -> Option<&mut Survey> {
        match self {
            Self::Survey(survey) => Some(survey),
            Self::Open(open) => open.retry.as_mut(),
            Self::Surveyed(_) | Self::Failed => None,
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
                self.workers.told_to_survey(now, worker, stream);
                let quarantined = survey.quarantine.poisonous().collect();
                self.actions.push(Action::Survey { worker, stream, quarantined });
            }
        }
    }

    pub(super) fn stream_surveyed(&mut self, worker: WorkerId, stream: StreamId) {
        if let Some(state @ Stream::Survey(_)) = self.streams.get_mut(&stream)
            && let Stream::Survey(survey) = state
            && survey.is_by(worker)
        {
            *state = Stream::Surveyed(std::mem::take(&mut survey.quarantine));
            self.workers.surveyed(worker);
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
    pub(super) fn retried(&mut self, worker: WorkerId, stream: StreamId, anew: bool) {
        let Some(Stream::Open(open)) = self.streams.get_mut(&stream) else { return };
        if !open.retry.as_ref().is_some_and(|survey| survey.is_by(worker)) {
            return;
        }
        let survey = open.retry.take().expect("just looked at");
        self.workers.surveyed(worker);
        if anew {
            open.quarantine = survey.quarantine.within(open.quarantine.limit());
            open.clear_lobby(false);
            // What was given out before was of the data as they were.
            open.since_retry = TaskId(self.next_task);
            self.open_everywhere(stream);
        }
    }

    /// Has somebody else make the survey that a dead worker was to make.
    pub(super) fn survey_lost(&mut self, worker: WorkerId, death: Option<&Death>) {
        for (&stream, state) in &mut self.streams {
            let Some(survey) = state.survey().filter(|survey| survey.is_by(worker)) else { continue };
            if let Err(reason) = survey.lost(death) {
                match state {
                    Stream::Open(open) => open.retry = None,
                    _ => *state = Stream::Failed,
                }
                self.actions.push(Action::StreamFailed { stream, reason });
            }
        }
    }
}

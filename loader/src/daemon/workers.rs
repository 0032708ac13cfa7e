//! What workers say.

use std::time::Duration;

use batchmill_protocol::message::{Done, FromWorker, StreamId, Survey, WorkerId};

use super::Daemon;
use crate::output;
use crate::scheduler::Event;

/// Workers that may fail to open a stream before the first one can.
const OPEN_FAILURES_MAX: u32 = 3;

impl Daemon {
    pub(super) fn worker_says(&mut self, worker: WorkerId, message: FromWorker) {
        if let FromWorker::Surveyed { stream, .. } | FromWorker::Opened { stream, .. } = &message
            && !self.streams.contains_key(stream)
        {
            // Of a stream that was closed meanwhile it has only to be known that the worker is done with it.
            let was_served = stream.0 < self.next_stream;
            return if was_served {
                self.tell(Event::WorkerOpened { worker, stream: *stream })
            } else {
                self.kill(worker)
            };
        }
        match message {
            FromWorker::Indexed { .. } => self.tell(Event::Indexed(worker)),
            FromWorker::Surveyed { stream, survey } => match survey {
                Ok(survey) => self.surveyed(worker, stream, survey),
                Err(reason) => {
                    self.fail_stream(stream, reason);
                    // One of the two it was.
                    self.tell(Event::StreamSurveyed { worker, stream });
                    self.tell(Event::Retried { worker, stream, anew: false });
                }
            },
            FromWorker::Opened { stream, outcome: Ok(()) } => {
                if let Some(served) = self.streams.get_mut(&stream) {
                    served.ready = true;
                }
                self.tell(Event::WorkerOpened { worker, stream });
                self.say_ready();
            }
            FromWorker::Opened { stream, outcome: Err(reason) } => {
                self.kill(worker);
                let Some(served) = self.streams.get_mut(&stream) else { return };
                output::log(&format!("worker {worker} cannot open stream `{}`: {reason}", served.name));
                served.open_failures += 1;
                if served.open_failures >= OPEN_FAILURES_MAX && !served.ready {
                    self.fail_stream(stream, reason);
                }
            }
            FromWorker::Done(done) => {
                for Done { task, busy_ns, cpu_ns, outcome } in done {
                    let (busy, cpu) = (Duration::from_nanos(busy_ns), Duration::from_nanos(cpu_ns));
                    self.note_quietly(Event::TaskDone { worker, task, busy, cpu, outcome });
                }
            }
        }
    }

    /// Lays a stream out in memory, now that the size of its batches is known; or has an open one go on with its data as
    /// they are now.
    fn surveyed(&mut self, worker: WorkerId, stream: StreamId, survey: Survey) {
        let Some(served) = self.streams.get_mut(&stream) else { return };
        // It was not asked.
        let Some(index) = served.index.take() else { return self.kill(worker) };
        if let Some(opened) = &mut served.opened {
            let renewed = opened.renew(survey, index);
            let anew = renewed.is_ok();
            if let Err(reason) = renewed {
                self.fail_stream(stream, reason);
            }
            return self.tell(Event::Retried { worker, stream, anew });
        }
        let opened = served.open(stream, survey, index);
        self.tell(Event::StreamSurveyed { worker, stream });
        match opened {
            Ok((extent, slots, bad_limit)) => {
                self.tell(Event::StreamOpened { stream, extent, slots, bad_limit });
            }
            Err(reason) => self.fail_stream(stream, reason),
        }
    }
}

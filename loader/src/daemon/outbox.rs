//! What peers are told of batches: of one round of happenings, all in one message for each peer.

use std::collections::BTreeMap;

use batchmill_protocol::message::{Lent, MemberId, Task, ToMember, ToWorker, WorkerId};

use super::Daemon;

/// Tasks and batches that nobody was told of yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    tasks: BTreeMap<WorkerId, Vec<Task>>,
    lent: BTreeMap<MemberId, Vec<Lent>>,
}

impl Outbox {
    /// Gives rows out to a worker.
    pub(super) fn assign(&mut self, worker: WorkerId, task: Task) {
        self.tasks.entry(worker).or_default().push(task);
    }

    /// Lends a batch to a member.
    pub(super) fn lend(&mut self, member: MemberId, lent: Lent) {
        self.lent.entry(member).or_default().push(lent);
    }
}

impl Daemon {
    /// Tells everybody. Whoever makes batches is told first: until then it may have nothing to do.
    pub(super) fn send_all(&mut self) {
        for (worker, tasks) in std::mem::take(&mut self.outbox.tasks) {
            self.say_to_worker(worker, ToWorker::Tasks(tasks));
        }
        for (member, lent) in std::mem::take(&mut self.outbox.lent) {
            self.say_to_member(member, ToMember::Batches(lent));
        }
    }

    /// Tells a worker something else, after what came before it.
    pub(super) fn send_worker(&mut self, worker: WorkerId, message: ToWorker) {
        if let Some(tasks) = self.outbox.tasks.remove(&worker) {
            self.say_to_worker(worker, ToWorker::Tasks(tasks));
        }
        self.say_to_worker(worker, message);
    }

    /// Tells a member something else, after what came before it.
    pub(super) fn send_member(&mut self, member: MemberId, message: ToMember) {
        if let Some(lent) = self.outbox.lent.remove(&member) {
            self.say_to_member(member, ToMember::Batches(lent));
        }
        self.say_to_member(member, message);
    }

    // A peer whose line is broken is about to be noticed as gone; nothing else follows from it.
    fn say_to_worker(&self, worker: WorkerId, message: ToWorker) {
        if let Some(line) = self.workers.get(&worker).and_then(|worker| worker.line.as_ref()) {
            let _ = line.send(message);
        }
    }

    fn say_to_member(&self, member: MemberId, message: ToMember) {
        if let Some(line) = self.members.get(&member).and_then(|member| member.line.as_ref()) {
            let _ = line.send(message);
        }
    }
}

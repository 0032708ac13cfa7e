//! Leases on their way back: several in one message, as long as nobody waits for one of them.

use std::sync::{Mutex, PoisonError};

use ipc_channel::ipc::IpcSender;

use crate::message::{FromMember, LeaseId};

/// The most memory that is held back: where it is more, a message for each batch costs nothing beside the batch.
const HELD_BYTES_MAX: usize = 4 << 20;

/// A member's way of giving batches back, which its readers share.
#[derive(Debug)]
pub(super) struct Returns {
    line: Mutex<Line>,
    held_max: usize,
}

#[derive(Debug)]
struct Line {
    sender: IpcSender<FromMember>,
    /// Leases that have ended, and of which the loader has not been told.
    held: Vec<LeaseId>,
    /// Batches that have come, and that the member has not come to.
    unread: usize,
}

impl Returns {
    /// Over a line of one's own; of slots so long some may be held back, unless others wait for what this member has read.
    pub(super) fn new(sender: IpcSender<FromMember>, slot_bytes: usize, is_shared: bool) -> Self {
        let held_max = if is_shared { 0 } else { HELD_BYTES_MAX / slot_bytes.max(1) };
        Self { line: Mutex::new(Line { sender, held: Vec::new(), unread: 0 }), held_max }
    }

    /// Notes how many batches the member has before it waits for one. With none it is about to: all that is held back goes.
    pub(super) fn has_unread(&self, unread: usize) {
        self.with(|line| {
            line.unread = unread;
            if unread == 0 {
                line.send();
            }
        });
    }

    /// Gives leases back, now or with those that follow. As many as are held back are still to be read: when the member
    /// comes to its last batch, others are on their way.
    pub(super) fn give_back(&self, leases: impl IntoIterator<Item = LeaseId>) {
        self.with(|line| {
            line.held.extend(leases);
            if line.held.len() >= line.unread || line.held.len() > self.held_max {
                line.send();
            }
        });
    }

    fn with(&self, work: impl FnOnce(&mut Line)) {
        // Nothing in here panics between two changes that belong together.
        work(&mut self.line.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Line {
    fn send(&mut self) {
        if !self.held.is_empty() {
            // A loader that is gone needs no release.
            let _ = self.sender.send(FromMember::Release { leases: std::mem::take(&mut self.held) });
        }
    }
}

#[cfg(test)]
mod tests {
    use ipc_channel::ipc;

    use super::*;

    const SLOT_BYTES: usize = 50_000;

    /// What the loader hears when a member has so many batches before it and gives them back one by one.
    fn heard(slot_bytes: usize, is_shared: bool, unread: usize) -> Vec<usize> {
        let (sender, line) = ipc::channel().expect("a line");
        let returns = Returns::new(sender, slot_bytes, is_shared);
        for (lease, unread) in (0..).zip((0..unread).rev()) {
            returns.has_unread(unread);
            returns.give_back([LeaseId(lease)]);
        }
        let messages = std::iter::from_fn(|| line.try_recv().ok());
        let leases: Vec<_> = messages.map(|FromMember::Release { leases }| leases).collect();
        let numbers = leases.iter().flatten().map(|lease| lease.0).collect::<Vec<_>>();
        assert_eq!(numbers, (0..unread as u64).collect::<Vec<_>>(), "each once");
        leases.iter().map(Vec::len).collect()
    }

    #[test]
    fn leases_go_back_in_groups_and_none_stays() {
        assert_eq!(heard(SLOT_BYTES, false, 16), [8, 4, 2, 1, 1]);
        assert_eq!(heard(SLOT_BYTES, false, 1), [1]);
    }

    #[test]
    fn large_batches_and_those_that_others_wait_for_go_back_at_once() {
        assert_eq!(heard(HELD_BYTES_MAX + 1, false, 4), [1; 4]);
        assert_eq!(heard(HELD_BYTES_MAX / 3, false, 16)[..3], [4, 4, 4]);
        assert_eq!(heard(SLOT_BYTES, true, 16), [1; 16]);
    }

    #[test]
    fn what_is_held_back_goes_when_the_member_waits() {
        let (sender, line) = ipc::channel().expect("a line");
        let returns = Returns::new(sender, SLOT_BYTES, false);
        returns.has_unread(9);
        returns.give_back([LeaseId(5)]);
        assert!(line.try_recv().is_err(), "nobody waits for it");
        returns.has_unread(0);
        assert_eq!(line.try_recv().ok(), Some(FromMember::Release { leases: vec![LeaseId(5)] }));
        returns.has_unread(0);
        assert!(line.try_recv().is_err(), "there is nothing more to say");
        returns.give_back([LeaseId(6)]);
        assert_eq!(line.try_recv().ok(), Some(FromMember::Release { leases: vec![LeaseId(6)] }), "it waits already");
    }
}

//! One page in which a worker says what it is making, readable after its death.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};

use super::map::Words;
use super::{fill, sealed};
use crate::message::TaskId;

const WORDS: usize = 64;
const NO_SAMPLE: u64 = u64::MAX;
const NO_TASK: u64 = u64::MAX;
const TEXT_BYTES_MAX: usize = (WORDS - 4) * 8;

/// What a worker is making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Making {
    /// The task that it is for, when it is for one.
    pub task: Option<TaskId>,
    /// The sample's index in its dataset, when it is one.
    pub index: Option<u64>,
    /// What a person calls it, never empty.
    pub name: String,
}

/// A short note that one process writes and another reads at any time.
///
/// Word 0 counts writes and is odd during one, word 1 is the text's length in bytes, word 2 the sample's index and word 3
/// the task (all ones for none), the rest is the text. A reader that meets a write in progress sees nothing rather than a
/// mixture.
#[derive(Debug)]
pub struct Telemetry {
    words: Words,
    /// What is noted is for this task.
    task: Option<TaskId>,
}

impl Telemetry {
    /// Makes an empty page.
    ///
    /// # Errors
    /// When the kernel has no memory or descriptor left.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let bytes = (WORDS * 8) as u64;
        let fd = sealed("telemetry", bytes).map_err(|(_, errno)| errno)?;
        fill(&fd, bytes)?;
        Ok((Self::open(&fd)?, fd))
    }

    /// Maps the page behind `fd`.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn open(fd: impl AsFd) -> io::Result<Self> {
        Ok(Self { words: Words::open(fd, WORDS)?, task: None })
    }

    /// Has what is noted from now on be for a task, or for none.
    pub fn begin(&mut self, task: Option<TaskId>) {
        self.task = task;
    }

    /// Says that sample `index`, or something else, is being made from now on. Only one process may call this.
    pub fn note(&mut self, index: Option<u64>, name: &str) {
        let bytes = &name.as_bytes()[..name.floor_char_boundary(TEXT_BYTES_MAX)];
        let [count, length, sample, task, words @ ..] = self.words.all() else {
            unreachable!("the page has {WORDS} words")
        };
        let writes = count.load(Ordering::Relaxed);
        count.store(writes.wrapping_add(1), Ordering::Relaxed);
        // SYNC telemetry: what follows is not seen before the odd count.
        fence(Ordering::Release);
        length.store(bytes.len() as u64, Ordering::Relaxed);
        sample.store(index.unwrap_or(NO_SAMPLE), Ordering::Relaxed);
        task.store(self.task.map_or(NO_TASK, |task| task.0), Ordering::Relaxed);
        for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
        }
        // SYNC telemetry: the even count is not seen before what precedes.
        count.store(writes.wrapping_add(2), Ordering::Release);
    }

    /// Says that nothing is being made from now on.
    pub fn clear(&mut self) {
        self.note(None, "");
    }

    /// What is being made, or `None` for nothing, or in the instant of a change.
    pub fn read(&self) -> Option<Making> {
        let [count, length, sample, task, words @ ..] = self.words.all() else {
            unreachable!("the page has {WORDS} words")
        };
        // SYNC telemetry.
        let before = count.load(Ordering::Acquire);
        let length = usize::try_from(length.load(Ordering::Relaxed)).ok()?.min(TEXT_BYTES_MAX);
        let index = Some(sample.load(Ordering::Relaxed)).filter(|&index| index != NO_SAMPLE);
        let task = Some(task.load(Ordering::Relaxed)).filter(|&task| task != NO_TASK).map(TaskId);
        let mut bytes: Vec<u8> =
            words[..length.div_ceil(8)].iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
        bytes.truncate(length);
        // SYNC telemetry.
        fence(Ordering::Acquire);
        if before % 2 == 1 || count.load(Ordering::Relaxed) != before || bytes.is_empty() {
            return None;
        }
        Some(Making { task, index, name: String::from_utf8(bytes).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use std::mem::ManuallyDrop;

    use super::super::map::Anonymous;
    use super::*;

    /// Under Miri this also meets what processors do with the order of writes.
    #[test]
    fn a_note_is_read_whole_or_not_at_all() {
        let memory = Anonymous::new(WORDS * 8);
        let view = || ManuallyDrop::new(Telemetry { words: memory.words(), task: None });
        let notes =
            ["cat/0001.jpg", "a much longer path/with many words/dog/0002.jpg", "", "cat/0003.jpg and then some"];
        let rounds = if cfg!(miri) { 3 } else { 3000 };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = view();
                let all = || (0..).zip(notes);
                (0..rounds).for_each(|_| all().for_each(|(index, note)| writer.note(Some(index), note)));
            });
            let reader = view();
            for _ in 0..4 * rounds {
                if let Some(read) = reader.read() {
                    let Making { index: Some(index), name, .. } = &read else { panic!("{read:?} has no index") };
                    assert_eq!(notes.get(usize::try_from(*index).expect("small")), Some(&name.as_str()), "a mixture");
                }
            }
        });
        assert_eq!(view().read().map(|making| making.name).as_deref(), notes.last().copied());
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn the_last_note_is_read_through_another_mapping() {
        let (reader, fd) = Telemetry::create().expect("a page");
        let mut writer = Telemetry::open(fd).expect("the same page");
        assert_eq!(reader.read(), None);
        let making = |task, index, name: &str| Some(Making { task, index, name: name.to_owned() });
        writer.note(Some(42), "train/cat/0042.jpg");
        assert_eq!(reader.read(), making(None, Some(42), "train/cat/0042.jpg"));
        writer.begin(Some(TaskId(7)));
        writer.note(Some(43), "train/cat/0043.jpg");
        assert_eq!(reader.read(), making(Some(TaskId(7)), Some(43), "train/cat/0043.jpg"));
        writer.begin(None);
        writer.note(None, "the index");
        assert_eq!(reader.read(), making(None, None, "the index"));
        writer.clear();
        assert_eq!(reader.read(), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn a_long_note_is_cut_between_characters() {
        let (reader, fd) = Telemetry::create().expect("a page");
        Telemetry::open(fd).expect("the same page").note(None, &"ü".repeat(TEXT_BYTES_MAX));
        assert_eq!(reader.read().map(|making| making.name), Some("ü".repeat(TEXT_BYTES_MAX / 2)));
    }
}

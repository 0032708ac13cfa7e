//! The checkpoints of one run: the newest few and the best one, links to both, and one trainer at a time.
//!
//! | in the run's folder | is |
//! |---|---|
//! | `checkpoints/0002-000150/` | the checkpoint at epoch 2 step 150; names sort as positions do |
//! | `latest` | a link to the newest one |
//! | `best` | a link to the best one, once there is one |
//! | `.lock` | held by the trainer at work |
//!
//! A folder under such a name is whole: it is written as `checkpoints/.partial` and then renamed, and is renamed again
//! before it is removed. All else follows from the newest one, so whatever a kill leaves undone is done at the next start.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use batchmill_protocol::position::Position;

use super::lock::Lock;
use super::{ABOUT, CheckpointError, io_error, is_checkpoint, read_about, sync};

const CHECKPOINTS: &str = "checkpoints";
const LATEST: &str = "latest";
const BEST: &str = "best";
const LOCK: &str = ".lock";

/// What is being written, in [`CHECKPOINTS`].
const PARTIAL: &str = ".partial";

/// What is being removed, in [`CHECKPOINTS`].
const OLD: &str = ".old";

/// A run's checkpoints, in the hand of one trainer.
#[derive(Debug)]
pub struct Shelf {
    run: PathBuf,
    keep: NonZeroUsize,
    /// Taken as long as it lives.
    lock: Option<Lock>,
}

impl Shelf {
    /// Opens the folder of a run, or makes it, and clears away what a kill left. The newest `keep` checkpoints will stay,
    /// and the best one.
    ///
    /// # Errors
    /// [`CheckpointError::Occupied`] when something else is there, [`CheckpointError::Format`] when that is the checkpoint
    /// of an older trainer, [`CheckpointError::Busy`] when another trainer has it, [`CheckpointError::Io`] when the system
    /// does not let us.
    pub fn open(run: &Path, keep: NonZeroUsize) -> Result<Self, CheckpointError> {
        let occupied = || CheckpointError::Occupied { run: run.to_path_buf() };
        if is_checkpoint(run) {
            // An older trainer's, or a single one of a run.
            read_about(&run.join(ABOUT))?;
            return Err(occupied());
        }
        if run.exists() && !may_be_a_run(run).map_err(io_error("read", run))? {
            return Err(occupied());
        }
        fs::create_dir_all(run).map_err(io_error("make", run))?;
        let path = run.join(LOCK);
        let lock = Lock::take(&path).map_err(io_error("lock", &path))?;
        if lock.is_none() {
            return Err(CheckpointError::Busy { run: run.to_path_buf() });
        }
        let shelf = Self { run: run.to_path_buf(), keep, lock };
        let checkpoints = shelf.checkpoints();
        // Only now: a trainer that ends takes an empty folder with it.
        fs::create_dir_all(&checkpoints).map_err(io_error("make", &checkpoints))?;
        for left in [PARTIAL, OLD] {
            remove(&checkpoints.join(left))?;
        }
        if let Some((position, newest)) = shelf.newest()? {
            let best = read_about(&newest.join(ABOUT)).ok().and_then(|about| about.best);
            shelf.link(position, best.map(|best| best.position))?;
        }
        Ok(shelf)
    }

    /// The run's folder.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The newest checkpoint, where there is one.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn newest(&self) -> Result<Option<(Position, PathBuf)>, CheckpointError> {
        Ok(self.all()?.pop_last())
    }

    /// Adds the checkpoint at `position`, whose files `write` puts into the folder it is given, and removes those that
    /// need not stay. Gives its folder.
    ///
    /// # Errors
    /// What `write` said, and [`CheckpointError::Io`]; checkpoints that were there before stay.
    pub fn add(
        &self,
        position: Position,
        best: Option<Position>,
        write: impl FnOnce(&Path) -> Result<(), CheckpointError>,
    ) -> Result<PathBuf, CheckpointError> {
        let (partial, folder) = (self.checkpoints().join(PARTIAL), self.folder(position));
        let put = || {
            fs::create_dir(&partial).map_err(io_error("make", &partial))?;
            write(&partial)?;
            sync(&partial)?;
            fs::rename(&partial, &folder).map_err(io_error("make", &folder))?;
            sync(&self.checkpoints())
        };
        if let Err(error) = put() {
            // Half a checkpoint is of no use, and its room may be what is missing.
            let _ = remove(&partial);
            return Err(error);
        }
        self.link(position, best)?;
        self.remove_all_but(best)?;
        Ok(folder)
    }

    fn checkpoints(&self) -> PathBuf {
        self.run.join(CHECKPOINTS)
    }

    fn folder(&self, position: Position) -> PathBuf {
        folder(&self.run, position)
    }

    /// Every checkpoint, by position.
    fn all(&self) -> Result<BTreeMap<Position, PathBuf>, CheckpointError> {
        let dir = self.checkpoints();
        all(&dir).map_err(io_error("read", &dir))
    }

    /// Lets the links show where they should; a best checkpoint that somebody removed is linked to no more.
    fn link(&self, latest: Position, best: Option<Position>) -> Result<(), CheckpointError> {
        let best = best.filter(|best| self.folder(*best).is_dir());
        for (link, position) in [(LATEST, Some(latest)), (BEST, best)] {
            let (path, new) = (self.run.join(link), self.run.join(format!(".{link}")));
            let _ = fs::remove_file(&new);
            match position {
                Some(position) => {
                    let target = Path::new(CHECKPOINTS).join(name(position));
                    // Renamed, so that there is a link at every moment.
                    symlink(target, &new).and_then(|()| fs::rename(&new, &path)).map_err(io_error("link", &path))?;
                }
                None => match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(io_error("remove", &path)(error));
                    }
                    _ => {}
                },
            }
        }
        sync(&self.run)
    }

    /// Removes the checkpoints that are neither the best nor among the newest.
    fn remove_all_but(&self, best: Option<Position>) -> Result<(), CheckpointError> {
        let all = self.all()?;
        let old = all.iter().rev().skip(self.keep.get()).filter(|(position, _)| Some(**position) != best);
        for (_, folder) in old {
            let gone = self.checkpoints().join(OLD);
            fs::rename(folder, &gone).map_err(io_error("remove", folder))?;
            remove(&gone)?;
        }
        Ok(())
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        // Of a run of which nothing came, such as one with a mistyped stream, nothing stays. A folder that holds anything
        // cannot be removed so.
        let nothing = is_empty_but_for(&self.run, &[CHECKPOINTS, LOCK]).unwrap_or(false);
        let removed = nothing && fs::remove_dir(self.checkpoints()).is_ok();
        drop(self.lock.take());
        if removed {
            let _ = fs::remove_dir(&self.run);
        }
    }
}

/// Where a run has its checkpoint at `position`.
pub(crate) fn folder(run: &Path, position: Position) -> PathBuf {
    run.join(CHECKPOINTS).join(name(position))
}

/// The newest checkpoint of a run that another trainer may be writing to; none where there is nothing to go on from.
///
/// Not what the link shows: a trainer that is killed may have made a checkpoint that nothing is linked to yet.
pub(crate) fn newest(run: &Path) -> Option<(Position, PathBuf)> {
    all(&run.join(CHECKPOINTS)).ok()?.pop_last()
}

/// Every checkpoint in a folder, by position.
fn all(dir: &Path) -> io::Result<BTreeMap<Position, PathBuf>> {
    let entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.iter().filter_map(|entry| Some((position(entry.file_name().to_str()?)?, entry.path()))).collect())
}

/// Whether this is the folder of a run, or may become one.
fn may_be_a_run(path: &Path) -> io::Result<bool> {
    if !path.is_dir() {
        return Ok(false);
    }
    Ok(path.join(CHECKPOINTS).is_dir() || is_empty_but_for(path, &[LOCK])?)
}

/// Whether a folder holds nothing, or nothing but `names`.
fn is_empty_but_for(dir: &Path, names: &[&str]) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let found = entry?.file_name();
        if !names.iter().any(|name| found == *name) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The name of the checkpoint at `position`.
fn name(Position { epoch, step }: Position) -> String {
    format!("{epoch:04}-{step:06}")
}

/// The position of the checkpoint of this name.
fn position(name: &str) -> Option<Position> {
    let (epoch, step) = name.split_once('-')?;
    let position = Position { epoch: epoch.parse().ok()?, step: step.parse().ok()? };
    (self::name(position) == name).then_some(position)
}

fn remove(dir: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", dir)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use tempfile::TempDir;

    use super::*;

    fn run() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = folder.path().join("run");
        (folder, run)
    }

    fn open(run: &Path, keep: usize) -> Result<Shelf, CheckpointError> {
        Shelf::open(run, NonZeroUsize::new(keep).expect("not 0"))
    }

    fn at(epoch: u64, step: u64) -> Position {
        Position { epoch, step }
    }

    fn add(shelf: &Shelf, position: Position, best: Option<Position>) {
        let write = |dir: &Path| fs::write(dir.join("file"), name(position)).map_err(io_error("write", dir));
        shelf.add(position, best, write).expect("it can be written");
    }

    /// What is in a folder: links with what they show.
    fn tree(dir: &Path) -> String {
        let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
        let mut lines: Vec<_> = entries
            .flat_map(|path| {
                let name = path.file_name().expect("it has one").display().to_string();
                match (fs::read_link(&path), path.is_dir()) {
                    (Ok(target), _) => vec![format!("{name} -> {}", target.display())],
                    (_, true) => tree(&path).lines().map(|line| format!("{name}/{line}")).collect(),
                    _ => vec![name],
                }
            })
            .collect();
        lines.sort();
        lines.join("\n")
    }

    #[test]
    fn the_newest_and_the_best_stay() {
        let (_folder, run) = run();
        let shelf = open(&run, 2).expect("nothing is there");
        add(&shelf, at(0, 100), None);
        expect![[r"
            .lock
            checkpoints/0000-000100/file
            latest -> checkpoints/0000-000100"]]
        .assert_eq(&tree(&run));
        add(&shelf, at(1, 0), Some(at(1, 0)));
        for (epoch, step) in [(1, 100), (2, 0), (10_000, 0), (10_000, 1_000_000)] {
            add(&shelf, at(epoch, step), Some(at(1, 0)));
        }
        expect![[r"
            .lock
            best -> checkpoints/0001-000000
            checkpoints/0001-000000/file
            checkpoints/10000-000000/file
            checkpoints/10000-1000000/file
            latest -> checkpoints/10000-1000000"]]
        .assert_eq(&tree(&run));
        assert_eq!(shelf.newest().expect("it can be read").map(|(position, _)| position), Some(at(10_000, 1_000_000)));
        drop(shelf);
        assert!(!run.join(LOCK).exists(), "the lock ends with the trainer");
    }

    #[test]
    fn what_a_kill_left_undone_is_done_at_the_next_start() {
        let (_folder, run) = run();
        let shelf = open(&run, 2).expect("nothing is there");
        for (epoch, step) in [(0, 5), (0, 10), (1, 0)] {
            add(&shelf, at(epoch, step), None);
        }
        drop(shelf);
        // Killed while one was written and another removed, before the links were made.
        for left in [".partial", ".old"] {
            fs::create_dir(run.join(CHECKPOINTS).join(left)).expect("it can be made");
            fs::write(run.join(CHECKPOINTS).join(left).join("half"), "").expect("it can be written");
        }
        fs::remove_file(run.join(LATEST)).expect("it is there");
        symlink("checkpoints/0000-000005", run.join(LATEST)).expect("it can be made");
        symlink("checkpoints/none", run.join(".latest")).expect("it can be made");
        fs::write(run.join(LOCK), "").expect("it can be written");
        assert_eq!(newest(&run).map(|(position, _)| position), Some(at(1, 0)), "as the next start sees it");
        assert_eq!(newest(&run.join("none")), None);
        let _shelf = open(&run, 2).expect("it is a run");
        expect![[r"
            .lock
            checkpoints/0000-000010/file
            checkpoints/0001-000000/file
            latest -> checkpoints/0001-000000"]]
        .assert_eq(&tree(&run));
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_leaves_the_others() {
        let (folder, run) = run();
        let shelf = open(&run, 1).expect("nothing is there");
        add(&shelf, at(1, 0), Some(at(1, 0)));
        let before = tree(&run);
        let full = |dir: &Path| {
            fs::write(dir.join("half"), "").expect("it can be written");
            Err(io_error("write", &dir.join("file"))(io::ErrorKind::StorageFull.into()))
        };
        let error = shelf.add(at(2, 0), Some(at(2, 0)), full).expect_err("the disk is full").to_string();
        expect!["write DIR/run/checkpoints/.partial/file"]
            .assert_eq(&error.replace(&folder.path().display().to_string(), "DIR"));
        assert_eq!(tree(&run), before);
    }

    #[test]
    fn a_run_of_which_nothing_came_leaves_nothing() {
        let (folder, run) = run();
        drop(open(&run, 2).expect("nothing is there"));
        assert_eq!(tree(folder.path()), "");
        // What others put into the folder stays, and it stays a run's.
        let shelf = open(&run, 2).expect("nothing is there");
        fs::write(run.join("run.json"), "").expect("it can be written");
        drop(shelf);
        assert_eq!(tree(&run), "run.json");
        open(&run, 2).expect("it is a run's");
    }

    #[test]
    fn a_folder_of_something_else_is_not_taken() {
        let (folder, run) = run();
        fs::create_dir(&run).expect("it can be made");
        fs::write(run.join("thesis.tex"), "").expect("it can be written");
        let refused = |path: &Path| {
            let error = open(path, 2).expect_err("it is something else").to_string();
            error.replace(&folder.path().display().to_string(), "DIR")
        };
        expect!["write to DIR/run: it exists and is not the folder of a run: choose another --out"]
            .assert_eq(&refused(&run));
        refused(&run.join("thesis.tex"));
        assert!(open(&run.join("thesis.tex/inside"), 2).is_err());
        assert_eq!(tree(&run), "thesis.tex");
        // The checkpoint of a trainer that had no runs.
        fs::write(run.join(ABOUT), "{\"format\": 3, \"stream\": \"train\"}").expect("it can be written");
        expect!["read DIR/run/checkpoint.json: it has format 3, this trainer reads 5: use the trainer that wrote it"]
            .assert_eq(&refused(&run));
    }

    #[test]
    fn a_run_has_one_trainer_at_a_time() {
        let (folder, run) = run();
        let first = open(&run, 2).expect("nobody writes there");
        let error = open(&run, 2).expect_err("the first is still there").to_string();
        expect!["another trainer writes to DIR/run: name another folder with --out"]
            .assert_eq(&error.replace(&folder.path().display().to_string(), "DIR"));
        drop(first);
        open(&run, 2).expect("nobody holds the lock");
    }
}

//! What is typed about other trainers: those of the same stream, and the other ranks of the same training.

use std::path::{Path, PathBuf};

use batchmill_protocol::share::{Kind, Lag, Share, ShareError, Wish, told_rank};
use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::launch::LaunchError;

/// With whom a trainer trains, or shares its stream.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Several trainers")]
pub struct Sharing {
    /// private: batches made for this trainer alone; broadcast: made once for all that read so; sharded: this is one rank
    /// of several that train one model, and reads its rows of every batch [default: private; sharded with --world]
    #[arg(long, value_name = "KIND")]
    pub share: Option<Kind>,
    /// With --share broadcast, when it lags behind the others: wait (they do), split (it reads on alone until it has
    /// caught up), drop (it is ended) [default: split]
    #[arg(long, value_name = "POLICY")]
    pub lag: Option<Lag>,
    /// How many ranks train one model: without a rank, they are started here, on this machine [default: WORLD_SIZE,
    /// SLURM_NTASKS or OMPI_COMM_WORLD_SIZE]
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub world: Option<u32>,
    /// Which rank this is, from 0 [default: RANK, SLURM_PROCID or OMPI_COMM_WORLD_RANK]
    #[arg(long, value_name = "R")]
    pub rank: Option<u32>,
    /// Whose ranks they are [default: the folder of --out]
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// How many seconds a rank that is missing is waited for [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub rank_limit: Option<u32>,
    /// When one of the ranks that are started here ends, start all again from the latest checkpoint, so many times
    #[arg(long, value_name = "N", requires = "world", default_value_t = 0)]
    pub restarts: u32,
    /// The process that started this rank: it ends with that
    #[arg(long, hide = true)]
    pub launcher: Option<i32>,
}

/// What a trainer is for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It trains, and takes this of its stream.
    Train(Share),
    /// It starts so many ranks.
    Launch {
        /// Two or more.
        world: u32,
    },
}

impl Sharing {
    /// What these say together for a training whose files go to `run`.
    ///
    /// # Errors
    /// [`ShareError`] when it makes no sense.
    pub fn part(&self, run: &Path) -> Result<Part, ShareError> {
        self.part_when(|variable| std::env::var(variable).ok(), run)
    }

    /// As [`part`](Self::part), with the variables that a launcher may have set.
    fn part_when(&self, variable: impl Fn(&str) -> Option<String>, run: &Path) -> Result<Part, ShareError> {
        let ranked = self.world.or(self.rank).map(|_| Kind::Sharded);
        let mut wish = Wish {
            share: self.share.or(ranked),
            lag: self.lag,
            rank: self.rank,
            world: self.world,
            group: self.group.clone(),
            limit_s: self.rank_limit,
        };
        if wish.share != Some(Kind::Sharded) || wish.lag.is_some() {
            return wish.share().map(Part::Train);
        }
        // Variables that nobody needs may say what they like.
        let is_typed = self.rank.is_some() && self.world.is_some();
        let told = if is_typed { None } else { told_rank(variable)? };
        // `srun` and others say 1 where they start one process alone: that one may start more.
        let told = told.filter(|told| told.world > 1 || self.world.is_none());
        match (self.rank, self.world, told) {
            (None, Some(1), None) => wish.rank = Some(0),
            (None, Some(world), None) => return Ok(Part::Launch { world }),
            _ => {}
        }
        wish.group.get_or_insert_with(|| real(run).display().to_string());
        wish.shard(told)?.ok_or(ShareError::Unranked).map(|shard| Part::Train(Share::Sharded(shard)))
    }

    /// Has this process end with the one that started it, if one did.
    ///
    /// # Errors
    /// When that has ended already.
    pub fn follow_launcher(&self) -> Result<(), LaunchError> {
        let Some(launcher) = self.launcher else { return Ok(()) };
        let followed = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
        // Asked afterwards: had it ended before, nobody would send that signal.
        if followed && getppid().map(Pid::as_raw_pid) == Some(launcher) { Ok(()) } else { Err(LaunchError::Orphan) }
    }
}

/// The path without links, as far as it exists: the same before and after the folder is made.
pub(crate) fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let (real, rest) = path
        .ancestors()
        .find_map(|part| Some((part.canonicalize().ok()?, path.strip_prefix(part).ok()?)))
        .unwrap_or((PathBuf::new(), &path));
    // Not `join` alone: of nothing it leaves a slash.
    real.components().chain(rest.components()).collect()
}

#[cfg(test)]
mod tests {
    use batchmill_protocol::share::Shard;
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    /// What a command line means under a launcher that sets `variables`.
    fn part(line: &[&str], variables: &[(&str, &str)]) -> Result<Part, String> {
        let line = [&["trainer", "fit", "--model", "m"], line].concat();
        let Command::Fit(args) = Cli::try_parse_from(line).map_err(|error| error.to_string())?.command else {
            panic!("it says fit");
        };
        let value = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        args.sharing.part_when(value, Path::new("/no/such/run")).map_err(|error| error.to_string())
    }

    fn rank(rank: u32, world: u32) -> Result<Part, String> {
        let group = "/no/such/run".to_owned();
        Ok(Part::Train(Share::Sharded(Shard { group, rank, world, limit_s: 60 })))
    }

    #[test]
    fn a_world_without_a_rank_is_started_here() {
        assert_eq!(part(&[], &[]), Ok(Part::Train(Share::Private)));
        assert_eq!(part(&["--world", "4"], &[]), Ok(Part::Launch { world: 4 }));
        assert_eq!(part(&["--world", "4", "--share", "sharded"], &[]), Ok(Part::Launch { world: 4 }));
        assert_eq!(part(&["--world", "4", "--rank", "3"], &[]), rank(3, 4));
        assert_eq!(part(&["--world", "1"], &[]), rank(0, 1));
        let broadcast = Share::Broadcast { lag: Lag::Wait };
        assert_eq!(part(&["--share", "broadcast", "--lag", "wait"], &[]), Ok(Part::Train(broadcast)));
    }

    #[test]
    fn what_a_launcher_says_counts_where_it_is_asked_for() {
        let told = [("SLURM_PROCID", "2"), ("SLURM_NTASKS", "4")];
        assert_eq!(part(&["--share", "sharded"], &told), rank(2, 4));
        assert_eq!(part(&["--world", "4"], &told), rank(2, 4));
        assert_eq!(part(&[], &told), Ok(Part::Train(Share::Private)));
        let alone = [("RANK", "0"), ("WORLD_SIZE", "1")];
        assert_eq!(part(&["--share", "sharded"], &alone), rank(0, 1));
        assert_eq!(part(&["--world", "2"], &alone), Ok(Part::Launch { world: 2 }));
        let other = [("RANK", "gold"), ("WORLD_SIZE", "earth")];
        assert_eq!(part(&[], &other), Ok(Part::Train(Share::Private)));
        assert_eq!(part(&["--world", "4", "--rank", "3"], &other), rank(3, 4));
        let mistake = "RANK is \"gold\", not a number from 0 on: unset it, or give --rank and --world";
        assert_eq!(part(&["--world", "4"], &other), Err(mistake.to_owned()));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let refused = |line: &[&str]| part(line, &[]).expect_err("it makes no sense");
        assert_eq!(refused(&["--share", "broadcast", "--world", "2"]), "--world means nothing without --share sharded");
        assert_eq!(refused(&["--group", "g"]), "--group means nothing without --share sharded");
        assert!(refused(&["--restarts", "1"]).contains("--world"));
        assert!(refused(&["--world", "0"]).contains("0 is not in 1..=1024"));
        assert!(refused(&["--world", "2", "--rank-limit", "0"]).contains("0 is not in 1.."));
        let lag = ["--share", "sharded", "--lag", "wait"];
        assert_eq!(refused(&lag), "--lag means nothing without --share broadcast");
        let variables = [("RANK", "one"), ("WORLD_SIZE", "2")];
        assert_eq!(
            part(&["--share", "sharded"], &variables),
            Err("RANK is \"one\", not a number from 0 on: unset it, or give --rank and --world".to_owned())
        );
    }

    #[test]
    fn a_run_has_one_name_before_and_after_its_folder_is_made() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (there, link) = (folder.path().join("there"), folder.path().join("link"));
        std::fs::create_dir(&there).expect("made");
        std::os::unix::fs::symlink(&there, &link).expect("linked");
        // As text: paths that differ by a slash at their end are equal.
        let real = |path: PathBuf| real(&path).display().to_string();
        let before = real(link.join("runs/a"));
        std::fs::create_dir_all(there.join("runs/a")).expect("made");
        assert_eq!(before, real(link.join("runs/a")));
        assert_eq!(before, real(there.join("runs/a")));
    }
}

//! Numbers of workers, times and sizes as they are typed.

use std::time::Duration;

use batchmill_datasets::options;

/// The most worker processes that one daemon runs.
pub(crate) const WORKERS_MAX: u32 = 1024;

/// How many worker processes to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workers {
    /// One per CPU core.
    Auto,
    Exactly(u32),
}

impl std::str::FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<u32>() {
            Ok(count @ 1..=WORKERS_MAX) => Ok(Self::Exactly(count)),
            _ if text == "auto" => Ok(Self::Auto),
            _ => Err(format!("{text:?} is neither a number from 1 to {WORKERS_MAX} nor `auto`")),
        }
    }
}

/// A time to wait at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) Duration);

impl std::str::FromStr for Seconds {
    type Err = String;

    /// Reads `30` or `0.5`.
    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.parse().ok().filter(|seconds| (0.001..=1e6).contains(seconds));
        let seconds = seconds.ok_or_else(|| format!("{text:?} is no number of seconds from 0.001 to 1000000"))?;
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

/// By how much a process gives way to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nice(pub(crate) u8);

impl std::str::FromStr for Nice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let nice = text.parse().ok().filter(|nice| (0..=19).contains(nice));
        nice.map(Self).ok_or_else(|| format!("{text:?} is no number from 0 to 19"))
    }
}

/// A part of a whole, between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Percent(pub(crate) f64);

impl std::str::FromStr for Percent {
    type Err = String;

    /// Reads `40%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.strip_suffix('%').and_then(|digits| digits.trim_end().parse::<u8>().ok());
        let percent = percent.filter(|percent| (1..=100).contains(percent));
        let percent = percent.ok_or_else(|| format!("{text:?} is no share from 1% to 100%, such as 40%"))?;
        Ok(Self(f64::from(percent) / 100.0))
    }
}

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl std::str::FromStr for Bytes {
    type Err = String;

    /// Reads `512MiB`, `2GiB`, `300MB` or a plain number of bytes.
    fn from_str(text: &str) -> Result<Self, String> {
        options::bytes(text).map(Self).ok_or_else(|| format!("{text:?} is not a size such as 256MiB or 2GiB"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!("256MiB".parse(), Ok(Bytes(256 << 20)));
        assert_eq!("2 GB".parse(), Ok(Bytes(2_000_000_000)));
        assert_eq!("4096".parse(), Ok(Bytes(4096)));
        for wrong in ["", "MiB", "0", "-1GiB", "1.5GiB", "3 apples", "99999999999TiB"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong:?} was read as a size");
        }
    }

    #[test]
    fn shares_are_in_percent() {
        assert_eq!("40%".parse(), Ok(Percent(0.4)));
        assert_eq!("100 %".parse(), Ok(Percent(1.0)));
        for wrong in ["40", "0.4", "0%", "101%", "-5%", "%", "2.5%", "half"] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong:?} was read as a share");
        }
    }

    #[test]
    fn workers_are_counted_or_auto() {
        assert_eq!("auto".parse(), Ok(Workers::Auto));
        assert_eq!("3".parse(), Ok(Workers::Exactly(3)));
        for wrong in ["0", "-1", "many", "5000"] {
            assert!(wrong.parse::<Workers>().is_err(), "{wrong:?} was read as a number of workers");
        }
    }
}

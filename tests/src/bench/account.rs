//! What processes have used: CPU time and memory, as the kernel counts them.

use std::fs;

/// Ticks of the kernel's clock in a second, in which `/proc` counts CPU time: the same on every Linux that is in use.
const TICKS_PER_S: f64 = 100.0;

/// The memory of batches, which is there by the user's choice.
const SLAB: &str = "/memfd:batchmill-";

/// A process and all that it has started, down to the last.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut place = 0;
    while let Some(pid) = family.get(place) {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let children: Vec<u32> = children
            .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        family.extend(children);
        place += 1;
    }
    family
}

/// Seconds of CPU that processes have used so far, those that they have waited for among them.
///
/// In steps of 10 ms each.
#[must_use]
pub fn cpu_s(pids: &[u32]) -> f64 {
    pids.iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok())
        .map(|stat| ticks(&stat))
        .sum::<f64>()
        / TICKS_PER_S
}

/// Seconds of CPU that this process has used so far, without its children.
#[must_use]
pub fn own_cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    fields(&stat).take(2).sum::<f64>() / TICKS_PER_S
}

/// User and system time of a process and of the children that it has waited for (proc(5), fields 14 to 17).
fn ticks(stat: &str) -> f64 {
    fields(stat).take(4).sum()
}

/// The fields from the 14th on.
fn fields(stat: &str) -> impl Iterator<Item = f64> + '_ {
    // The name may hold spaces and brackets; the third field follows the last.
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split_whitespace().skip(11));
    fields.into_iter().flatten().filter_map(|field| field.parse().ok())
}

/// The proportional set size of processes in MB of 10^6 bytes: all of it, and what of it is beside the batches' memory.
#[must_use]
pub fn pss_mb(pids: &[u32]) -> (f64, f64) {
    let maps = pids.iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps")).ok());
    let mb = |kib: f64| kib * 1024.0 / 1e6;
    maps.map(|maps| pss_kib(&maps)).fold((0.0, 0.0), |sum, (all, beside)| (sum.0 + mb(all), sum.1 + mb(beside)))
}

/// The sum of `Pss` over all mappings, and over those that are no slabs.
fn pss_kib(smaps: &str) -> (f64, f64) {
    let mut is_slab = false;
    let (mut all, mut beside) = (0.0, 0.0);
    for line in smaps.lines() {
        if let Some(kib) = line.strip_prefix("Pss:") {
            let kib = kib.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0);
            all += kib;
            beside += if is_slab { 0.0 } else { kib };
        } else if line.split_once(' ').is_some_and(|(range, _)| range.contains('-') && !range.ends_with(':')) {
            is_slab = line.contains(SLAB);
        }
    }
    (all, beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_told_from_what_is_around_them() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 300 4000 20 0 1 0 99";
        assert_eq!(ticks(stat).to_string(), "4330");
    }

    #[test]
    fn batches_are_told_from_other_memory() {
        let smaps = "55d0-55e0 r--p 00000000 fe:00 12 /usr/bin/loader\nSize: 64 kB\nPss:                  12 kB\nPss_Dirty: 1 kB\n\
                     7f00-7f10 rw-s 00000000 00:01 9 /memfd:batchmill-train (deleted)\nPss:                1000 kB\n\
                     7f20-7f30 rw-p 00000000 00:00 0 \nPss:                  30 kB\n";
        let (all, beside) = pss_kib(smaps);
        assert_eq!((all.to_string(), beside.to_string()), ("1042".to_owned(), "42".to_owned()));
    }
}

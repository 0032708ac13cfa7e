//! What came of it, as a table for a person: medians over the rounds, and ratios to the bare loop and to the best peer.

use std::fmt::Write as _;

use super::workload::Workload;
use super::{Contender, Run, median};

/// The medians of a contender.
struct Row<'a> {
    contender: &'a Contender,
    samples_per_s: f64,
    cpu_us: f64,
    cold_start_ms: Option<f64>,
    pss_mb: Option<f64>,
}

/// The table, in Markdown.
#[must_use]
pub fn table(workloads: &[Workload], runs: &[Run]) -> String {
    let mut table = String::from(
        "| workload | loader | samples/s | of bare | of best peer | CPU us/sample | of bare | cold start ms | memory MB |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for workload in workloads {
        let rows = rows(workload.name, runs);
        let bare = rows.iter().find(|row| *row.contender == Contender::Bare);
        let peers = rows.iter().filter(|row| matches!(row.contender, Contender::Peer(_)));
        let best = peers.map(|row| row.samples_per_s).max_by(f64::total_cmp);
        for row in &rows {
            let to = |of: Option<f64>, value: f64| of.map_or_else(String::new, |of| format!("{:.2}", value / of));
            let some = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.0}"));
            // Writing to a text does not fail.
            let _ = writeln!(
                table,
                "| {} {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                workload.name,
                workload.what,
                row.contender.name(),
                thousands(row.samples_per_s),
                to(bare.map(|bare| bare.samples_per_s), row.samples_per_s),
                to(best, row.samples_per_s),
                digits(row.cpu_us),
                to(bare.map(|bare| bare.cpu_us), row.cpu_us),
                some(row.cold_start_ms),
                some(row.pss_mb),
            );
        }
    }
    table
}

/// For each workload the memory of loader and workers beside batches and cache, in MB.
#[must_use]
pub fn beside<'a>(workloads: &'a [Workload], runs: &[Run]) -> Vec<(&'a str, f64)> {
    let of = |name: &str| median(runs.iter().filter(|run| run.workload == name).filter_map(|run| run.beside_mb));
    workloads.iter().filter_map(|workload| Some((workload.name, of(workload.name)?))).collect()
}

/// The contenders of a workload: the bare loop, ours, then the others, the fastest first.
fn rows<'a>(workload: &str, runs: &'a [Run]) -> Vec<Row<'a>> {
    let runs: Vec<&Run> = runs.iter().filter(|run| run.workload == workload).collect();
    let mut contenders: Vec<&Contender> = runs.iter().map(|run| &run.contender).collect();
    contenders.sort();
    contenders.dedup();
    let rows = contenders.into_iter().map(|contender| {
        let of = |value: fn(&Run) -> Option<f64>| {
            median(runs.iter().filter(|run| run.contender == *contender).filter_map(|run| value(run)))
        };
        Row {
            contender,
            samples_per_s: of(|run| Some(run.samples_per_s)).unwrap_or_default(),
            cpu_us: of(|run| Some(run.cpu_us)).unwrap_or_default(),
            cold_start_ms: of(|run| run.cold_start_ms),
            pss_mb: of(|run| run.pss_mb),
        }
    });
    let mut rows: Vec<Row<'_>> = rows.collect();
    let rank = |row: &Row<'_>| match row.contender {
        Contender::Bare => 0,
        Contender::Ours => 1,
        Contender::Peer(_) => 2,
    };
    rows.sort_by(|one, other| rank(one).cmp(&rank(other)).then(other.samples_per_s.total_cmp(&one.samples_per_s)));
    rows
}

/// A whole number in groups of three digits.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// About three digits.
fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::workload::Bare;

    #[test]
    fn ratios_are_to_the_bare_loop_and_the_fastest_peer() {
        let run = |contender: Contender, samples_per_s, cpu_us| Run {
            workload: "W1".to_owned(),
            contender,
            version: String::new(),
            samples_per_s,
            cpu_us,
            cold_start_ms: None,
            pss_mb: Some(12.4),
            beside_mb: None,
        };
        let peer = |name: &str| Contender::Peer(name.to_owned());
        let runs = [
            run(peer("slow"), 100.0, 4000.0),
            run(peer("fast"), 500.0, 3000.0),
            run(Contender::Ours, 900.0, 2100.0),
            run(Contender::Ours, 1100.0, 2300.0),
            run(Contender::Ours, 1000.0, 2200.0),
            run(Contender::Bare, 1250.0, 2000.0),
        ];
        let workload = Workload {
            name: "W1",
            what: "photos",
            stream: String::new(),
            epochs: 1,
            workers: 2,
            bare: Bare::Ring { batch_bytes: 0 },
            peers: Vec::new(),
        };
        let table = table(&[workload], &runs);
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| W1 photos | bare loop | 1,250 | 1.00 | 2.50 | 2000 | 1.00 |  | 12 |",
                "| W1 photos | batchmill | 1,000 | 0.80 | 2.00 | 2200 | 1.10 |  | 12 |",
                "| W1 photos | fast | 500 | 0.40 | 1.00 | 3000 | 1.50 |  | 12 |",
                "| W1 photos | slow | 100 | 0.08 | 0.20 | 4000 | 2.00 |  | 12 |",
            ]
        );
        assert_eq!(thousands(1_234_567.0), "1,234,567");
    }
}

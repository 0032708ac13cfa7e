//! `loader status`, `scale`, `open`, `close`, `quarantine` and `stop`: talks with a running loader.

use std::fmt::Write as _;
use std::time::Duration;

use batchmill_datasets::registry::Registry;
use batchmill_protocol::client::Client;
use batchmill_protocol::message::{Reply, Request};
use batchmill_protocol::slab::size;
use batchmill_protocol::status::{Quarantine, Status};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli;
use crate::config;
use crate::error::Failure;
use crate::output;
use crate::serve::ReadyStream;

/// How long a loader may take to end.
const END_LIMIT: Duration = Duration::from_secs(30);

/// How often a person sees that something still goes on.
const SPINNER_TICK: Duration = Duration::from_millis(120);

/// Prints how the loader stands.
pub(crate) fn status(arguments: &cli::Status) -> Result<(), Failure> {
    let client = Client::connect(arguments.address.socket.as_deref())?;
    let Reply::Status(status) = client.request(&Request::Status)? else { return Err(unexpected()) };
    Ok(output::result(arguments.json, &status, table(&status)?.trim_end())?)
}

/// Sets the number of workers.
pub(crate) fn scale(arguments: &cli::Scale) -> Result<(), Failure> {
    let client = Client::connect(arguments.address.socket.as_deref())?;
    let Reply::Scaled { before, now } = client.request(&Request::Scale { workers: arguments.workers })? else {
        return Err(unexpected());
    };
    #[derive(Serialize)]
    struct Scaled {
        before: u32,
        now: u32,
    }
    let text = format!("{now} workers wanted, {before} before");
    Ok(output::result(arguments.json, &Scaled { before, now }, &text)?)
}

/// Has the loader serve the streams of a file beside those that it serves, and waits until they can be read.
pub(crate) fn open(arguments: &cli::Open, registry: &Registry) -> Result<(), Failure> {
    let (specs, memory_bytes) = config::streams_to_open(&arguments.file, arguments.memory, registry)?;
    let client = Client::connect(arguments.address.socket.as_deref())?;
    let names: Vec<String> = specs.iter().map(|spec| format!("`{}`", spec.name)).collect();
    let specs = specs.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    let waits = ProgressBar::new_spinner().with_message(names.join(", "));
    waits.set_style(output::bar_style("{spinner} the loader looks at the data of {msg}, {elapsed}"));
    waits.enable_steady_tick(SPINNER_TICK);
    let reply = client.request_without_limit(&Request::Open { specs, memory_bytes });
    waits.finish_and_clear();
    let Reply::Opened(streams) = reply? else { return Err(unexpected()) };
    #[derive(Serialize)]
    struct Opened {
        streams: Vec<ReadyStream>,
    }
    let opened = Opened { streams: streams.iter().map(ReadyStream::from).collect() };
    let lines: Vec<String> = opened.streams.iter().map(|stream| format!("open: {stream}")).collect();
    Ok(output::result(arguments.json, &opened, &lines.join("\n"))?)
}

/// Has the loader serve a stream no longer.
pub(crate) fn close(arguments: &cli::Close) -> Result<(), Failure> {
    let client = Client::connect(arguments.address.socket.as_deref())?;
    let stream = arguments.stream.clone();
    let request = Request::Close { stream: stream.clone(), force: arguments.force };
    let Reply::Closed { trainers } = client.request(&request)? else { return Err(unexpected()) };
    #[derive(Serialize)]
    struct Closed {
        stream: String,
        trainers: Vec<u32>,
    }
    let text = match trainers.len() {
        0 => format!("stream `{stream}` is closed"),
        told => format!("stream `{stream}` is closed; trainers that read it and were told: {told}"),
    };
    Ok(output::result(arguments.json, &Closed { stream, trainers }, &text)?)
}

/// Lists the samples that cannot be read, and has them tried again where that is asked for.
pub(crate) fn quarantine(arguments: &cli::Quarantine) -> Result<(), Failure> {
    let client = Client::connect(arguments.address.socket.as_deref())?;
    let Reply::Quarantine(streams) = client.request(&Request::Quarantine { retry: arguments.retry })? else {
        return Err(unexpected());
    };
    for stream in &streams {
        output::result(arguments.json, stream, list(stream)?.trim_end())?;
    }
    if arguments.retry && !arguments.json {
        output::line("the loader reads the data's index anew; then they are tried again")?;
    }
    Ok(())
}

fn list(stream: &Quarantine) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let Quarantine { stream: name, count, limit, .. } = stream;
    writeln!(text, "stream `{name}`: {count} samples cannot be read, {limit} may be (`on_bad_limit`)")?;
    for sample in &stream.samples {
        let positions: Vec<_> = sample.positions.iter().map(ToString::to_string).collect();
        writeln!(
            text,
            "  row {}, {}: {} (tried {} times{}, for {})",
            sample.index,
            sample.name,
            sample.reason,
            sample.attempts,
            if sample.poison { ", not read any more" } else { "" },
            if positions.is_empty() { "the survey".to_owned() } else { positions.join(", ") },
        )?;
    }
    if stream.samples.len() as u64 != *count {
        writeln!(text, "  and {} more", count - stream.samples.len() as u64)?;
    }
    if let Some(reason) = &stream.retry_failed {
        writeln!(text, "  the last --retry came to nothing: {reason}")?;
    }
    Ok(text)
}

/// Ends the loader and waits until it has ended.
pub(crate) fn stop(arguments: &cli::Stop) -> Result<(), Failure> {
    let client = Client::connect(arguments.address.socket.as_deref())?;
    let Reply::Stopping { pid } = client.request(&Request::Stop)? else { return Err(unexpected()) };
    client.wait_for_end(END_LIMIT)?;
    #[derive(Serialize)]
    struct Stopped {
        pid: u32,
    }
    Ok(output::result(arguments.json, &Stopped { pid }, &format!("the loader (pid {pid}) has ended"))?)
}

fn unexpected() -> Failure {
    "the loader answered another question: run loader and client from one build".into()
}

fn table(status: &Status) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let allowed = status.cpus_allowed.map(|cpus| format!(", of which they may use {cpus:.2}")).unwrap_or_default();
    writeln!(
        text,
        "loader (pid {}), up {:.0} s, {} workers wanted; they use {:.2} of {} processors{allowed}",
        status.pid, status.uptime_s, status.workers_wanted, status.cpus_used, status.cpus
    )?;
    for stream in &status.streams {
        if !stream.open {
            writeln!(text, "\nstream `{}`: not open yet, its data are being looked at", stream.name)?;
            continue;
        }
        let slots = stream.slots;
        writeln!(
            text,
            "\nstream `{}`: {} samples, {} batches an epoch, {:.0} samples/s, {} made\n  {} in slots: {} free, {} \
             filling, {} ready, {} read, {} failed, {} abandoned",
            stream.name,
            stream.samples,
            stream.steps,
            stream.samples_per_s,
            stream.samples_made,
            size(stream.slab_bytes),
            slots.free,
            slots.filling,
            slots.ready,
            slots.leased,
            slots.failed,
            slots.abandoned,
        )?;
        if let Some(cache) = &stream.cache {
            let full = if cache.full { ", full" } else { "" };
            writeln!(
                text,
                "  cache ({}): {} samples in {} of {}{full}",
                cache.place,
                cache.kept,
                size(cache.bytes),
                size(cache.limit_bytes)
            )?;
        }
        for member in &stream.members {
            let lane = member.lane.map_or_else(|| "at its end".to_owned(), |lane| format!("lane {lane}"));
            let lag = if member.lag > 0 { format!(", {} behind", member.lag) } else { String::new() };
            writeln!(
                text,
                "  trainer {} (pid {}): {}, {lane}, next {}{lag}, reads {}, {} wait for it",
                member.member, member.pid, member.share, member.cursor, member.leases, member.ready
            )?;
        }
        for lane in &stream.lanes {
            let [first, next] = lane.window;
            let list = |members: &[u32]| members.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            let held = if lane.held_by.is_empty() {
                String::new()
            } else {
                format!("; the others wait for trainer {}", list(&lane.held_by))
            };
            let misses = if lane.misses.is_empty() {
                String::new()
            } else {
                format!("; rank {} is missing", list(&lane.misses))
            };
            writeln!(
                text,
                "  lane {}: {} of {} slots, {first} up to {next}, read by trainer {}{held}{misses}",
                lane.lane,
                lane.slots,
                lane.slots_max,
                list(&lane.members)
            )?;
        }
        if stream.lobby > 0 {
            writeln!(text, "  the first {} batches are ready for whoever begins there", stream.lobby)?;
        }
        if stream.splits + stream.merges > 0 {
            writeln!(text, "  lanes split {} times and merged {} times", stream.splits, stream.merges)?;
        }
        for gone in &stream.gone {
            writeln!(
                text,
                "  trainer {} (pid {}) went away {:.0} s ago: next would have been {}",
                gone.member, gone.pid, gone.gone_s, gone.cursor
            )?;
        }
        if stream.bad_samples > 0 {
            writeln!(text, "  {} samples cannot be read: `loader quarantine` lists them", stream.bad_samples)?;
        }
    }
    writeln!(text)?;
    for worker in &status.workers {
        let current = worker.current.as_ref().map(|current| format!(", {current}")).unwrap_or_default();
        writeln!(
            text,
            "worker {} (pid {}): {}, {} ranges done{current}",
            worker.worker, worker.pid, worker.state, worker.tasks_done
        )?;
    }
    Ok(text)
}

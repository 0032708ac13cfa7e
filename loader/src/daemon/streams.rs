//! What the daemon knows of its streams beside the scheduler: what they deliver, and their memory.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::{self, JoinHandle};

use batchmill_datasets::cache::{CacheKind, CacheSpec};
use batchmill_datasets::spec::{Component, StreamSpec};
use batchmill_protocol::fd::{self, WireError};
use batchmill_protocol::message::{Attach, SlabHandOver, StreamDescription, StreamId, Survey};
use batchmill_protocol::position::{Extent, Tail};
use batchmill_protocol::share::Share;
use batchmill_protocol::slab::{Layout, Reservation, Shared, Slab, size};

use super::cache::StreamCache;
use super::rate::Rate;
use crate::error::report;
use crate::scheduler::{BAD_SAMPLES_MAX, LANE_SLOTS_MIN};

/// Slots beyond which a stream gains nothing.
pub(super) const SLOTS_MAX: usize = 64;

/// Slots that a stream cannot do without.
const SLOTS_MIN: u64 = LANE_SLOTS_MIN as u64;

/// The least urgent that a thread can be (setpriority(2)).
const NICE: i32 = 19;

/// The last epoch served: counting on from there must not overflow.
const EPOCH_MAX: u64 = 1 << 53;

/// One stream.
pub(super) struct Served {
    pub(super) name: String,
    /// The spec as workers read it.
    pub(super) spec: String,
    transforms: Vec<serde_json::Value>,
    seed: u64,
    batch_size: u32,
    tail: Tail,
    on_bad_limit: f64,
    /// Its part of the memory.
    share_bytes: u64,
    cache: Option<CacheSpec>,
    /// Memory for the index, while a worker writes it.
    pub(super) index: Option<OwnedFd>,
    pub(super) opened: Option<Opened>,
    /// Whether some worker was ever ready for it.
    pub(super) ready: bool,
    /// Workers that could not open it.
    pub(super) open_failures: u32,
    /// Of samples made.
    pub(super) rate: Rate,
}

/// What there is once it was surveyed.
pub(super) struct Opened {
    pub(super) description: StreamDescription,
    index: OwnedFd,
    pub(super) layout: Layout,
    pub(super) slab: Slab,
    pub(super) cache: Option<StreamCache>,
    /// Reserves the slab's memory.
    reserving: Option<JoinHandle<Result<(), String>>>,
    /// Why its data could not be looked at anew.
    pub(super) retry_failed: Option<String>,
}

impl Served {
    /// Is to be surveyed, and then to have at most `share_bytes` of memory.
    pub(super) fn new(spec: &StreamSpec, share_bytes: u64) -> Result<Self, serde_json::Error> {
        Ok(Self {
            name: spec.name.clone(),
            spec: serde_json::to_string(spec)?,
            transforms: spec.transforms.iter().map(described).collect::<Result<_, _>>()?,
            seed: spec.seed,
            batch_size: spec.batch_size,
            tail: spec.tail,
            on_bad_limit: spec.on_bad_limit,
            share_bytes,
            cache: spec.cache.clone(),
            index: None,
            opened: None,
            ready: false,
            open_failures: 0,
            rate: Rate::default(),
        })
    }

    /// Sends a worker the empty memory in which the index is to be.
    ///
    /// # Errors
    /// One sentence fragment: there is none to be had, or the life-line is broken.
    pub(super) fn hand_over_room(&mut self, stream: StreamId, life_line: &UnixStream) -> Result<(), String> {
        let memory = Shared::memory(&self.name).map_err(|error| format!("make memory for its index: {error}"))?;
        let memory = self.index.insert(memory);
        fd::send(life_line, &SlabHandOver { stream }, Some(memory.as_fd())).map_err(|error| report(&error))
    }

    /// Lays it out in memory, now that the size of its batches is known, and begins to reserve that: its extent, its
    /// slots, and how many of its samples may be bad.
    ///
    /// # Errors
    /// One sentence fragment with the remedy when its batches do not fit there.
    pub(super) fn open(&mut self, id: StreamId, survey: Survey, index: OwnedFd) -> Result<(Extent, u32, u64), String> {
        let extent = Extent { samples: survey.samples, batch_size: self.batch_size, tail: self.tail };
        let description = StreamDescription {
            id,
            name: self.name.clone(),
            fields: survey.fields,
            extent,
            classes: survey.classes,
            transforms: self.transforms.clone(),
            seed: self.seed,
            spec_hash: survey.spec_hash,
            identity: survey.identity,
            spec: serde_json::from_str(&self.spec).map_err(|error| error.to_string())?,
        };
        if extent.steps() == 0 {
            return Err("an epoch of it has no batch".to_owned());
        }
        let (layout, slab, reservation) = lay_out(&description, self.share_bytes)?;
        let slots = layout.slots();
        let cache =
            self.cache.as_ref().map(|cache| StreamCache::open(&self.name, cache, survey.cache_file)).transpose()?;
        // Last: it goes on by itself.
        let reserving = Some(reserve(reservation)?);
        self.opened = Some(Opened { description, index, layout, slab, cache, reserving, retry_failed: None });
        Ok((extent, slots, self.bad_limit(extent)))
    }

    /// The folder of its cache, where that is on disk, and what it may take there.
    pub(super) fn cache_on_disk(&self) -> Option<(&Path, u64)> {
        match self.cache.as_ref()? {
            CacheSpec { kind: CacheKind::Disk(folder), limit_bytes } => Some((folder, *limit_bytes)),
            CacheSpec { kind: CacheKind::Ram, .. } => None,
        }
    }

    /// The memory that it may come to take beside what it takes now.
    pub(super) fn promised_bytes(&self) -> u64 {
        match &self.opened {
            None => self.cache.as_ref().map_or(0, CacheSpec::ram_bytes).saturating_add(self.share_bytes),
            Some(opened) => opened.promised_bytes(),
        }
    }

    /// How many of its samples may be bad.
    fn bad_limit(&self, extent: Extent) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of 0 to 1, and rounding a limit of billions does no harm"
        )]
        let limit = (extent.samples as f64 * self.on_bad_limit) as u64;
        limit.min(BAD_SAMPLES_MAX)
    }

    /// What a trainer that asks for this gets: the stream, how many slots, and their memory to be read.
    ///
    /// # Errors
    /// One sentence fragment with the remedy when it asks for what there is not.
    pub(super) fn admit(&self, attach: &Attach) -> Result<(StreamDescription, u32, OwnedFd), String> {
        let opened = self.opened.as_ref().filter(|_| self.ready);
        let opened = opened.ok_or("the stream is not open yet: try again in a moment")?;
        if let Some(expected) = &attach.expected {
            let changes = opened.description.identity.changes_since(expected);
            if !changes.is_empty() {
                return Err(format!(
                    "stream `{}` is no longer what it was: {}; undo that, or go on all the same with --allow-changed",
                    self.name,
                    changes.join(", ")
                ));
            }
        }
        let steps = opened.description.extent.steps();
        if attach.from.step >= steps {
            return Err(format!(
                "an epoch of stream `{}` has {steps} batches, so there is no {}: begin at step {} or before",
                self.name,
                attach.from,
                steps - 1
            ));
        }
        if attach.from.epoch > EPOCH_MAX {
            return Err(format!("epoch {} is beyond the last one, {EPOCH_MAX}", attach.from.epoch));
        }
        if let Share::Sharded(shard) = &attach.share {
            let refused = |reason| format!("stream `{}`: {reason}", self.name);
            shard.check(&opened.description.extent).map_err(refused)?;
        }
        if let Some(until) = attach.until_epoch.filter(|until| *until <= attach.from.epoch) {
            return Err(format!("there is nothing to read from {} to the start of epoch {until}", attach.from));
        }
        let slab = opened.slab.read_only().try_clone_to_owned().map_err(|error| {
            format!("the loader cannot hand out its memory ({error}): raise its limit of open files, `ulimit -n`")
        })?;
        Ok((opened.description.clone(), opened.layout.slots(), slab))
    }
}

impl Opened {
    fn promised_bytes(&self) -> u64 {
        // Of what is being reserved some is there already, and counted twice: that is soon over.
        let reserving = if self.reserving.is_some() { self.layout.slab_bytes() as u64 } else { 0 };
        self.cache.as_ref().map_or(0, StreamCache::promised_bytes).saturating_add(reserving)
    }

    /// Why its memory could not be reserved, as soon as that is known.
    pub(super) fn reserve_failure(&mut self) -> Option<String> {
        let reserving = self.reserving.take_if(|reserving| reserving.is_finished())?;
        reserving.join().unwrap_or_else(|_| Err("the thread that reserves its memory panicked".to_owned())).err()
    }

    /// Sends a worker the memory that it needs to be told of the stream: slots, index, and cache where that is in memory.
    ///
    /// # Errors
    /// Its life-line is broken.
    pub(super) fn hand_over(&self, stream: StreamId, life_line: &UnixStream) -> Result<(), WireError> {
        fd::send(life_line, &SlabHandOver { stream }, Some(self.slab.writable()))?;
        fd::send(life_line, &SlabHandOver { stream }, Some(self.index.as_fd()))?;
        match self.cache.as_ref().and_then(StreamCache::memory) {
            Some(memory) => fd::send(life_line, &SlabHandOver { stream }, Some(memory)),
            None => Ok(()),
        }
    }

    /// Takes on the data as they are now, with their index, when their samples are as many and of the same fields and
    /// classes.
    ///
    /// # Errors
    /// One sentence fragment with the remedy when they are not.
    pub(super) fn renew(&mut self, survey: Survey, index: OwnedFd) -> Result<(), String> {
        let stream = &mut self.description;
        let (was, is) = (stream.extent.samples, survey.samples);
        if was != is {
            return Err(format!("the dataset had {was} samples and now has {is}: restart the loader to serve it"));
        }
        if stream.fields != survey.fields || stream.classes != survey.classes {
            return Err("the dataset has other fields or classes now: restart the loader to serve it".to_owned());
        }
        // What is kept is of the data as they were.
        if let Some(cache) = self.cache.as_mut().filter(|_| stream.spec_hash != survey.spec_hash) {
            *cache = cache.anew(&stream.name, survey.cache_file)?;
        }
        self.index = index;
        stream.identity = survey.identity;
        stream.spec_hash = survey.spec_hash;
        self.retry_failed = None;
        Ok(())
    }
}

/// Writes a component as the object that a configuration has.
fn described(component: &Component) -> Result<serde_json::Value, serde_json::Error> {
    let mut object = serde_json::to_value(&component.options)?;
    object["kind"] = component.kind.clone().into();
    Ok(object)
}

/// Lays out as many slots as the stream's share of the memory holds and it can use.
fn lay_out(stream: &StreamDescription, share_bytes: u64) -> Result<(Layout, Slab, Reservation), String> {
    let batch_size = stream.extent.batch_size;
    let layout = |slots| Layout::new(&stream.fields, batch_size, slots).map_err(|error| error.to_string());
    let slot_bytes = layout(1)?.slot_bytes() as u64;
    let slots = (share_bytes / slot_bytes).min(SLOTS_MAX as u64);
    if slots < SLOTS_MIN {
        return Err(format!(
            "a batch of {batch_size} samples takes {} and {SLOTS_MIN} must fit its share of the memory, {}: raise \
             --memory (or `memory`), or lower the batch size",
            size(slot_bytes),
            size(share_bytes),
        ));
    }
    let layout = layout(u32::try_from(slots).expect("at most SLOTS_MAX"))?;
    let (slab, reservation) = Slab::begin(&stream.name, &layout).map_err(|error| report(&error))?;
    Ok((layout, slab, reservation))
}

/// Has memory reserved beside all else, and behind it: the workers that make the first batches shall have the cores.
fn reserve(reservation: Reservation) -> Result<JoinHandle<Result<(), String>>, String> {
    let reserve = move || {
        // Of this thread alone. A kernel that does not let us costs some milliseconds.
        let _ = rustix::process::setpriority_process(None, NICE);
        reservation.make().map_err(|error| report(&error))
    };
    let thread = thread::Builder::new().name("reserve".to_owned()).spawn(reserve);
    thread.map_err(|error| format!("the loader cannot start a thread: {error}"))
}

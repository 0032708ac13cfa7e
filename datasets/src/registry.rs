//! What the names of datasets, samplers and transforms stand for: the one list to extend.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crate::collate::Collate;
use crate::dataset::MapDataset;
use crate::iterable::{ByNumber, IterableSource};
use crate::nearest::suggestion;
use crate::options::{Options, Role};
use crate::pipeline::Pipeline;
use crate::progress::{Lines, Progress};
use crate::sampler::{Population, SamplerSource};
use crate::source::{Index, IndexRoom, OpenError, Source};
use crate::spec::{Component, SpecError, StreamSpec};
use crate::transform::Transform;

type Constructor<T> = Box<dyn Fn(&mut Options) -> Result<T, SpecError> + Send + Sync>;

/// Constructors by name.
///
/// A constructor reads and checks the options and touches no file; a key that it does not ask for is refused.
/// Registering a name again replaces what it stood for.
#[derive(Default)]
pub struct Registry {
    datasets: BTreeMap<&'static str, Constructor<Box<dyn Source>>>,
    samplers: BTreeMap<&'static str, Constructor<Box<dyn SamplerSource>>>,
    transforms: BTreeMap<&'static str, Constructor<Box<dyn Transform>>>,
}

impl Registry {
    /// A registry without any names; [`builtin`](crate::builtin) has those of Batchmill.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a dataset. A [`MapDataset`] is a source by itself.
    #[must_use]
    pub fn dataset<New, Made>(mut self, kind: &'static str, new: New) -> Self
    where
        New: Fn(&mut Options) -> Result<Made, SpecError> + Send + Sync + 'static,
        Made: Source + 'static,
    {
        self.datasets.insert(kind, Box::new(move |options| Ok(Box::new(new(options)?))));
        self
    }

    /// Adds a dataset that is read in order. An [`IterableDataset`](crate::iterable::IterableDataset) is a source by
    /// itself.
    #[must_use]
    pub fn iterable<New, Made>(self, kind: &'static str, new: New) -> Self
    where
        New: Fn(&mut Options) -> Result<Made, SpecError> + Send + Sync + 'static,
        Made: IterableSource + 'static,
    {
        self.dataset(kind, move |options| Ok(ByNumber::new(new(options)?)))
    }

    /// Adds a sampler, in two steps: the options are read first, the sampler is made when the dataset is open.
    #[must_use]
    pub fn sampler<New, Made>(mut self, kind: &'static str, new: New) -> Self
    where
        New: Fn(&mut Options) -> Result<Made, SpecError> + Send + Sync + 'static,
        Made: SamplerSource + 'static,
    {
        self.samplers.insert(kind, Box::new(move |options| Ok(Box::new(new(options)?))));
        self
    }

    /// Adds a transform.
    #[must_use]
    pub fn transform<New, Made>(mut self, kind: &'static str, new: New) -> Self
    where
        New: Fn(&mut Options) -> Result<Made, SpecError> + Send + Sync + 'static,
        Made: Transform + 'static,
    {
        self.transforms.insert(kind, Box::new(move |options| Ok(Box::new(new(options)?))));
        self
    }

    /// Checks kinds and options, without touching a file.
    ///
    /// # Errors
    /// [`SpecError`] with the key that is wrong, and the nearest right one.
    pub fn check(&self, spec: &StreamSpec) -> Result<(), SpecError> {
        self.construct(spec).map(drop)
    }

    /// Fetches what the stream's data lack, where its options ask for that; `progress` hears how far it is.
    ///
    /// # Errors
    /// [`OpenError`], with address and file.
    pub fn prepare(&self, spec: &StreamSpec, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), OpenError> {
        self.construct(spec)?.source.prepare(progress)
    }

    /// Removes what is kept of the data's index between runs, so that [`index`](Self::index) looks at all of them.
    ///
    /// # Errors
    /// [`SpecError`], as [`check`](Self::check) has.
    pub fn forget_index(&self, spec: &StreamSpec) -> Result<(), SpecError> {
        self.construct(spec).map(|constructed| constructed.source.forget_index())
    }

    /// Reads and checks the data once, into the bytes from which every worker opens the stream; there may be none.
    ///
    /// What is lacking is fetched first, with lines about it on standard error.
    ///
    /// # Errors
    /// [`OpenError`], with file and line.
    pub fn index(&self, spec: &StreamSpec) -> Result<Vec<u8>, OpenError> {
        let prepared = self.prepared(spec)?;
        let data = Arc::new(prepared.source.index()?);
        let order = prepared.order(spec, Index::new(Shared(data.clone())))?;
        // Taken back without a copy, which for millions of samples would be felt.
        Ok(Index::join([Arc::unwrap_or_clone(data), order]))
    }

    /// The same bytes, written to `room`, which is empty; `look` shows what is there, in the middle of it.
    ///
    /// # Errors
    /// As [`index`](Self::index), and when the room does not take them.
    pub fn index_into<Room: IndexRoom>(
        &self,
        spec: &StreamSpec,
        room: &mut Room,
        look: impl FnOnce(&Room) -> io::Result<Index>,
    ) -> Result<(), OpenError> {
        let prepared = self.prepared(spec)?;
        prepared.source.index_into(room)?;
        let data = look(room).map_err(OpenError::room)?;
        let data_bytes = data.len();
        let order = prepared.order(spec, data)?;
        let ending = Index::ending(&[data_bytes, order.len()]);
        room.write_all(&order).and_then(|()| room.write_all(&ending)).map_err(OpenError::room)
    }

    /// Opens a stream for use in this process alone: reads its index and opens it over that.
    ///
    /// # Errors
    /// [`OpenError`], as [`index`](Self::index) and [`open`](Self::open) have.
    pub fn pipeline(&self, spec: &StreamSpec) -> Result<Pipeline, OpenError> {
        self.open(spec, self.index(spec)?.into())
    }

    /// Opens a stream over its index.
    ///
    /// # Errors
    /// [`OpenError`]: the dataset cannot be opened, or an epoch of it would have no batch.
    pub fn open(&self, spec: &StreamSpec, index: Index) -> Result<Pipeline, OpenError> {
        let Constructed { source, sampler, transforms, collate } = self.construct(spec)?;
        let damaged = || OpenError::other("the stream's index is damaged or of another version", None);
        let Ok([data, order]) = <[Index; 2]>::try_from(index.split(2).ok_or_else(damaged)?) else {
            return Err(damaged());
        };
        let dataset = source.open(data)?;
        let sampler = sampler.open(&population(spec, &*dataset), order)?;
        Pipeline::new(spec, index, dataset, sampler, transforms, collate)
    }

    /// The transform that `component` describes, at `place` of a chain from 0; relative paths start at `folder`.
    ///
    /// # Errors
    /// [`SpecError`] when nobody knows its kind, or an option has no sense.
    pub fn make_transform(
        &self,
        component: &Component,
        place: usize,
        folder: &Path,
    ) -> Result<Box<dyn Transform>, SpecError> {
        let role = Role::Transform(place);
        self.make(&self.transforms, role.key(), role.noun(), component, folder)
    }

    /// The dataset that `component`, which stands under `key`, describes.
    pub(crate) fn source(
        &self,
        key: Vec<String>,
        component: &Component,
        folder: &Path,
    ) -> Result<Box<dyn Source>, SpecError> {
        self.make(&self.datasets, key, Role::Dataset.noun(), component, folder)
    }

    /// What makes the index, when all that was lacking is fetched.
    fn prepared(&self, spec: &StreamSpec) -> Result<Constructed, OpenError> {
        let constructed = self.construct(spec)?;
        // Where nobody reads the lines, they are lost.
        let mut lines = Lines::new(|line: &str| drop(writeln!(io::stderr().lock(), "{line}")));
        constructed.source.prepare(&mut |progress| lines.tell(progress))?;
        Ok(constructed)
    }

    fn construct(&self, spec: &StreamSpec) -> Result<Constructed, SpecError> {
        let transforms = spec.transforms.iter().enumerate();
        let transforms = transforms.map(|(place, component)| self.make_transform(component, place, &spec.folder));
        Ok(Constructed {
            source: self.component(&self.datasets, Role::Dataset, &spec.dataset, spec)?,
            sampler: self.component(&self.samplers, Role::Sampler, &spec.sampler, spec)?,
            transforms: transforms.collect::<Result<_, _>>()?,
            collate: Collate::new(spec)?,
        })
    }

    fn component<T>(
        &self,
        constructors: &BTreeMap<&'static str, Constructor<T>>,
        role: Role,
        component: &Component,
        spec: &StreamSpec,
    ) -> Result<T, SpecError> {
        self.make(constructors, role.key(), role.noun(), component, &spec.folder)
    }

    fn make<T>(
        &self,
        constructors: &BTreeMap<&'static str, Constructor<T>>,
        mut key: Vec<String>,
        noun: &str,
        component: &Component,
        folder: &Path,
    ) -> Result<T, SpecError> {
        let Some(constructor) = constructors.get(component.kind.as_str()) else {
            let right = suggestion(&component.kind, constructors.keys().copied());
            key.push("kind".to_owned());
            return Err(SpecError::new(key, format!("unknown {noun} `{}`{right}", component.kind)));
        };
        let mut options = Options::at(key, noun, component, folder).with_registry(self);
        let made = constructor(&mut options)?;
        options.finish()?;
        Ok(made)
    }
}

fn population<'a>(spec: &StreamSpec, dataset: &'a dyn MapDataset) -> Population<'a> {
    Population { samples: dataset.len(), seed: spec.seed, batch_size: spec.batch_size, dataset }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("datasets", &self.datasets.keys())
            .field("samplers", &self.samplers.keys())
            .field("transforms", &self.transforms.keys())
            .finish()
    }
}

/// An index that is still wanted as it was made.
pub(crate) struct Shared(pub(crate) Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A spec whose options have been read.
struct Constructed {
    source: Box<dyn Source>,
    sampler: Box<dyn SamplerSource>,
    transforms: Vec<Box<dyn Transform>>,
    collate: Collate,
}

impl Constructed {
    /// The sampler's part of the index, behind the dataset's.
    fn order(self, spec: &StreamSpec, data: Index) -> Result<Vec<u8>, OpenError> {
        let dataset = self.source.open(data)?;
        self.sampler.index(&population(spec, &*dataset))
    }
}

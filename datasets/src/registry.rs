//! What the names of datasets, samplers and transforms stand for: the one list to extend.

use std::collections::BTreeMap;
use std::fmt;

use crate::dataset::MapDataset;
use crate::nearest::suggestion;
use crate::options::{Options, Role};
use crate::pipeline::Pipeline;
use crate::sampler::{Population, Sampler};
use crate::source::{Index, OpenError, Source};
use crate::spec::{Component, SpecError, StreamSpec};
use crate::transform::Transform;

type Constructor<T> = Box<dyn Fn(&mut Options) -> Result<T, SpecError> + Send + Sync>;
type OpenSampler = Box<dyn FnOnce(Population) -> Result<Box<dyn Sampler>, OpenError>>;

/// Constructors by name.
///
/// A constructor reads and checks the options and touches no file; a key that it does not ask for is refused.
/// Registering a name again replaces what it stood for.
#[derive(Default)]
pub struct Registry {
    datasets: BTreeMap<&'static str, Constructor<Box<dyn Source>>>,
    samplers: BTreeMap<&'static str, Constructor<OpenSampler>>,
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

    /// Adds a sampler, in two steps: the options are read first, the sampler is made when the dataset is open.
    #[must_use]
    pub fn sampler<New, Open, Made>(mut self, kind: &'static str, new: New) -> Self
    where
        New: Fn(&mut Options) -> Result<Open, SpecError> + Send + Sync + 'static,
        Open: FnOnce(Population) -> Result<Made, OpenError> + 'static,
        Made: Sampler + 'static,
    {
        let constructor: Constructor<OpenSampler> = Box::new(move |options| {
            let open = new(options)?;
            Ok(Box::new(move |population| Ok(Box::new(open(population)?))))
        });
        self.samplers.insert(kind, constructor);
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

    /// Reads and checks the data once, into the bytes from which every worker opens the stream; there may be none.
    ///
    /// # Errors
    /// [`OpenError`], with file and line.
    pub fn index(&self, spec: &StreamSpec) -> Result<Vec<u8>, OpenError> {
        self.construct(spec)?.source.index()
    }

    /// Opens a stream over its index.
    ///
    /// # Errors
    /// [`OpenError`]: the dataset cannot be opened, or an epoch of it would have no batch.
    pub fn open(&self, spec: &StreamSpec, index: Index) -> Result<Pipeline, OpenError> {
        let Constructed { source, open_sampler, transforms } = self.construct(spec)?;
        let dataset: Box<dyn MapDataset> = source.open(index.clone())?;
        let sampler = open_sampler(Population { samples: dataset.len(), seed: spec.seed })?;
        Pipeline::new(spec, index, dataset, sampler, transforms)
    }

    fn construct(&self, spec: &StreamSpec) -> Result<Constructed, SpecError> {
        let transforms = spec
            .transforms
            .iter()
            .enumerate()
            .map(|(place, component)| make(&self.transforms, Role::Transform(place), component, spec));
        Ok(Constructed {
            source: make(&self.datasets, Role::Dataset, &spec.dataset, spec)?,
            open_sampler: make(&self.samplers, Role::Sampler, &spec.sampler, spec)?,
            transforms: transforms.collect::<Result<_, _>>()?,
        })
    }
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

/// A spec whose options have been read.
struct Constructed {
    source: Box<dyn Source>,
    open_sampler: OpenSampler,
    transforms: Vec<Box<dyn Transform>>,
}

fn make<T>(
    constructors: &BTreeMap<&'static str, Constructor<T>>,
    role: Role,
    component: &Component,
    spec: &StreamSpec,
) -> Result<T, SpecError> {
    let Some(constructor) = constructors.get(component.kind.as_str()) else {
        let right = suggestion(&component.kind, constructors.keys().copied());
        let key = role.key().into_iter().chain(["kind".to_owned()]).collect();
        return Err(SpecError::new(key, format!("unknown {} `{}`{right}", role.noun(), component.kind)));
    };
    let mut options = Options::new(role, component, &spec.folder);
    let made = constructor(&mut options)?;
    options.finish()?;
    Ok(made)
}

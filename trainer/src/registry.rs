//! What the names of layers in a model file stand for: the one list to extend.

use burn::tensor::Device;

use crate::layer::{AnyLayer, Misfit};
use crate::layers;
use crate::section::{Mistake, Section};
use crate::shape::Extents;

/// Makes a layer for the shape that arrives. What it leaves is asked of the layer itself.
pub type Build = Box<dyn Fn(&Extents, &Device) -> Result<AnyLayer, Misfit> + Send + Sync>;

/// Takes the keys of one `[[layer]]`.
pub type Parse = fn(&mut Section<'_>, &Registry) -> Result<Build, Mistake>;

/// Every kind of layer, by the name it has in a file.
#[derive(Clone, Debug)]
pub struct Registry {
    layers: Vec<(&'static str, Parse)>,
}

impl Registry {
    /// The layers that Batchmill brings along.
    pub fn builtin() -> Self {
        Self { layers: layers::KINDS.to_vec() }
    }

    /// Adds a kind of layer, or replaces that of the same name.
    #[must_use]
    pub fn layer(mut self, kind: &'static str, parse: Parse) -> Self {
        self.layers.retain(|(name, _)| *name != kind);
        self.layers.push((kind, parse));
        self
    }

    /// How to read the keys of a kind of layer.
    pub(crate) fn find(&self, kind: &str) -> Option<Parse> {
        self.layers.iter().find(|(name, _)| *name == kind).map(|(_, parse)| *parse)
    }

    /// The names of all kinds.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.layers.iter().map(|(name, _)| *name).collect()
    }
}

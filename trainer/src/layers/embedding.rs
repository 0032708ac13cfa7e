//! `embedding`: every whole number, such as that of a word, becomes a row of numbers of its own.

use burn::nn::{Embedding, EmbeddingConfig};

use super::FEATURES_MAX;
use crate::layer::{AnyLayer, Layer, Misfit, check_weights};
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};
use crate::shape::{Activation, Extents};

/// `num_embeddings`, `embedding_dim`.
pub(super) fn parse(section: &mut Section<'_>, _: &Registry) -> Result<Build, Mistake> {
    let num_embeddings = section.count("num_embeddings", 1..usize::MAX)?;
    let embedding_dim = section.count("embedding_dim", 1..FEATURES_MAX + 1)?;
    let num_embeddings = section.required("num_embeddings", num_embeddings)?;
    let embedding_dim = section.required("embedding_dim", embedding_dim)?;
    Ok(Box::new(move |arrives, device| {
        check_weights(&[num_embeddings, embedding_dim], arrives)?;
        // Burn's initial values are PyTorch's: normal, with mean 0 and variance 1.
        Ok(AnyLayer::new(EmbeddingConfig::new(num_embeddings, embedding_dim).init(device)))
    }))
}

impl Layer for Embedding {
    fn leaves(&self, arrives: &Extents) -> Result<Extents, Misfit> {
        let [_, embedding_dim] = self.weight.lazy_shape().dims();
        match arrives {
            Extents::Indices(extents) if extents.len() == 1 => Ok(Extents::Floats(vec![extents[0], embedding_dim])),
            _ => Err(Misfit::shape("[batch, length] of whole numbers", arrives, "let it be the first layer")),
        }
    }

    fn forward(&self, x: Activation) -> Activation {
        match x {
            Activation::Indices(x) => Activation::Sequence(Embedding::forward(self, x)),
            other => unreachable!("`leaves` refuses {:?}", other.extents()),
        }
    }

    fn to_torch(&self) -> String {
        let [num_embeddings, embedding_dim] = self.weight.lazy_shape().dims();
        format!("Embedding({num_embeddings}, {embedding_dim})")
    }
}

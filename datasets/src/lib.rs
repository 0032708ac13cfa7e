//! What a batch contains: datasets, samplers, transforms and the decoders below them.
//!
//! A [`spec::StreamSpec`] names a dataset, a sampler and a chain of transforms. A [`registry::Registry`] knows what the
//! names stand for and opens a [`pipeline::Pipeline`], which computes any row of any batch from its position alone.
//! Nothing here knows of processes, sockets or shared memory.
//!
//! # A dataset of your own
//!
//! It is what PyTorch's custom `Dataset` is: a constructor (`__init__`), `len` (`__len__`) and `get` (`__getitem__`).
//!
//! ```
//! use batchmill_datasets::dataset::{MapDataset, SampleError};
//! use batchmill_datasets::sample::{Array, Sample};
//! use batchmill_datasets::spec::StreamSpec;
//!
//! /// Numbers and their squares.
//! #[derive(Debug)]
//! struct Squares {
//!     len: u64,
//! }
//!
//! impl MapDataset for Squares {
//!     fn len(&self) -> u64 {
//!         self.len
//!     }
//!
//!     fn get(&self, index: u64) -> Result<Sample, SampleError> {
//!         let number = index as f32;
//!         Ok(Sample::new()
//!             .with("input", Array::from_f32(&[number]))
//!             .with("target", Array::from_f32(&[number * number])))
//!     }
//!
//!     fn name(&self, index: u64) -> String {
//!         format!("number {index}")
//!     }
//! }
//!
//! // The name goes into the one list, with a constructor that reads the options of `[stream.NAME]`.
//! let registry = batchmill_datasets::builtin()
//!     .dataset("squares", |options| Ok(Squares { len: options.integer("len", 1..=1_000_000)? }));
//!
//! let table = r#"
//!     dataset = { kind = "squares", len = 1000 }
//!     sampler = "shuffled"
//! "#;
//! let spec = StreamSpec::from_table("train", table.parse()?, "/".as_ref())?;
//! let pipeline = registry.pipeline(&spec)?;
//! assert_eq!(pipeline.survey(&mut |_, _| ())?[0].to_string(), "input: f32 [1]");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A dataset that first has to read a file (a CSV, a list) implements [`source::Source`] as well. One that is read in
//! order, or whose length only reading tells, is an [`iterable::IterableDataset`].

pub mod batches;
pub mod cache;
pub mod collate;
mod column;
pub mod composition;
pub mod dataset;
pub mod decode;
#[cfg(feature = "download")]
mod download;
pub mod identity;
pub mod iterable;
pub mod nearest;
mod number;
pub mod options;
pub mod permutation;
pub mod pipeline;
pub mod progress;
pub mod pytorch;
pub mod quarantine;
pub mod random;
pub mod registry;
pub mod sample;
pub mod sampler;
pub mod samplers;
mod scratch;
mod selection;
pub mod sheet;
pub mod source;
pub mod sources;
pub mod spec;
pub mod transform;
pub mod transforms;
pub mod view;

use crate::composition::{Concat, Mix, Repeat, Subset, Take, Zip};
use crate::registry::Registry;
use crate::sampler::Population;
use crate::samplers::{BatchByLength, ClassBalanced, Sequential, Shuffled, Weighted, WithReplacement};
use crate::sources::{
    Cifar, CsvRows, CsvTable, Idx, ImageFolder, ImageFolderCsv, Jsonl, Mnist, Npy, Npz, Synthetic, TarShards,
};
use crate::transforms::{
    Affine, Cast, CenterCrop, Clip, Color, ColorJitter, FiveCrop, GaussianBlur, Grayscale, HorizontalFlip, LabelMap,
    Normalize, OneHot, Pad, RandomCrop, RandomErasing, RandomResizedCrop, Resize, Retouch, Rotation, Standardize,
    ToF32, ToNchw, TrivialAugmentWide, VerticalFlip,
};

/// The registry of everything that Batchmill brings along; extend it with your own kinds.
pub fn builtin() -> Registry {
    let registry = Registry::new();
    #[cfg(feature = "parquet")]
    let registry = registry.dataset("parquet", sources::Parquet::from_options);
    registry
        .dataset("image-folder", ImageFolder::from_options)
        .dataset("image-folder-csv", ImageFolderCsv::from_options)
        .dataset("idx", Idx::from_options)
        .dataset("csv-table", CsvTable::from_options)
        .dataset("npy", Npy::from_options)
        .dataset("npz", Npz::from_options)
        .dataset("synthetic", Synthetic::from_options)
        .dataset("mnist", Mnist::from_options)
        .dataset("fashion-mnist", Mnist::fashion)
        .dataset("kmnist", Mnist::kuzushiji)
        .dataset("emnist", Mnist::extended)
        .dataset("cifar10", Cifar::cifar10)
        .dataset("cifar100", Cifar::cifar100)
        .iterable("csv-rows", CsvRows::from_options)
        .iterable("jsonl", Jsonl::from_options)
        .iterable("tar-shards", TarShards::from_options)
        .dataset("concat", Concat::from_options)
        .dataset("mix", Mix::from_options)
        .dataset("repeat", Repeat::from_options)
        .dataset("subset", Subset::from_options)
        .dataset("take", Take::from_options)
        .dataset("zip", Zip::from_options)
        .sampler("sequential", |_| Ok(|population: &Population| Ok(Sequential::new(population))))
        .sampler("shuffled", Shuffled::from_options)
        .sampler("with-replacement", WithReplacement::from_options)
        .sampler("weighted", Weighted::from_options)
        .sampler("class-balanced", ClassBalanced::from_options)
        .sampler("batch-by-length", BatchByLength::from_options)
        .sampler("subset", samplers::Subset::from_options)
        .sampler("from-file", samplers::Subset::file_from_options)
        .transform("resize", Resize::from_options)
        .transform("pad", Pad::from_options)
        .transform("center-crop", CenterCrop::from_options)
        .transform("five-crop", FiveCrop::from_options)
        .transform("random-crop", RandomCrop::from_options)
        .transform("random-resized-crop", RandomResizedCrop::from_options)
        .transform("horizontal-flip", HorizontalFlip::from_options)
        .transform("vertical-flip", VerticalFlip::from_options)
        .transform("rotation", Rotation::from_options)
        .transform("affine", Affine::from_options)
        .transform("color", Color::from_options)
        .transform("color-jitter", ColorJitter::from_options)
        .transform("grayscale", Grayscale::from_options)
        .transform("gaussian-blur", GaussianBlur::from_options)
        .transform("random-erasing", RandomErasing::from_options)
        .transform("posterize", Retouch::posterize)
        .transform("solarize", Retouch::solarize)
        .transform("invert", Retouch::invert)
        .transform("autocontrast", Retouch::autocontrast)
        .transform("equalize", Retouch::equalize)
        .transform("sharpness", Retouch::sharpness)
        .transform("trivial-augment-wide", TrivialAugmentWide::from_options)
        .transform("to-f32", ToF32::from_options)
        .transform("normalize", Normalize::from_options)
        .transform("to-nchw", ToNchw::from_options)
        .transform("one-hot", OneHot::from_options)
        .transform("label-map", LabelMap::from_options)
        .transform("standardize", Standardize::from_options)
        .transform("clip", Clip::from_options)
        .transform("cast", Cast::from_options)
}

//! The transforms that Batchmill brings along; what moves an image moves the masks over it.
//!
//! Names, options and defaults are those of torchvision's `transforms.v2`. On images of bytes the results are its as
//! well, but for single bytes that a docstring tells of. Every transform that draws says what, and in which order: the
//! draws are part of a stream's bytes, and golden tests hold them.

mod adjust;
mod affine;
mod arguments;
mod cast;
mod center_crop;
mod clip;
mod color;
mod color_jitter;
mod enhance;
mod five_crop;
mod flip;
mod gaussian_blur;
mod grayscale;
mod label_map;
mod layers;
mod normalize;
mod numbers;
mod one_hot;
mod pad;
pub(crate) mod pixels;
mod random_crop;
mod random_erasing;
mod random_resized_crop;
mod resize;
mod retouch;
mod rotation;
mod standardize;
mod to_f32;
mod to_nchw;
mod trivial_augment_wide;
mod warp;
mod window;

pub use affine::Affine;
pub use cast::Cast;
pub use center_crop::CenterCrop;
pub use clip::Clip;
pub use color::Color;
pub use color_jitter::ColorJitter;
pub use five_crop::FiveCrop;
pub use flip::{HorizontalFlip, VerticalFlip};
pub use gaussian_blur::GaussianBlur;
pub use grayscale::Grayscale;
pub use label_map::LabelMap;
pub use normalize::Normalize;
pub use one_hot::OneHot;
pub use pad::Pad;
pub use random_crop::RandomCrop;
pub use random_erasing::RandomErasing;
pub use random_resized_crop::RandomResizedCrop;
pub use resize::Resize;
pub use retouch::Retouch;
pub use rotation::Rotation;
pub use standardize::Standardize;
pub use to_f32::ToF32;
pub use to_nchw::ToNchw;
pub use trivial_augment_wide::TrivialAugmentWide;

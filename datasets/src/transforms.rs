//! The transforms that Batchmill brings along; what they do to images they do to the masks of the sample as well.
//!
//! Names, options and defaults are those of torchvision's `transforms.v2`, whose results on bytes they give.

mod adjust;
mod affine;
mod arguments;
mod center_crop;
mod color;
mod color_jitter;
mod enhance;
mod five_crop;
mod flip;
mod gaussian_blur;
mod grayscale;
mod layers;
mod pad;
mod pixels;
mod random_crop;
mod random_erasing;
mod random_resized_crop;
mod resize;
mod rotation;
mod trivial_augment_wide;
mod warp;
mod window;

pub use affine::Affine;
pub use center_crop::CenterCrop;
pub use color::Color;
pub use color_jitter::ColorJitter;
pub use five_crop::FiveCrop;
pub use flip::{HorizontalFlip, VerticalFlip};
pub use gaussian_blur::GaussianBlur;
pub use grayscale::Grayscale;
pub use pad::Pad;
pub use random_crop::RandomCrop;
pub use random_erasing::RandomErasing;
pub use random_resized_crop::RandomResizedCrop;
pub use resize::Resize;
pub use rotation::Rotation;
pub use trivial_augment_wide::TrivialAugmentWide;

//! The image of a sample with the masks over it: what moves the one moves the others.

use super::arguments::Layer;
use crate::sample::{Image, Sample, Value};
use crate::transform::{TransformError, image_of};

/// An image and every mask of its sample, all of one size.
pub(super) struct Layers<'a> {
    sample: &'a mut Sample,
    field: &'a str,
    height: usize,
    width: usize,
}

impl<'a> Layers<'a> {
    /// Finds the image in `field`, which must have pixels, and the masks, which must have its size.
    pub(super) fn of(sample: &'a mut Sample, field: &'a str) -> Result<Self, TransformError> {
        let [height, width, channels] = image_of(sample, field)?.shape();
        if height * width * channels == 0 {
            let size = format!("{height} x {width} pixels (height x width) of {channels} channels");
            return Err(TransformError::new(format!("the image in `{field}` is empty: it has {size}")));
        }
        for (name, value) in sample.iter() {
            if let Value::Mask(mask) = value
                && mask.shape() != [height, width, 1]
            {
                let (mask_height, mask_width) = (mask.height(), mask.width());
                return Err(TransformError::MaskSize { mask: name.to_owned(), mask_height, mask_width, height, width });
            }
        }
        Ok(Self { sample, field, height, width })
    }

    pub(super) fn height(&self) -> usize {
        self.height
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Changes the image and each mask in the same way.
    pub(super) fn change(
        self,
        mut change: impl FnMut(&mut Image, Layer) -> Result<(), TransformError>,
    ) -> Result<(), TransformError> {
        self.change_values(|value| match value {
            Value::Image(image) => change(image, Layer::Image),
            Value::Mask(mask) => change(mask, Layer::Mask),
            Value::Array(_) => Ok(()),
        })
    }

    /// Changes the values that hold the image and each mask.
    pub(super) fn change_values(
        self,
        mut change: impl FnMut(&mut Value) -> Result<(), TransformError>,
    ) -> Result<(), TransformError> {
        for (name, value) in self.sample.iter_mut() {
            if name == self.field || matches!(value, Value::Mask(_)) {
                change(value)?;
            }
        }
        Ok(())
    }
}

//! Turns an image as its EXIF says that the camera was held.

use image::metadata::Orientation;

use crate::sample::{Image, ValueError};
use crate::scratch;

/// Mirrors and turns the image; for half of the eight orientations height and width change places.
///
/// Source: EXIF 2.3, tag 274; torchvision's `apply_exif_orientation`, Pillow's `ImageOps.exif_transpose`.
pub(super) fn orient(image: Image, orientation: Orientation) -> Result<Image, ValueError> {
    let [height, width, channels] = image.shape();
    let (last_row, last_column) = (height.saturating_sub(1), width.saturating_sub(1));
    // Where each pixel of the result comes from.
    let (to_height, to_width, source): (_, _, fn(Place, Place) -> Place) = match orientation {
        Orientation::NoTransforms => return Ok(image),
        Orientation::FlipHorizontal => (height, width, |(row, column), (_, last)| (row, last - column)),
        Orientation::Rotate180 => (height, width, |(row, column), (bottom, last)| (bottom - row, last - column)),
        Orientation::FlipVertical => (height, width, |(row, column), (bottom, _)| (bottom - row, column)),
        Orientation::Rotate90FlipH => (width, height, |(row, column), _| (column, row)),
        Orientation::Rotate90 => (width, height, |(row, column), (bottom, _)| (bottom - column, row)),
        Orientation::Rotate270FlipH => (width, height, |(row, column), (bottom, last)| (bottom - column, last - row)),
        Orientation::Rotate270 => (width, height, |(row, column), (_, last)| (column, last - row)),
    };
    let from = image.into_pixels();
    let mut to = scratch::take(from.len());
    let places = (0..to_height).flat_map(|row| (0..to_width).map(move |column| (row, column)));
    for (pixel, place) in to.chunks_exact_mut(channels).zip(places) {
        let (row, column) = source(place, (last_row, last_column));
        let start = (row * width + column) * channels;
        pixel.copy_from_slice(&from[start..start + channels]);
    }
    scratch::give(from);
    Image::new(to_height, to_width, channels, to)
}

/// Row and column.
type Place = (usize, usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_eight_orientations_turn_as_exif_has_them() {
        // The letters of
        //     abc
        //     def
        // as a person sees them upright; what `ImageOps.exif_transpose` of Pillow makes of them.
        let oriented = |exif| {
            let image = Image::new(2, 3, 1, b"abcdef".to_vec()).unwrap();
            let turned = orient(image, Orientation::from_exif(exif).unwrap()).unwrap();
            let rows: Vec<_> =
                turned.pixels().chunks(turned.width()).map(|row| String::from_utf8(row.to_vec()).unwrap()).collect();
            rows.join("/")
        };
        assert_eq!(oriented(1), "abc/def");
        assert_eq!(oriented(2), "cba/fed");
        assert_eq!(oriented(3), "fed/cba");
        assert_eq!(oriented(4), "def/abc");
        assert_eq!(oriented(5), "ad/be/cf");
        assert_eq!(oriented(6), "da/eb/fc");
        assert_eq!(oriented(7), "fc/eb/da");
        assert_eq!(oriented(8), "cf/be/ad");
    }

    #[test]
    fn the_channels_of_a_pixel_stay_together() {
        let image = Image::new(1, 2, 3, b"abcxyz".to_vec()).unwrap();
        let turned = orient(image, Orientation::Rotate90).unwrap();
        assert_eq!((turned.shape(), turned.pixels()), ([2, 1, 3], &b"abcxyz"[..]));
        assert_eq!(orient(turned, Orientation::Rotate180).unwrap().pixels(), b"xyzabc");
    }

    #[test]
    fn an_image_without_pixels_is_none_afterwards() {
        let image = Image::new(0, 3, 1, Vec::new()).unwrap();
        assert_eq!(orient(image, Orientation::Rotate90).unwrap().shape(), [3, 0, 1]);
    }
}

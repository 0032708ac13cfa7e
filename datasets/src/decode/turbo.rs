//! JPEG by libjpeg-turbo: the whole image, or the part of it that is wanted.

use std::cell::RefCell;

use super::color::{recolor, rgb_from_inverted_cmyk};
use super::jpeg::{Decompressor, JpegError, Pixels};
use super::{ColorMode, DecodeError, DecodeOptions, Decoded, Format, check_size, markers};
use crate::sample::Image;
use crate::scratch;
use crate::view::Part;

thread_local! {
    /// Made by the first JPEG of a thread, or the first after a broken one.
    static DECOMPRESSOR: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
}

/// Decodes straight to the wanted colours; for gray the chrominance is never computed.
///
/// `wanted` is told height and width and answers which part is needed, if not all; it may be asked again. The part that
/// comes out has the pixels that it has in the whole image.
pub(super) fn decode(
    bytes: &[u8],
    options: DecodeOptions,
    wanted: &mut dyn FnMut(usize, usize) -> Option<Part>,
) -> Result<Decoded, DecodeError> {
    let mut decompressor = DECOMPRESSOR.take().map_or_else(start, Ok)?;
    let all = decode_all(&mut decompressor, bytes, options, wanted);
    if let Ok(image) = all.unwrap_or_else(|| decode_by(&mut decompressor, bytes, options, wanted)) {
        DECOMPRESSOR.set(Some(decompressor));
        return Ok(image);
    }
    // None is used again after an error, and what is wrong with a file a fresh one says, of all of it.
    let mut decompressor = start()?;
    let image = decode_by(&mut decompressor, bytes, options, &mut |height, width| {
        wanted(height, width);
        None
    })?;
    DECOMPRESSOR.set(Some(decompressor));
    Ok(image)
}

/// Decodes an image of which all is wanted, reading its header once; `None` when that is not so.
fn decode_all(
    decompressor: &mut Decompressor,
    bytes: &[u8],
    options: DecodeOptions,
    wanted: &mut dyn FnMut(usize, usize) -> Option<Part>,
) -> Option<Result<Decoded, DecodeError>> {
    let kind = pixels_of(options.color);
    let (height, width) = markers::size(bytes).filter(|_| options.draft.is_none())?;
    let part = Part::whole(height, width);
    check_size(height as u64, width as u64).ok()?;
    if wanted(height, width).is_some_and(|wanted| wanted != part) {
        return None;
    }
    let mut pixels = scratch::take(height * width * kind.bytes());
    let outcome = decompressor.decode_all(bytes, (height, width), kind, &mut pixels);
    Some(outcome.map_err(broken).and_then(|()| Ok(Decoded { image: image(part, kind.bytes(), pixels)?, part })))
}

fn image(part: Part, channels: usize, pixels: Vec<u8>) -> Result<Image, DecodeError> {
    let image = Image::new(part.height, part.width, channels, pixels);
    image.map_err(|error| DecodeError::Broken { format: Format::Jpeg, source: error.into() })
}

/// What libjpeg-turbo is asked for.
fn pixels_of(color: ColorMode) -> Pixels {
    match color {
        ColorMode::Rgb => Pixels::Rgb,
        ColorMode::Gray => Pixels::Gray,
        ColorMode::Rgba => Pixels::Rgba,
    }
}

/// Height and width that the header says, by a fresh decompressor for the reason above.
pub(super) fn size(bytes: &[u8]) -> Result<(u64, u64), DecodeError> {
    let mut decompressor = start()?;
    let header = decompressor.open(bytes).map_err(broken)?.header();
    Ok((header.height as u64, header.width as u64))
}

fn start() -> Result<Decompressor, DecodeError> {
    Decompressor::new().map_err(|error| DecodeError::Decoder { source: error.into() })
}

fn decode_by(
    decompressor: &mut Decompressor,
    bytes: &[u8],
    options: DecodeOptions,
    wanted: &mut dyn FnMut(usize, usize) -> Option<Part>,
) -> Result<Decoded, DecodeError> {
    let DecodeOptions { color: mode, draft, .. } = options;
    let opened = decompressor.open(bytes).map_err(broken)?;
    let header = opened.header();
    check_size(header.height as u64, header.width as u64)?;
    let scale = draft.map_or(1, |shorter_side| header.reduction(shorter_side));
    let (height, width) = header.scaled(scale);
    let kind = match mode {
        // These it gives only as CMYK. ImageNet has a few.
        _ if header.is_inked => Pixels::Cmyk,
        color => pixels_of(color),
    };
    let whole = Part::whole(height, width);
    let part = wanted(height, width).filter(|part| !part.is_empty()).map_or(whole, |part| header.around(part, scale));
    let mut pixels = scratch::take(part.height * part.width * kind.bytes());
    match opened.decode(part, scale, kind, &mut pixels) {
        // What is behind the part was not looked at: whether it is there.
        Ok(()) if part.top + part.height < height && !markers::is_complete(bytes) => {
            return Err(DecodeError::Truncated { format: Format::Jpeg });
        }
        Ok(()) => {}
        Err(error) if is_harmless(&error) && markers::is_complete(bytes) => {}
        // Warnings arrive here as well: libjpeg-turbo fills the missing part of a truncated image with gray and warns.
        Err(error) => return Err(broken(error)),
    }
    if kind == Pixels::Cmyk {
        pixels = recolor(rgb_from_inverted_cmyk(pixels), 3, mode);
    }
    Ok(Decoded { image: image(part, mode.channels(), pixels)?, part })
}

fn broken(error: JpegError) -> DecodeError {
    match error {
        error if is_out_of_memory(&error) => DecodeError::Memory,
        error => DecodeError::Broken { format: Format::Jpeg, source: error.into() },
    }
}

/// Whether memory ran out, which says nothing of the file. The texts are those of turbojpeg.c and of libjpeg's
/// `JERR_OUT_OF_MEMORY` (jerror.h).
fn is_out_of_memory(JpegError(text): &JpegError) -> bool {
    text.contains("Memory allocation failure") || text.contains("Insufficient memory")
}

/// Whether every pixel was decoded all the same: some cameras leave bytes between the image and its end marker.
///
/// TurboJPEG hands on neither libjpeg's warning codes nor more than the first warning, hence the text (jerror.h,
/// `JWRN_EXTRANEOUS_DATA`) and the second look of the caller.
fn is_harmless(JpegError(text): &JpegError) -> bool {
    text.contains("extraneous bytes before marker")
}

#[cfg(test)]
mod tests {
    use turbojpeg::{Compressor, PixelFormat, Subsamp};

    use super::*;
    use crate::random::Rng;

    /// Colours that change from pixel to pixel, so that smoothing is seen, as a JPEG.
    fn colorful(height: usize, width: usize, colors: Subsamp, is_progressive: bool) -> Vec<u8> {
        let mut rng = Rng::new(height as u64, width as u64, 0, 0, 0);
        let pixels: Vec<u8> = (0..height * width * 3).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
        let image = turbojpeg::Image { pixels: &pixels[..], width, pitch: width * 3, height, format: PixelFormat::RGB };
        let mut compressor = Compressor::new().unwrap();
        compressor.set_quality(97).unwrap();
        compressor.set_subsamp(colors).unwrap();
        compressor.set_progressive(is_progressive).unwrap();
        compressor.compress_to_vec(image).unwrap()
    }

    #[test]
    fn a_part_has_the_pixels_that_it_has_in_the_whole() {
        const KINDS: [Subsamp; 7] = [
            Subsamp::None,
            Subsamp::Sub2x1,
            Subsamp::Sub2x2,
            Subsamp::Gray,
            Subsamp::Sub1x2,
            Subsamp::Sub4x1,
            Subsamp::Sub1x4,
        ];
        const MODES: [ColorMode; 3] = [ColorMode::Rgb, ColorMode::Gray, ColorMode::Rgba];
        let seed = 11;
        let mut rng = Rng::new(seed, 0, 0, 0, 0);
        let mut below =
            |least: usize, most: usize| least + usize::try_from(rng.below((most - least + 1) as u64)).unwrap();
        let mut parts_alone = 0;
        for round in 0..105 {
            let (height, width) = (below(1, 200), below(1, 300));
            let (colors, mode, is_progressive) = (KINDS[round % 7], MODES[round % 3], round % 5 == 0);
            let file = colorful(height, width, colors, is_progressive);
            let draft = [None, Some(20)][round % 2];
            let options = DecodeOptions { color: mode, draft, ..DecodeOptions::default() };
            let whole = decode(&file, options, &mut |_, _| None).unwrap();
            let (height, width) = (whole.part.height, whole.part.width);
            for _ in 0..8 {
                let (rows, columns) = (below(1, height), below(1, width));
                let wanted = Part {
                    top: below(0, height - rows),
                    left: below(0, width - columns),
                    height: rows,
                    width: columns,
                };
                let Decoded { image, part } = decode(&file, options, &mut |_, _| Some(wanted)).unwrap();
                parts_alone += usize::from(part != whole.part);
                for row in wanted.top..wanted.top + rows {
                    let of = |image: &Image, part: Part| {
                        let start = ((row - part.top) * part.width + wanted.left - part.left) * mode.channels();
                        image.pixels()[start..][..columns * mode.channels()].to_vec()
                    };
                    assert!(
                        of(&image, part) == of(&whole.image, whole.part),
                        "seed {seed}, round {round}: row {row} of {wanted:?}, decoded as {part:?}, of {height} x {width} \
                         {colors:?} by {options:?}"
                    );
                }
            }
        }
        assert!(parts_alone > 500, "{parts_alone}");
    }

    #[test]
    fn a_part_of_what_was_never_refined_is_smoothed_as_in_the_whole() {
        for colors in [Subsamp::Sub2x2, Subsamp::None, Subsamp::Gray] {
            let file = colorful(120, 300, colors, true);
            // Its first scan alone: before the next marker, which is none within a scan.
            let scan = file.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 2;
            let end = file[scan..].windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7));
            let file = [&file[..scan + end.unwrap()], &[0xff, 0xd9]].concat();
            let whole = decode(&file, ColorMode::Rgb.into(), &mut |_, _| None).unwrap().image;
            for left in (0..240).step_by(13) {
                let wanted = Part { top: 40, left, height: 9, width: 60 };
                let Decoded { image, part } = decode(&file, ColorMode::Rgb.into(), &mut |_, _| Some(wanted)).unwrap();
                assert!(part.width < 300, "{part:?}");
                for row in 0..wanted.height {
                    let found = &image.pixels()[(row * part.width + left - part.left) * 3..][..wanted.width * 3];
                    let expected = &whole.pixels()[((wanted.top + row) * 300 + left) * 3..][..wanted.width * 3];
                    assert!(found == expected, "row {row} from {left} of {colors:?}, decoded as {part:?}");
                }
            }
        }
    }

    #[test]
    fn a_draft_keeps_what_it_must_and_is_nearly_the_mean_of_what_it_stands_for() {
        // Smooth, as photos are in most places: a level or two from pixel to pixel.
        let (height, width) = (203, 309);
        let pixels: Vec<u8> = (0..height * width * 3)
            .map(|byte| u8::try_from((byte / 3 % width + byte / 3 / width + byte % 3 * 40) * 255 / 600).unwrap())
            .collect();
        let image = turbojpeg::Image { pixels: &pixels[..], width, pitch: width * 3, height, format: PixelFormat::RGB };
        let file = Compressor::new().unwrap().compress_to_vec(image).unwrap();
        let at = |draft| {
            let options = DecodeOptions { draft, ..DecodeOptions::default() };
            decode(&file, options, &mut |_, _| None).unwrap().image
        };
        let whole = at(None);
        for (shorter_side, scale) in
            [(204, 1), (203, 1), (103, 1), (102, 2), (52, 2), (51, 4), (27, 4), (26, 8), (1, 8)]
        {
            let draft = at(Some(shorter_side));
            assert_eq!([draft.height(), draft.width()], [height.div_ceil(scale), width.div_ceil(scale)]);
            assert!(scale == 1 || draft.height() >= shorter_side);
            // The last row and column may stand for fewer.
            for (row, column) in (0..height / scale).flat_map(|row| (0..width / scale).map(move |column| (row, column)))
            {
                for channel in 0..3 {
                    let of = |image: &Image, row: usize, column: usize| {
                        u32::from(image.pixels()[(row * image.width() + column) * 3 + channel])
                    };
                    let all =
                        (0..scale * scale).map(|place| (row * scale + place / scale, column * scale + place % scale));
                    let sum: u32 = all.map(|(row, column)| of(&whole, row, column)).sum();
                    let mean = sum / u32::try_from(scale * scale).unwrap();
                    assert!(of(&draft, row, column).abs_diff(mean) <= 3, "{row}, {column} at 1/{scale}");
                }
            }
        }
    }

    #[test]
    fn a_file_cut_short_is_found_out_by_a_part_of_its_first_rows() {
        let file = colorful(120, 90, Subsamp::Sub2x2, false);
        let top = Part { top: 0, left: 0, height: 8, width: 90 };
        assert_eq!(decode(&file, ColorMode::Rgb.into(), &mut |_, _| Some(top)).unwrap().part, top);
        for cut in [1, 2, 3, 100, file.len() / 2] {
            let part = decode(&file[..file.len() - cut], ColorMode::Rgb.into(), &mut |_, _| Some(top));
            let whole = decode(&file[..file.len() - cut], ColorMode::Rgb.into(), &mut |_, _| None);
            assert_eq!(format!("{:?}", part.unwrap_err()), format!("{:?}", whole.unwrap_err()), "{cut} bytes");
        }
    }

    #[test]
    fn a_lack_of_memory_is_told_from_a_broken_file() {
        let is_memory = |text: &str| is_out_of_memory(&JpegError(text.to_owned()));
        assert!(is_memory("Insufficient memory (case 4)"));
        assert!(is_memory("tj3Decompress8(): Memory allocation failure"));
        assert!(!is_memory("Premature end of JPEG file"));
    }
}

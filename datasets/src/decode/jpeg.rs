//! libjpeg-turbo's own interface, made safe: with `protocol/src/slab/map.rs` the only unsafe code of the workspace.
//!
//! The crate `turbojpeg` lacks the region of an image that alone is to be decoded, and asks for the header twice, which
//! for a small image is dear.

use std::ffi::CStr;

use thiserror::Error;
use turbojpeg::libc::{c_int, c_uint};
use turbojpeg::raw;

pub use super::markers::size;
use crate::view::Part;

/// Scans a progressive JPEG may have. A hostile file asks for thousands of passes over the image; cameras and
/// encoders write about ten.
const SCANS_MAX: c_int = 500;

/// What libjpeg-turbo found wrong; a mere warning of its is one as well.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("TurboJPEG error: {0}")]
pub struct JpegError(pub(super) String);

/// A decompressor and its memory, to be used for file after file until there is an error.
///
/// It would go on in the middle of the next file where an error in a header left it, and take the size of the last image
/// for that of a file that ends before it says one (`tj3DecompressHeader` resets neither): after an error it refuses.
#[derive(Debug)]
pub struct Decompressor {
    /// Never null, and this value's alone.
    handle: raw::tjhandle,
    had_error: bool,
}

/// What the header of a JPEG says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Whether its pixels are ink, not light: they are given as [`Pixels::Cmyk`] only.
    pub is_inked: bool,
    /// Pixels of a row that are stored together, before which a part of the image may begin; `None` where it is decoded as
    /// a whole or not at all.
    block: Option<usize>,
    /// Whether its pixels are stored again and again, finer each time. What was never refined is smoothed.
    is_progressive: bool,
}

/// The bytes of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// One byte of luma.
    Gray,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, and 255.
    Rgba,
    /// Cyan, magenta, yellow and key, as they are stored.
    Cmyk,
}

impl Pixels {
    /// Bytes of a pixel.
    pub fn bytes(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Rgba | Self::Cmyk => 4,
        }
    }

    fn code(self) -> c_int {
        match self {
            Self::Gray => raw::TJPF_TJPF_GRAY,
            Self::Rgb => raw::TJPF_TJPF_RGB,
            Self::Rgba => raw::TJPF_TJPF_RGBA,
            Self::Cmyk => raw::TJPF_TJPF_CMYK,
        }
    }
}

impl Header {
    /// Height and width of the image at 1 / `scale`.
    pub fn scaled(&self, scale: usize) -> (usize, usize) {
        (self.height.div_ceil(scale), self.width.div_ceil(scale))
    }

    /// By how much the image can be reduced, 8, 4, 2 or not at all, and keep so many pixels at its shorter side.
    pub fn reduction(&self, shorter_side: usize) -> usize {
        let keeps = |scale: &usize| {
            let (height, width) = self.scaled(*scale);
            height.min(width) >= shorter_side
        };
        // Without a block it is of a kind that is decoded as it is.
        self.block.and_then(|_| [8, 4, 2].into_iter().find(keeps)).unwrap_or(1)
    }

    /// What must be decoded of the image at 1 / `scale` so that the pixels of `part` are those that they are in the whole:
    /// all rows and columns of it, and those that colours are smoothed with.
    pub fn around(&self, part: Part, scale: usize) -> Part {
        /// Neighbours that the smoothing of halved colours reaches, doubled.
        const REACH: usize = 4;
        /// Of narrower images colours are not smoothed.
        const WIDTH_MIN: usize = 64;
        let (height, width) = self.scaled(scale);
        let Some(block) = self.block.map(|block| block / scale) else { return Part::whole(height, width) };
        // Blocks are smoothed with two on either side (jdcoefct.c, `decompress_smooth_data`), of which it lacks the left.
        let more = if self.is_progressive { 2 } else { 0 };
        let left = (part.left.saturating_sub(REACH) / block).saturating_sub(more) * block;
        let right = (part.left + part.width + REACH).max(left + WIDTH_MIN).min(width);
        let left = left.min(right.saturating_sub(WIDTH_MIN) / block * block);
        Part { top: part.top, left, height: part.height, width: right - left }
    }
}

/// A file whose header has been read.
#[derive(Debug)]
pub struct Opened<'a> {
    decompressor: &'a mut Decompressor,
    file: &'a [u8],
    header: Header,
}

impl Decompressor {
    /// Makes one.
    ///
    /// # Errors
    /// [`JpegError`], most likely for want of memory.
    #[expect(unsafe_code, reason = "a C library")]
    pub fn new() -> Result<Self, JpegError> {
        let kind = c_int::try_from(raw::TJINIT_TJINIT_DECOMPRESS).map_err(|_| JpegError("no such kind".to_owned()))?;
        // SAFETY: it takes a number, and refuses wrong ones.
        let handle = unsafe { raw::tj3Init(kind) };
        if handle.is_null() {
            return Err(error_of(handle));
        }
        let mut new = Self { handle, had_error: false };
        new.set(raw::TJPARAM_TJPARAM_SCANLIMIT, SCANS_MAX)?;
        Ok(new)
    }

    /// Reads the header of a file.
    ///
    /// # Errors
    /// [`JpegError`]: it has none, or a broken one.
    #[expect(unsafe_code, reason = "a C library")]
    pub fn open<'a>(&'a mut self, file: &'a [u8]) -> Result<Opened<'a>, JpegError> {
        self.had_none()?;
        // SAFETY: the handle is whole; as many bytes are read as there are, and nothing is kept of them.
        let status = unsafe { raw::tj3DecompressHeader(self.handle, file.as_ptr(), file.len() as raw::size_t) };
        self.checked(status)?;
        let colors = self.get(raw::TJPARAM_TJPARAM_COLORSPACE);
        let is = |space: raw::TJCS| c_int::try_from(space) == Ok(colors);
        // The width of an iMCU: `tjMCUWidth` in turbojpeg.h.
        let block = match self.get(raw::TJPARAM_TJPARAM_SUBSAMP) {
            _ if self.get(raw::TJPARAM_TJPARAM_LOSSLESS) != 0 => None,
            raw::TJSAMP_TJSAMP_444 | raw::TJSAMP_TJSAMP_GRAY | raw::TJSAMP_TJSAMP_440 | raw::TJSAMP_TJSAMP_441 => {
                Some(8)
            }
            raw::TJSAMP_TJSAMP_422 | raw::TJSAMP_TJSAMP_420 => Some(16),
            raw::TJSAMP_TJSAMP_411 => Some(32),
            _ => None,
        };
        let (height, width) = self.size()?;
        let is_progressive = self.get(raw::TJPARAM_TJPARAM_PROGRESSIVE) != 0;
        let is_inked = is(raw::TJCS_TJCS_CMYK) || is(raw::TJCS_TJCS_YCCK);
        let header = Header { height, width, is_inked, block, is_progressive };
        Ok(Opened { decompressor: self, file, header })
    }

    /// Decodes all of an image whose size is known, and whose header is thus read but once.
    ///
    /// # Errors
    /// [`JpegError`]: the file is broken, or the image is of another size. What `pixels` are then is unspecified.
    ///
    /// # Panics
    /// When `pixels` is not as long as the image.
    #[expect(unsafe_code, reason = "a C library")]
    pub fn decode_all(
        &mut self,
        file: &[u8],
        size: (usize, usize),
        kind: Pixels,
        pixels: &mut [u8],
    ) -> Result<(), JpegError> {
        self.had_none()?;
        let other_size = || JpegError("it is of another size".to_owned());
        let (height, width) = size;
        assert_eq!(pixels.len(), height * width * kind.bytes(), "the room for {height} x {width}");
        // None at all would mean any number.
        let limit = c_int::try_from(height * width).ok().filter(|&limit| limit > 0).ok_or_else(other_size)?;
        self.set(raw::TJPARAM_TJPARAM_MAXPIXELS, limit)?;
        self.choose(1, None)?;
        // SAFETY: the handle is whole. Whatever the header says, there are no more than `limit` pixels, and with a pitch of
        // 0 their rows follow one another: `pixels` holds them. Nothing is kept of either.
        let status = unsafe {
            raw::tj3Decompress8(
                self.handle,
                file.as_ptr(),
                file.len() as raw::size_t,
                pixels.as_mut_ptr(),
                0,
                kind.code(),
            )
        };
        self.checked(status)?;
        if self.size()? == size { Ok(()) } else { Err(other_size()) }
    }

    /// Height and width, as the header that was last read says.
    fn size(&self) -> Result<(usize, usize), JpegError> {
        let extent =
            |parameter| usize::try_from(self.get(parameter)).map_err(|_| JpegError("no size in the header".to_owned()));
        Ok((extent(raw::TJPARAM_TJPARAM_JPEGHEIGHT)?, extent(raw::TJPARAM_TJPARAM_JPEGWIDTH)?))
    }

    /// Sets the scale and the part, `None` for all, that are decoded next.
    #[expect(unsafe_code, reason = "a C library")]
    fn choose(&mut self, scale: usize, part: Option<Part>) -> Result<(), JpegError> {
        let int = |extent: usize| c_int::try_from(extent).map_err(|_| JpegError("Image is too large".to_owned()));
        let factor = raw::tjscalingfactor { num: 1, denom: int(scale)? };
        // SAFETY: the handle is whole; wrong factors are refused.
        let status = unsafe { raw::tj3SetScalingFactor(self.handle, factor) };
        self.checked(status)?;
        let region = match part {
            None => raw::tjregion { x: 0, y: 0, w: 0, h: 0 },
            Some(part) => {
                raw::tjregion { x: int(part.left)?, y: int(part.top)?, w: int(part.width)?, h: int(part.height)? }
            }
        };
        // SAFETY: the handle is whole; wrong regions are refused.
        let status = unsafe { raw::tj3SetCroppingRegion(self.handle, region) };
        self.checked(status)
    }

    #[expect(unsafe_code, reason = "a C library")]
    fn set(&mut self, parameter: raw::TJPARAM, value: c_int) -> Result<(), JpegError> {
        // SAFETY: the handle is whole; wrong numbers are refused.
        let status = unsafe { raw::tj3Set(self.handle, number(parameter), value) };
        self.checked(status)
    }

    #[expect(unsafe_code, reason = "a C library")]
    fn get(&self, parameter: raw::TJPARAM) -> c_int {
        // SAFETY: the handle is whole; of a wrong number it says -1.
        unsafe { raw::tj3Get(self.handle, number(parameter)) }
    }

    fn checked(&mut self, status: c_int) -> Result<(), JpegError> {
        if status == 0 {
            return Ok(());
        }
        self.had_error = true;
        Err(error_of(self.handle))
    }

    fn had_none(&self) -> Result<(), JpegError> {
        if self.had_error { Err(JpegError("it had an error before: start another".to_owned())) } else { Ok(()) }
    }
}

impl Drop for Decompressor {
    #[expect(unsafe_code, reason = "a C library")]
    fn drop(&mut self) {
        // SAFETY: the handle is whole, and nobody has another of it.
        unsafe { raw::tj3Destroy(self.handle) }
    }
}

impl Opened<'_> {
    /// What the header says.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Decodes `part` of the image at 1 / `scale`, which is 1, 2, 4 or 8, row by row.
    ///
    /// A part begins where [`around`](Header::around) says. What of the file is behind it is not looked at.
    ///
    /// # Errors
    /// [`JpegError`]: the file is broken, or such a part cannot be decoded.
    ///
    /// # Panics
    /// When there is no such part, or `pixels` is not as long as it.
    #[expect(unsafe_code, reason = "a C library")]
    pub fn decode(self, part: Part, scale: usize, kind: Pixels, pixels: &mut [u8]) -> Result<(), JpegError> {
        let Self { decompressor, file, header } = self;
        let (height, width) = header.scaled(scale);
        assert!(part.height > 0 && part.width > 0, "{part:?} is empty");
        assert!(part.top + part.height <= height && part.left + part.width <= width, "{part:?} of {height} x {width}");
        assert_eq!(pixels.len(), part.height * part.width * kind.bytes(), "the room for {part:?}");
        if header.block.is_none() && (scale, part) != (1, Part::whole(height, width)) {
            // It would not do so, and give more than there is room for.
            return Err(JpegError("it is decoded as a whole only".to_owned()));
        }
        // Its own header says how many there are.
        decompressor.set(raw::TJPARAM_TJPARAM_MAXPIXELS, 0)?;
        decompressor.choose(scale, Some(part).filter(|part| *part != Part::whole(height, width)))?;
        let pitch = c_int::try_from(part.width * kind.bytes());
        let pitch = pitch.map_err(|_| JpegError("Image is too large".to_owned()))?;
        // SAFETY: the handle is whole, and had no error. The header in `file`, which is borrowed since it was opened, says
        // the same size as then, and scale and part are those that were chosen, so that `height` rows of `pitch` bytes are
        // written: what was asserted. Nothing is kept of either.
        let status = unsafe {
            raw::tj3Decompress8(
                decompressor.handle,
                file.as_ptr(),
                file.len() as raw::size_t,
                pixels.as_mut_ptr(),
                pitch,
                kind.code(),
            )
        };
        decompressor.checked(status)
    }
}

/// A parameter as the functions take it.
fn number(parameter: c_uint) -> c_int {
    // There are two dozen.
    c_int::try_from(parameter).unwrap_or(-1)
}

/// What the last call said, of one handle or, where there is none, of this thread.
#[expect(unsafe_code, reason = "a C library")]
fn error_of(handle: raw::tjhandle) -> JpegError {
    // SAFETY: it takes a whole handle, or none.
    let text = unsafe { raw::tj3GetErrorStr(handle) };
    // SAFETY: it is a text that ends with a zero, and stays until the next call, which is after this copy.
    let text = unsafe { CStr::from_ptr(text) };
    JpegError(text.to_string_lossy().into_owned())
}

//! Samples whose image is decoded only as far as the head of the chain wants it, straight into its row where it can be.

use batchmill_protocol::tensor::{Dtype, FieldSpec};

use super::{FillError, Named, Pipeline, Place, RowSink, fitting};
use crate::dataset::{Encoded, SampleError};
use crate::decode::{Decoded, decode_part};
use crate::sample::{Sample, Value};
use crate::scratch;
use crate::transform::{ByteTable, IMAGE, TransformError};
use crate::view::{View, takes_over};

/// How many of the first transforms need no pixels.
pub(super) fn head_of(transforms: &[Named]) -> usize {
    takes_over(transforms.iter().map(|named| named.transform.geometry().map(|geometry| geometry.kind())))
}

/// What the transforms behind the head do to an image, all together.
#[derive(Clone, Debug)]
pub(super) enum Last {
    /// Nothing: its bytes are the row.
    Bytes,
    /// They make a number of each byte of so many channels.
    Numbers {
        table: ByteTable,
        channels: usize,
        /// Whether all numbers of a channel stand together.
        is_planar: bool,
    },
    /// What takes a sample.
    More,
}

impl Last {
    fn of(rest: &[Named], channels: usize) -> Self {
        let (first, is_planar) = match rest {
            [] => return Self::Bytes,
            [first] => (first, false),
            [first, second] if second.transform.puts_channels_first(IMAGE) => (first, true),
            _ => return Self::More,
        };
        match first.transform.table(&FieldSpec::new(IMAGE, Dtype::F32, [1, 1, channels])) {
            Some(table) => Self::Numbers { table, channels, is_planar },
            None => Self::More,
        }
    }

    /// What the row of an image of this shape is.
    fn field(&self, [height, width, channels]: [usize; 3]) -> (Dtype, [usize; 3]) {
        match self {
            Self::Numbers { is_planar: true, .. } => (Dtype::F32, [channels, height, width]),
            Self::Numbers { is_planar: false, .. } => (Dtype::F32, [height, width, channels]),
            Self::Bytes | Self::More => (Dtype::U8, [height, width, channels]),
        }
    }

    /// Writes the row of a view of an image.
    fn write(&self, view: &View, Decoded { image, part }: &Decoded, room: &mut [u8]) -> Result<(), TransformError> {
        let Self::Numbers { table, channels, is_planar } = self else { return view.write(image, *part, room) };
        let mut pixels = scratch::take(room.len() / size_of::<f32>());
        view.write(image, *part, &mut pixels)?;
        if *is_planar {
            table.write_planes(&pixels, *channels, room);
        } else {
            table.write(&pixels, room);
        }
        scratch::give(pixels);
        Ok(())
    }
}

/// An image decoded as far as a view of it needs.
struct Looked {
    decoded: Decoded,
    view: View,
    sample: Sample,
}

impl Pipeline {
    /// A sample whose image is encoded, behind the first `upto` transforms, none of which needs pixels.
    pub(super) fn develop(&self, place: Place, encoded: Encoded, upto: usize) -> Result<Sample, FillError> {
        let Looked { decoded, view, mut sample } = self.look(place, encoded, upto)?;
        let image = view.image(decoded.image, decoded.part).map_err(|source| self.failed(place, upto, source))?;
        sample.insert(IMAGE, image);
        Ok(sample)
    }

    /// What is left to be done to an image of so many channels, where it is done on its way into the row.
    pub(super) fn last_step(&self, channels: usize) -> Option<&Last> {
        let last = self.last.get_or_init(|| Last::of(&self.transforms[self.head..], channels));
        let is_of_these = match last {
            Last::Bytes => true,
            Last::Numbers { channels: known, .. } => *known == channels,
            Last::More => false,
        };
        (is_of_these && self.collate.is_nothing()).then_some(last)
    }

    /// Writes the row of a sample whose image is encoded, where what is left behind the head is the `last` step.
    ///
    /// Nothing is written where there is an error.
    pub(super) fn write_photo(
        &self,
        last: &Last,
        fields: &[FieldSpec],
        place: Place,
        encoded: Encoded,
        row: u32,
        out: &mut dyn RowSink,
    ) -> Result<(), FillError> {
        let Looked { decoded, view, sample } = self.look(place, encoded, self.head)?;
        let (dtype, shape) = last.field(view.shape());
        for field in fields {
            if field.name != IMAGE {
                fitting(&sample, field, &|| self.dataset.name(place.index))?;
            } else if (field.dtype, &*field.shape.0) != (dtype, &shape) {
                let found = Box::new(FieldSpec::new(IMAGE, dtype, shape));
                let sample = self.dataset.name(place.index);
                return Err(FillError::Mismatch { sample, found, expected: Box::new(field.clone()) });
            }
        }
        for (place_of_field, field) in fields.iter().enumerate() {
            let room = out.room(row, place_of_field);
            if field.name == IMAGE {
                assert!(field.row_bytes() == Some(room.len()), "the room for {field} has {} bytes", room.len());
                last.write(&view, &decoded, room).map_err(|source| self.failed(place, self.head, source))?;
            } else if let Some(value) = sample.get(&field.name) {
                assert!(room.len() == value.bytes().len(), "the room for {field} has {} bytes", room.len());
                room.copy_from_slice(value.bytes());
            }
        }
        scratch::give(decoded.image.into_pixels());
        Ok(())
    }

    /// Decodes what the first `upto` transforms leave of an image.
    fn look(&self, place: Place, encoded: Encoded, upto: usize) -> Result<Looked, FillError> {
        let Encoded { file, decoding, sample } = encoded;
        let mut view = None;
        let decoded = decode_part(&file, decoding, &mut |height, width| {
            let looked = self.view(place, View::whole(height, width, decoding.color.channels()), upto);
            // Of an image that cannot be used all is decoded: what is wrong with the file is told first.
            let needed = looked.as_ref().ok().map(View::needed);
            view = Some(looked);
            needed
        });
        let name = || self.dataset.name(place.index);
        let decoded = decoded.map_err(|source| SampleError::Decode { sample: name(), source })?;
        scratch::give(file);
        let view = view.ok_or_else(|| SampleError::new(name(), "its decoder told no size"))??;
        Ok(Looked { decoded, view, sample })
    }

    /// What the first `upto` transforms leave of an image.
    fn view(&self, place: Place, mut view: View, upto: usize) -> Result<View, FillError> {
        for (op, named) in self.transforms.iter().enumerate().take(upto) {
            let Some(geometry) = named.transform.geometry() else { break };
            let looked = geometry.look(&mut view, &mut self.rng(place, op));
            looked.map_err(|source| self.failed_at(place, op, source))?;
        }
        Ok(view)
    }

    /// A view that could not be written: what it does is done by the last transform that looked.
    fn failed(&self, place: Place, upto: usize, source: TransformError) -> FillError {
        self.failed_at(place, upto.saturating_sub(1), source)
    }
}

/// Keeps what a sample was made of for the next.
pub(super) fn give_back(sample: Sample) {
    for value in sample.into_values() {
        if let Value::Image(image) | Value::Mask(image) = value {
            scratch::give(image.into_pixels());
        }
    }
}

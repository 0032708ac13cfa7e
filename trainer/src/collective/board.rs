//! Shared memory in which every rank writes its numbers, and each rank the sum of one piece of them.
//!
//! One slot for each rank and one for the sum; a slot has a row, a piece, for each rank.
//!
//! | who | writes | reads | and then |
//! |---|---|---|---|
//! | rank r | slot r | | all have written |
//! | rank r | piece r of the sum | piece r of every slot | all have added |
//! | rank r | | the sum | it may write again |
//!
//! Nobody reads what somebody writes: between any two lines all ranks wait for one another ([`super::Shared::sum`]).

use std::os::fd::AsFd;

use batchmill_protocol::message::SlotIndex;
use batchmill_protocol::position::Rows;
use batchmill_protocol::slab::{Layout, LayoutError, Slab, SlabReader, SlabWriter};
use batchmill_protocol::tensor::{Dtype, FieldSpec};

use super::{CollectiveError, piece_numbers};

/// The one field of a slot.
const FIELD: usize = 0;

/// Bytes of an `f32`.
const NUMBER_BYTES: usize = size_of::<f32>();

/// A rank's view of it.
#[derive(Debug)]
pub(super) struct Board {
    reader: SlabReader,
    writer: SlabWriter,
    rank: u32,
    world: u32,
    numbers: usize,
}

impl Board {
    /// Reserves one for sums of so many numbers over `world` ranks.
    pub(super) fn create(world: u32, numbers: usize) -> Result<Slab, CollectiveError> {
        let layout = layout(world, numbers)?;
        Slab::create("ranks", &layout).map_err(|error| CollectiveError::of_slab(error, world))
    }

    /// Maps it for one rank.
    pub(super) fn open(fd: impl AsFd, rank: u32, world: u32, numbers: usize) -> Result<Self, CollectiveError> {
        let of_slab = |error| CollectiveError::of_slab(error, world);
        let layout = layout(world, numbers)?;
        let reader = SlabReader::open(fd.as_fd(), layout.clone()).map_err(of_slab)?;
        let writer = SlabWriter::open(fd.as_fd(), layout).map_err(of_slab)?;
        Ok(Self { reader, writer, rank, world, numbers })
    }

    /// How many numbers it is for.
    pub(super) fn numbers(&self) -> usize {
        self.numbers
    }

    /// Writes this rank's numbers.
    pub(super) fn write(&mut self, numbers: &[f32]) {
        let pieces = numbers.chunks(piece_numbers(self.numbers, self.world));
        for (piece, numbers) in (0..self.world).zip(pieces) {
            let bytes = self.writer.row_mut(SlotIndex(self.rank), FIELD, piece);
            for (place, number) in bytes.as_chunks_mut::<NUMBER_BYTES>().0.iter_mut().zip(numbers) {
                *place = number.to_ne_bytes();
            }
        }
    }

    /// Adds up this rank's piece of every rank's numbers, first to last.
    pub(super) fn add(&mut self) {
        let piece = Rows { lo: self.rank, hi: self.rank + 1 };
        let sum = self.writer.row_mut(SlotIndex(self.world), FIELD, self.rank);
        sum.copy_from_slice(self.reader.rows(SlotIndex(0), FIELD, piece));
        let (places, _) = sum.as_chunks_mut::<NUMBER_BYTES>();
        for rank in 1..self.world {
            let (numbers, _) = self.reader.rows(SlotIndex(rank), FIELD, piece).as_chunks::<NUMBER_BYTES>();
            for (place, number) in places.iter_mut().zip(numbers) {
                *place = (f32::from_ne_bytes(*place) + f32::from_ne_bytes(*number)).to_ne_bytes();
            }
        }
    }

    /// Reads the sum.
    pub(super) fn read(&self, numbers: &mut [f32]) {
        let all = Rows { lo: 0, hi: self.world };
        let (sums, _) = self.reader.rows(SlotIndex(self.world), FIELD, all).as_chunks::<NUMBER_BYTES>();
        for (number, sum) in numbers.iter_mut().zip(sums) {
            *number = f32::from_ne_bytes(*sum);
        }
    }
}

fn layout(world: u32, numbers: usize) -> Result<Layout, LayoutError> {
    let field = FieldSpec::new("numbers", Dtype::F32, [piece_numbers(numbers, world)]);
    Layout::new(&[field], world, world.saturating_add(1))
}

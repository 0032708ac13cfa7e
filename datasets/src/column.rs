//! A list of numbers in an index, read where it lies.

use crate::source::{Index, OpenError};

/// Numbers of 8 bytes, little-endian, that all workers share.
#[derive(Clone, Debug)]
pub(crate) struct Column(Index);

impl Column {
    /// The bytes of a list.
    pub(crate) fn pack(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
        numbers.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    /// The list that was [packed](Self::pack).
    ///
    /// # Errors
    /// [`OpenError::Other`] when these are not the bytes of one.
    pub(crate) fn open(index: Index) -> Result<Self, OpenError> {
        if index.as_chunks::<8>().1.is_empty() { Ok(Self(index)) } else { Err(damaged()) }
    }

    /// The same for a list that is known to have `len` numbers.
    ///
    /// # Errors
    /// [`OpenError::Other`] when these are not the bytes of one.
    pub(crate) fn open_of(index: Index, len: u64) -> Result<Self, OpenError> {
        let column = Self::open(index)?;
        if column.len() == len { Ok(column) } else { Err(damaged()) }
    }

    /// The lists that were [joined](Index::join).
    ///
    /// # Errors
    /// [`OpenError::Other`] when these are not their bytes.
    pub(crate) fn open_all<const COLUMNS: usize>(index: &Index) -> Result<[Self; COLUMNS], OpenError> {
        let parts = index.split(COLUMNS).ok_or_else(damaged)?;
        let columns = parts.into_iter().map(Self::open).collect::<Result<Vec<_>, _>>()?;
        columns.try_into().map_err(|_| damaged())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.numbers().len() as u64
    }

    /// The number at `place`; where there is none the largest, which is the index of no sample.
    pub(crate) fn at(&self, place: u64) -> u64 {
        let number = usize::try_from(place).ok().and_then(|place| self.numbers().get(place));
        number.map_or(u64::MAX, |number| u64::from_le_bytes(*number))
    }

    /// All of them, as bytes.
    pub(crate) fn numbers(&self) -> &[[u8; 8]] {
        self.0.as_chunks().0
    }
}

/// An index that is not what it was made as.
pub(crate) fn damaged() -> OpenError {
    OpenError::other("the index is damaged or of another version; open it again", None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_packed() {
        let column = Column::open(Column::pack([3, 0, u64::MAX - 1]).into()).unwrap();
        assert_eq!(column.len(), 3);
        assert_eq!([0, 1, 2, 3, u64::MAX].map(|place| column.at(place)), [3, 0, u64::MAX - 1, u64::MAX, u64::MAX]);
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(Column::open(vec![0; 9].into()).is_err());
        assert!(Column::open_of(vec![0; 16].into(), 3).is_err());
        let joined = Index::from(Index::join([Column::pack([1]), Column::pack([2, 3])]));
        let [one, two] = Column::open_all(&joined).unwrap();
        assert_eq!((one.at(0), two.at(1)), (1, 3));
        assert!(Column::open_all::<3>(&joined).is_err());
    }
}

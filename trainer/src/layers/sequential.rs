//! `sequential`: layers in a row, as one layer of another row.

use super::RowSpec;
use crate::layer::AnyLayer;
use crate::registry::{Build, Registry};
use crate::section::{Mistake, Section};

/// `layers`: tables as `[[layer]]`.
pub(super) fn parse(section: &mut Section<'_>, registry: &Registry) -> Result<Build, Mistake> {
    let row = RowSpec::parse_inside(section, "layers", registry)?;
    if row.is_empty() {
        return Err(section.mistake(&format!("{} has no `layers`", section.name())));
    }
    Ok(Box::new(move |arrives, device| {
        let (row, _) = row.build(arrives, device)?;
        Ok(AnyLayer::new(row))
    }))
}

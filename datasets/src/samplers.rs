//! The samplers that Batchmill brings along.

mod sequential;
mod shuffled;

pub use sequential::Sequential;
pub use shuffled::Shuffled;

//! What two Batchmill processes must agree on, and nothing else.
//!
//! A loader and a trainer meet at a Unix socket ([`address`], [`frame`], [`message`]), the loader hands over the
//! read-only memory of a stream ([`slab`], [`fd`]), and from then on short messages say which slot may be read.
//! [`client`] is the whole of it from a trainer's side; a [`ledger`] proves afterwards what was received.

pub mod address;
pub mod client;
pub mod digest;
pub mod fd;
pub mod frame;
pub mod identity;
pub mod ledger;
pub mod message;
pub mod position;
pub mod share;
pub mod slab;
pub mod status;
pub mod tensor;

//! Layers: a tar stream becomes checked entries ([`tar`]), whose rules are the image
//! specification's (layer.md).

pub mod entry;
mod header;
mod pax;
mod sparse;
pub mod tar;

pub use entry::{Entry, EntryKind, EntryPath, Extent, Timestamp};

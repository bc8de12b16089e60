//! Layers: a tar stream becomes checked entries ([`tar`]), whose rules are the image
//! specification's (layer.md, [`rules`]), and which a [`LayerWriter`] puts where they belong.

pub mod attrs;
pub mod dir;
pub mod entry;
mod header;
pub mod limits;
pub mod owner;
mod pax;
pub mod rules;
mod sparse;
pub mod tar;
pub mod tar_write;
mod write;

pub use entry::{Entry, EntryKind, EntryPath, Extent, Timestamp};
pub use limits::Limits;
pub use owner::{IdMap, Ownership};
pub use write::{Data, Found, LayerWriter, Lower, NoLower, Place, Recorder, write_layer};
pub(crate) use write::{NoData, ReadData};

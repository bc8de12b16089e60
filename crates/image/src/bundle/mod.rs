//! Bundles: an image's configuration becomes `config.json` ([`apply_config`], by image-spec's
//! conversion.md), its layers a `rootfs` ([`unpack()`]); what was changed there becomes a layer
//! again ([`repack()`]).

mod convert;
mod repack;
mod tree;
mod unpack;
mod users;

pub use convert::{apply_config, environment, volumes};
pub(crate) use repack::with_layer;
pub use repack::{Compression, NewLayer, RepackOptions, repack};
pub(crate) use tree::write_entry;
pub use tree::{Change, ChangeKind, Listing, Seen, compare, diff, list, write_changes};
pub use unpack::{ORIGIN, Origin, UnpackOptions, unpack};
pub use users::{User, Users};

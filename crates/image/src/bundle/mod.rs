//! Bundles: an image's configuration becomes `config.json` ([`apply_config`], by image-spec's
//! conversion.md), its layers a `rootfs`; what was changed there becomes a layer
//! again.

mod convert;
mod users;

pub use convert::{apply_config, environment, volumes};
pub use users::{User, Users};

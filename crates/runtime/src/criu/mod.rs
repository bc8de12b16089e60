//! Saving and restoring processes with criu.

mod message;
mod protobuf;
mod swrk;

pub use message::{CgroupsMode, Switches};

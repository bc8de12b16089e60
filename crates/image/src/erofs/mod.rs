//! A layer as one erofs image, written while the layer streams in.
//!
//! ```text
//! block 0   superblock, the root's inode
//! then      file data in whole blocks, as it arrives; between it clusters of 16 blocks with
//!           inodes, each followed by its attributes and, where that is small, by the last part
//!           of its data
//! last      inodes of directories, then those of their blocks that do not fit behind an inode
//! ```
//!
//! Nothing of a file is held in memory: its inode is complete when its data is. What is held is
//! the tree of names, which directories need at the end. Holes of files are holes of the image.
//! Data begins on a block, so that the page cache maps it as any file's. No path of the image is
//! ever a path of the host.

mod finish;
mod format;
mod image;
mod reader;
mod tree;
mod writer;

pub(crate) use reader::{Reader, Says, hash_runs};
pub use writer::ErofsWriter;

//! `hullctl ns` beside util-linux' programs: what both can do must come out the same.

mod enter;
mod list;
mod support;
mod unshare;

//! `hullctl ns` beside util-linux' programs: what both can do must come out the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod enter;
mod list;
mod support;
mod unshare;

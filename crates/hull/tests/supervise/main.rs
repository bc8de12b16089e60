//! `hull supervise`, driven as hulld drives it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

mod ends;
mod execs;
mod foreign;
mod life;
mod logs;
mod peers;
mod starts;
mod support;

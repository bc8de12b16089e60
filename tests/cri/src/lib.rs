//! The stage for tests of hulld: a daemon of one's own in a network namespace of one's own, with
//! an image made on the spot, and everything cleared away at the end, also of a failed test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod daemon;
mod image_maker;
mod registry;
mod requests;

pub use daemon::{Daemon, Options, programs_dir};
pub use image_maker::IMAGE;
pub use registry::Registry;
pub use requests::{container, creation, pod, sleeper};

/// Waits until `done` says so; a test that waits for ever fails by its runner's limit, so this
/// one has an end that is far beyond anything real.
pub async fn until<F: AsyncFnMut() -> bool>(what: &str, mut done: F) {
    for _ in 0..6000 {
        if done().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

//! What must hold for the bytes of any layer. The fuzz targets call these, and so do the
//! ordinary tests of the crate `image`.

#![allow(dead_code, reason = "each target calls one of them")]
#![allow(clippy::expect_used, reason = "a test fails by it")]

use image::erofs::ErofsWriter;
use image::layer::rules::{Meaning, meaning};
use image::layer::{EntryPath, LayerWriter as _, Limits, NoLower, tar, write_layer};
use image::{Error, Result};

/// Small, so that a fuzzer does not find memory and time.
const LIMITS: Limits = Limits {
    entries: 1000,
    stored: 1 << 20,
    apparent: 1 << 30,
    ratio: 1000,
    ratio_after: 1 << 20,
};

/// A layer becomes an image or one line.
pub fn layer(bytes: &[u8]) -> bool {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = rustix::fs::memfd_create("layer", flags).expect("memory");
    let mut writer = ErofsWriter::new(file);
    let mut reader = tar::Reader::new(bytes);
    let written = write_layer(&mut reader, &mut writer, LIMITS, None);
    let finished = written.and_then(|_| writer.finish(&NoLower));
    accept(finished).is_some()
}

/// The same bytes with the checksums of what looks like a header set right: what a fuzzer changes
/// would hardly ever be read otherwise.
pub fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    for block in all.chunks_exact_mut(512) {
        if block.get(257..262) == Some(b"ustar") {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    all
}

/// A path is an entry, hides something inside the layer, or is refused in one line.
pub fn whiteout(bytes: &[u8]) {
    let Some(path) = accept(EntryPath::parse(bytes)) else {
        return;
    };
    inside(&path);
    match accept(meaning(&path)) {
        Some(Meaning::Whiteout(hidden)) => {
            inside(&hidden);
            assert_eq!(hidden.parent(), path.parent());
            assert!(!hidden.is_root());
        }
        Some(Meaning::Opaque(dir)) => assert_eq!(dir, path.parent()),
        Some(Meaning::Entry | Meaning::Nothing) | None => {}
    }
}

fn inside(path: &EntryPath) {
    for name in path.components() {
        assert!(!matches!(name.as_slice(), b"" | b"." | b".."));
        assert!(!name.iter().any(|b| matches!(b, b'/' | 0)) && name.len() < 256);
    }
}

fn accept<T>(result: Result<T>) -> Option<T> {
    result.map_err(|e: Error| one_line(&e.to_string())).ok()
}

fn one_line(message: &str) {
    assert!(!message.is_empty());
    assert!(!message.contains(char::is_control), "{message:?}");
    assert!(message.chars().count() < 2500, "{message:?}");
}

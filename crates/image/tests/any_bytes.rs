//! The checks of the fuzz targets, on streams that are nearly right.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "../../../fuzz/checks_image.rs"]
mod checks;

use image::layer::tar_write::TarWriter;
use image::layer::{Entry, EntryKind, EntryPath, Extent};
use proptest::prelude::*;

/// An honest stream of every kind of entry.
fn honest() -> Vec<u8> {
    let path = |raw: &str| EntryPath::parse(raw.as_bytes()).unwrap();
    let entry = |raw: &str, kind: EntryKind| Entry {
        path: path(raw),
        kind,
        mode: 0o755,
        xattrs: [(b"user.x".to_vec(), b"value".to_vec())].into(),
        ..Entry::default()
    };
    let extents = vec![Extent {
        offset: 0,
        len: 5000,
    }];
    let mut tar = TarWriter::new(Vec::new());
    let data = [7u8; 5000];
    for e in [
        entry("d", EntryKind::Directory),
        entry(
            "d/f",
            EntryKind::File {
                size: 5000,
                extents,
            },
        ),
        entry(
            "d/s",
            EntryKind::Symlink {
                target: b"../d".to_vec(),
            },
        ),
        entry("d/s/through", EntryKind::Fifo),
        entry(
            "h",
            EntryKind::Hardlink {
                target: path("d/f"),
            },
        ),
        entry("c", EntryKind::CharDevice { major: 5, minor: 1 }),
    ] {
        let mut bytes = data.as_slice();
        let is_file = matches!(e.kind, EntryKind::File { .. });
        let data: Option<&mut dyn std::io::Read> = if is_file { Some(&mut bytes) } else { None };
        tar.entry(&e, data).unwrap();
    }
    tar.whiteout(&path("d/gone")).unwrap();
    tar.opaque(&path("d")).unwrap();
    tar.finish().unwrap()
}

/// The checksum of each header made right again, so that damage gets past it.
fn reseal(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

#[test]
fn honest_streams_become_images() {
    assert!(checks::layer(&honest()));
    assert!(checks::layer(b""));
    assert!(!checks::layer(&[b'x'; 512]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_streams(damage in proptest::collection::vec((0usize..12_000, any::<u8>()), 1..8), cut in 0usize..14_000) {
        let mut bytes = honest();
        for (at, value) in damage {
            if let Some(b) = bytes.get_mut(at) {
                *b = value;
            }
        }
        reseal(&mut bytes);
        checks::layer(&bytes);
        bytes.truncate(cut);
        checks::layer(&bytes);
    }

    #[test]
    fn names(parts in proptest::collection::vec("(\\.wh\\.){0,2}[a-z./]{0,4}(\\.wh\\.\\.opq)?", 0..5)) {
        checks::whiteout(parts.join("/").as_bytes());
    }
}

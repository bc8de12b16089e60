//! An image that is honest and uses everything there is, through umoci and through hull.

use crate::against_umoci::compare;
use crate::archive::{Archive, Meta};
use crate::layout::Pack;

/// cap_net_raw+ep, version 2 (linux/capability.h).
const CAPABILITY: &[u8] =
    b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

fn lower() -> Vec<u8> {
    let archive = Archive::new()
        .dir_with("./", &Meta::mode(0o755))
        .dir_with("tmp", &Meta::mode(0o1777))
        .dir("odd")
        .dir("plain")
        .file_with(
            "plain/ping",
            b"ping",
            &Meta::mode(0o755).xattr("security.capability", CAPABILITY),
        )
        .file_with(
            "plain/tagged",
            b"t",
            &Meta::default().xattr("user.note", b"any \x00 byte"),
        )
        .dir_with(
            "plain/tagged-dir",
            &Meta::mode(0o2775).owner(3, 4).xattr("user.dir", b"d"),
        )
        .file_with("plain/suid", b"s", &Meta::mode(0o6755).owner(1000, 1000))
        .file_with("plain/unreadable", b"u", &Meta::mode(0))
        .file_with(
            "plain/large-ids",
            b"",
            &Meta::default().owner(2_000_000, 2_097_151),
        )
        .file_with(
            "plain/precise",
            b"",
            &Meta::default().pax("mtime", b"1500000000.123456789"),
        );
    odd_and_large(special(archive)).done()
}

/// Links, devices, holes, directories that are links.
fn special(archive: Archive) -> Archive {
    let deep = format!("deep/{}", "long-name-of-a-directory/".repeat(12));
    archive
        .symlink("plain/dangling", "/nowhere")
        .symlink("plain/long", &"t/".repeat(90))
        .hard_link("plain/dangling-too", "plain/dangling")
        .char_device("plain/null", 1, 3)
        .block_device("plain/disk", 8, 300)
        .fifo("plain/pipe")
        .file(&format!("{deep}file"), b"deep")
        .file(&format!("plain/{}", "n".repeat(255)), b"long")
        .sparse(
            "plain/holes",
            10 << 20,
            &[
                (0, b"start"),
                (5 << 20, &[9; 5000]),
                ((10 << 20) - 3, b"end"),
            ],
        )
        .sparse("plain/all-hole", 3 << 20, &[(3 << 20, b"")])
        .file("twice", b"first version")
        .dir("becomes-file")
        .file("becomes-file/inside", b"x")
        .file("link-source", b"old")
        .symlink("way", "plain")
        .file("way/through-link", b"in plain")
        .symlink("chain", "way/tagged-dir")
        .file("chain/through-two", b"two")
}

/// Sizes around all limits of the formats, names of every kind, a large directory.
fn odd_and_large(mut archive: Archive) -> Archive {
    let odd = [
        "odd/!before",
        "odd/-dash",
        "odd/new\nline",
        "odd/\u{fc}ml\u{e4}ut",
        "odd/ space ",
    ];
    for size in [
        1usize, 2047, 2048, 2049, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 70_000,
    ] {
        let data: Vec<u8> = (0..size).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
        archive = archive.file(&format!("sizes/{size}"), &data);
    }
    for name in odd {
        archive = archive.file(name, name.as_bytes());
    }
    for i in 0..700 {
        archive = archive.file(&format!("crowd/entry-with-a-name-{i:04}"), b"");
    }
    archive.file("twice", b"second version, longer")
}

fn upper() -> Vec<u8> {
    Archive::new()
        .file("becomes-file", b"now a file")
        .file("plain/.wh.pipe", b"")
        .file("sizes/.wh..wh..opq", b"")
        .file("sizes/one", b"1")
        // Whiteouts never touch what their own layer has, before or after them.
        .file("both", b"stays")
        .file(".wh.both", b"")
        .file("odd/.wh.-dash", b"")
        .file("odd/-dash", b"again")
        .file("odd/.wh.never-was", b"")
        .file("crowd/.wh.entry-with-a-name-0007", b"")
        .file("way/from-above", b"in plain, from above")
        .symlink("way2", "crowd")
        .file("way2/new", b"new")
        .dir_with("plain/tagged-dir", &Meta::mode(0o700).owner(9, 9))
        .done()
}

#[test]
fn everything_at_once() {
    compare(&[lower(), upper()], Pack::Gzip);
}

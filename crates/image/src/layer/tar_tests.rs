//! Archives made by GNU tar, and archives that nobody honest makes.

use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::process::Command;

use super::*;

/// All entries with their data as stored.
fn read_all(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::new(archive);
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        let mut buffer = [0u8; 700];
        loop {
            match reader.read_data(&mut buffer)? {
                0 => break,
                n => data.extend_from_slice(&buffer[..n]),
            }
        }
        all.push((entry, data));
    }
    Ok(all)
}

fn gnu_tar(dir: &Path, format: &str, more: &[&str]) -> Vec<u8> {
    let out = Command::new("tar")
        .args(["--create", "--sparse", "--sort=name", "--file=-"])
        .arg(format!("--format={format}"))
        .args(more)
        .arg("--directory")
        .arg(dir)
        .arg(".")
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

/// A file with holes: its data at 1 MiB and at 9 MiB, its end at 10 MiB.
fn sample() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir_all(root.join("d/deep")).unwrap();
    std::fs::write(root.join("d/hello"), "hello").unwrap();
    let long = "n".repeat(120);
    std::fs::write(root.join("d").join(&long), "x".repeat(1024)).unwrap();
    symlink("t".repeat(150), root.join("link")).unwrap();
    std::fs::hard_link(root.join("d/hello"), root.join("other")).unwrap();
    let mut sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    sparse.write_all_at(b"one", 1 << 20).unwrap();
    sparse.write_all_at(&[7u8; 9000], 9 << 20).unwrap();
    sparse.flush().unwrap();
    dir
}

#[test]
fn reads_what_gnu_tar_writes() {
    let dir = sample();
    for (format, more) in [
        ("gnu", &[][..]),
        ("pax", &["--sparse-version=0.0"][..]),
        ("pax", &["--sparse-version=0.1"]),
        ("pax", &["--sparse-version=1.0"]),
    ] {
        let entries = read_all(&gnu_tar(dir.path(), format, more)).unwrap();
        let find = |path: &str| {
            let found = entries.iter().find(|(e, _)| e.path.to_string() == path);
            found
                .unwrap_or_else(|| panic!("{format} {more:?}: no {path}"))
                .clone()
        };
        assert!(entries[0].0.path.is_root());
        assert_eq!(find("/d/hello").1, b"hello");
        assert_eq!(find("/d/deep").0.kind, EntryKind::Directory);
        assert_eq!(find(&format!("/d/{}", "n".repeat(120))).1.len(), 1024);
        let target = "t".repeat(150).into_bytes();
        assert_eq!(find("/link").0.kind, EntryKind::Symlink { target });
        let target = EntryPath::parse(b"d/hello").unwrap();
        assert_eq!(find("/other").0.kind, EntryKind::Hardlink { target });
        let (sparse, data) = find("/sparse");
        let EntryKind::File { size, extents } = sparse.kind else {
            panic!("not a file")
        };
        assert_eq!(size, 10 << 20, "{format} {more:?}");
        let at = |offset: u64| {
            let mut stored = 0;
            for e in &extents {
                if (e.offset..e.offset + e.len).contains(&offset) {
                    return data[usize::try_from(stored + offset - e.offset).unwrap()];
                }
                stored += e.len;
            }
            0
        };
        assert_eq!(
            (at(0), at(1 << 20), at(9 << 20), at((9 << 20) + 8999)),
            (0, b'o', 7, 7)
        );
    }
}

/// A header block with a right checksum.
fn header(name: &[u8], kind: u8, size: u64, link: &[u8]) -> Vec<u8> {
    let mut block = vec![0u8; BLOCK];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(block)
}

fn seal(mut block: Vec<u8>) -> Vec<u8> {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[test]
fn refuses_what_leads_outside_or_lies() {
    let huge_map = {
        let mut block = header(b"s", b'S', 0, b"");
        block[257..265].copy_from_slice(b"ustar  \0");
        block[386..397].copy_from_slice(b"77777777777");
        block[398..409].copy_from_slice(b"77777777777");
        seal(block)
    };
    let pax = |records: &[(&str, &str)]| {
        // All these records are of two-digit length.
        let line = |(k, v): &(&str, &str)| format!("{} {k}={v}\n", k.len() + v.len() + 5);
        let text: String = records.iter().map(line).collect();
        let mut archive = header(b"x", b'x', text.len() as u64, b"");
        archive.extend(text.as_bytes());
        archive.resize(2 * BLOCK, 0);
        archive.extend(header(b"f", b'0', 0, b""));
        archive
    };
    for (what, archive) in [
        ("..", header(b"../etc/passwd", b'0', 0, b"")),
        (
            "a hard link out",
            header(b"l", b'1', 0, b"../../etc/shadow"),
        ),
        ("an empty symlink", header(b"l", b'2', 0, b"")),
        ("data that is missing", header(b"f", b'0', 1 << 20, b"")),
        ("an unknown type", header(b"f", b'Z', 0, b"")),
        (
            "a header that is cut",
            header(b"f", b'0', 0, b"")[..100].to_vec(),
        ),
        ("a large extended header", header(b"x", b'x', 2 << 20, b"")),
        ("a sparse map beyond its size", huge_map),
        (
            "a sparse map that overlaps",
            pax(&[("GNU.sparse.size", "99"), ("GNU.sparse.map", "5,5,0,5")]),
        ),
        ("an id out of range", pax(&[("uid", "4294967295")])),
        ("a negative size", pax(&[("size", "-1")])),
    ] {
        assert!(read_all(&archive).is_err(), "{what}");
    }
}

#[test]
fn the_end_is_a_zero_block_or_the_end() {
    let file = header(b"f", b'0', 0, b"");
    assert_eq!(read_all(&file).unwrap().len(), 1);
    let ended = [&file[..], &[0; 2 * BLOCK], &file[..]].concat();
    assert_eq!(read_all(&ended).unwrap().len(), 1);
    assert_eq!(read_all(b"").unwrap().len(), 0);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(noise in proptest::collection::vec(proptest::num::u8::ANY, 0..2048), at in 0usize..512) {
        let mut archive = header(b"f", b'x', 300, b"");
        archive.extend(&noise);
        let _ = read_all(&archive);
        let mut block = header(b"f", b'S', 100, b"");
        for (to, from) in block[at..].iter_mut().zip(&noise) {
            *to = *from;
        }
        let mut archive = seal(block);
        archive.extend(&noise);
        let _ = read_all(&archive);
    }
}

//! Simple signing with GPG keys, checked by Debian's `gpgv`: it trusts the keyring that it is
//! given and no other.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::MemfdFlags;

use super::payload::Payload;
use crate::config::Requirement;
use crate::transport::{RawManifest, Source, files};

const KIND: &str = "atomic container signature";
const LIMIT: u64 = 4 << 20;

/// Checks that one of the signatures is by one of the keys.
pub fn check(
    requirement: &Requirement,
    source: &dyn Source,
    document: &RawManifest,
) -> Result<(), String> {
    let Requirement::SignedBy {
        key_type,
        key_path,
        key_paths,
        key_data,
        signed_identity,
    } = requirement
    else {
        return Err("not signedBy".to_owned());
    };
    if key_type != "GPGKeys" {
        return Err(format!(
            "signedBy with keyType {key_type:?}: only GPGKeys can be checked"
        ));
    }
    let mut keyring = Vec::new();
    for path in key_path.iter().chain(key_paths.iter().flatten()) {
        keyring.extend(binary(
            files::read_limited(path, LIMIT).map_err(|e| e.to_string())?,
        )?);
    }
    if let Some(data) = key_data {
        let bytes = STANDARD
            .decode(data.trim())
            .map_err(|_| "keyData is not base64".to_owned())?;
        keyring.extend(binary(bytes)?);
    }
    if keyring.is_empty() {
        return Err("signedBy names no key".to_owned());
    }
    let signatures = source
        .signatures(&document.digest)
        .map_err(|e| e.to_string())?;
    let mut why = "no signature is there".to_owned();
    for signature in &signatures {
        let result = verify(&keyring, signature).and_then(|signed| {
            let identity = signed_identity.as_ref();
            Payload::check(
                &signed,
                KIND,
                &document.digest,
                source.repository(),
                identity,
            )
        });
        match result {
            Ok(()) => return Ok(()),
            Err(e) => why = e,
        }
    }
    Err(why)
}

/// The signed text, if one good signature by a key of the keyring is on it.
fn verify(keyring: &[u8], signature: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |e: std::io::Error| format!("gpgv (package gpgv): {e}");
    let memfd = rustix::fs::memfd_create("hull-keyring", MemfdFlags::CLOEXEC);
    let mut ring = File::from(memfd.map_err(|e| failed(e.into()))?);
    ring.write_all(keyring).map_err(failed)?;
    // By this process's number: the child's own descriptors are others.
    let path = PathBuf::from(format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        ring.as_raw_fd()
    ));
    let mut child = Command::new("gpgv")
        .args([
            "--quiet",
            "--homedir",
            "/nonexistent",
            "--status-fd",
            "2",
            "--output",
            "-",
        ])
        .arg("--keyring")
        .arg(&path)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut signed, mut status) = (Vec::new(), String::new());
    let done = std::thread::scope(|scope| {
        // All three pipes at once: none may fill up while another is waited for.
        let feed = scope.spawn(move || stdin.map(|mut s| s.write_all(signature)));
        let said = scope.spawn(|| stderr.map(|s| s.take(LIMIT).read_to_string(&mut status)));
        let read = stdout.map(|s| s.take(LIMIT).read_to_end(&mut signed));
        // A gpgv that does not read all has seen something that it will say.
        let _ = (feed.join(), said.join());
        read.transpose().map(drop)
    });
    let exit = child.wait().map_err(failed)?;
    done.map_err(failed)?;
    drop(ring);
    if exit.success() && is_good(&status) {
        return Ok(signed);
    }
    Err("a signature is not by the policy's key".to_owned())
}

/// Exactly one signature, and nothing but good about it.
fn is_good(status: &str) -> bool {
    let words = status.lines().filter_map(|l| l.strip_prefix("[GNUPG:] "));
    let words: Vec<&str> = words.filter_map(|l| l.split(' ').next()).collect();
    let count = |word: &str| words.iter().filter(|w| **w == word).count();
    let bad = [
        "BADSIG",
        "ERRSIG",
        "EXPSIG",
        "EXPKEYSIG",
        "REVKEYSIG",
        "KEYREVOKED",
        "NODATA",
    ];
    count("GOODSIG") == 1 && count("VALIDSIG") == 1 && bad.iter().all(|b| count(b) == 0)
}

/// A key without its ASCII armour.
fn binary(key: Vec<u8>) -> Result<Vec<u8>, String> {
    if !key.starts_with(b"-----BEGIN PGP") {
        return Ok(key);
    }
    let text = String::from_utf8_lossy(&key);
    // Headers end at the first empty line; the last line before the end is a checksum.
    let body: String = text
        .lines()
        .skip_while(|l| !l.trim().is_empty())
        .map(str::trim)
        .take_while(|l| !l.starts_with('=') && !l.starts_with("-----"))
        .collect();
    STANDARD
        .decode(body)
        .map_err(|_| "the GPG key's armour is broken".to_owned())
}

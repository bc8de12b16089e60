//! A reader that ends well only after the right bytes.

use std::io::{self, Read};

use crate::document::Descriptor;
use crate::{Digest, Hasher};

/// Passes bytes on and reports an error instead of the end when they were not the descriptor's:
/// too many, too few, or of another digest. Never passes on more than the descriptor's size.
#[derive(Debug)]
pub struct Verified<R> {
    inner: R,
    hasher: Option<Hasher>,
    expected: Digest,
    left: u64,
    size: u64,
}

impl<R: Read> Verified<R> {
    /// Reads what `blob` describes from `inner`.
    pub fn new(inner: R, blob: &Descriptor) -> Self {
        Self {
            inner,
            hasher: Some(Hasher::new(blob.digest.algorithm())),
            expected: blob.digest.clone(),
            left: blob.size,
            size: blob.size,
        }
    }

    fn bad(&self, why: &str) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("blob {}: {why}", self.expected),
        )
    }

    fn end(&mut self) -> io::Result<usize> {
        if self.left > 0 {
            let got = self.size - self.left;
            return Err(self.bad(&format!("ends after {got} of {} bytes", self.size)));
        }
        if let Some(hasher) = self.hasher.take() {
            let digest = hasher.finish();
            if digest != self.expected {
                return Err(self.bad(&format!("the bytes have the digest {digest}")));
            }
        }
        Ok(0)
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.hasher.is_none() {
            return Ok(0);
        }
        let n = self.inner.read(buffer)?;
        if n == 0 {
            return self.end();
        }
        self.left = (self.left)
            .checked_sub(n as u64)
            .ok_or_else(|| self.bad(&format!("more than {} bytes", self.size)))?;
        if let (Some(hasher), Some(bytes)) = (&mut self.hasher, buffer.get(..n)) {
            hasher.update(bytes);
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], digest_of: &[u8], size: u64) -> io::Result<Vec<u8>> {
        let blob = Descriptor {
            size,
            ..Descriptor::of(digest_of, "x")
        };
        let mut out = Vec::new();
        Verified::new(bytes, &blob).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn only_the_right_bytes_end_well() {
        assert_eq!(read(b"abc", b"abc", 3).unwrap(), b"abc");
        assert_eq!(read(b"", b"", 0).unwrap(), b"");
        for (bytes, of, size, why) in [
            (&b"abd"[..], &b"abc"[..], 3, "have the digest"),
            (b"ab", b"abc", 3, "ends after 2 of 3"),
            (b"abcd", b"abc", 3, "more than 3"),
            (b"", b"abc", 0, "have the digest"),
        ] {
            let error = read(bytes, of, size).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}

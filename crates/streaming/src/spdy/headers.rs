//! Header blocks: name-value lists under a zlib stream that lives as long as the connection.

use bytes::Buf;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::dictionary;

/// Names and values. Names are in lower case.
pub type Headers = Vec<(String, String)>;

/// The longest block after decompression: small blocks must not become large memory.
pub const LONGEST: usize = 64 << 10;
/// The longest list that is sent; incompressible, it still fits a control frame.
const LONGEST_SENT: usize = 48 << 10;

/// Compresses blocks; one per connection and direction.
#[derive(Debug)]
pub struct Deflater(Compress);

impl Deflater {
    /// With the protocol's dictionary.
    ///
    /// # Errors
    /// zlib refuses the dictionary.
    pub fn new() -> Result<Self, String> {
        let mut zlib = Compress::new(Compression::fast(), true);
        zlib.set_dictionary(dictionary::bytes())
            .map_err(|e| format!("compress headers: {e}"))?;
        Ok(Deflater(zlib))
    }

    /// The compressed block.
    ///
    /// # Errors
    /// The headers are too long for a frame.
    pub fn block(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, String> {
        let plain = encode(headers);
        if plain.len() > LONGEST_SENT {
            return Err(format!(
                "headers of {} bytes, {LONGEST_SENT} are allowed",
                plain.len()
            ));
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let mut rest = &plain[..];
        loop {
            let before = self.0.total_in();
            self.0
                .compress_vec(rest, &mut out, FlushCompress::Sync)
                .map_err(|e| format!("compress headers: {e}"))?;
            let used = usize::try_from(self.0.total_in() - before).unwrap_or(rest.len());
            rest = &rest[used..];
            // zlib has put out everything when it left room.
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(256);
        }
    }
}

/// Decompresses blocks; one per connection and direction.
#[derive(Debug)]
pub struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Self {
        Inflater(Decompress::new(true))
    }
}

impl Inflater {
    /// The headers of a block.
    ///
    /// # Errors
    /// Not zlib, another dictionary, not a list of names and values, or too long.
    pub fn headers(&mut self, block: &[u8]) -> Result<Headers, String> {
        decode(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let (read, written) = (self.0.total_in(), self.0.total_out());
            let result = self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            let used = usize::try_from(self.0.total_in() - read).unwrap_or(rest.len());
            rest = &rest[used..];
            match result {
                Err(e) if e.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(dictionary::bytes())
                        .map_err(|e| format!("headers: {e}"))?;
                    continue;
                }
                Err(e) => return Err(format!("headers: {e}")),
                Ok(_) => {}
            }
            if out.len() > LONGEST {
                return Err(format!("headers longer than {LONGEST} bytes"));
            }
            let full = out.len() == out.capacity();
            if rest.is_empty() && !full {
                return Ok(out);
            }
            if self.0.total_in() == read && self.0.total_out() == written && !full {
                return Err("headers: bytes after the end of the zlib stream".to_owned());
            }
            if full {
                out.reserve(out.len());
            }
        }
    }
}

fn encode(headers: &[(&str, &str)]) -> Vec<u8> {
    let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    let mut out = Vec::new();
    out.extend_from_slice(&length(headers.len()));
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        out.extend_from_slice(&length(text.len()));
        out.extend_from_slice(text.as_bytes());
    }
    out
}

fn decode(mut rest: &[u8]) -> Result<Headers, String> {
    let cut = || "headers: the block is cut short".to_owned();
    let count = rest.try_get_u32().map_err(|_| cut())?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut rest).ok_or_else(cut)?;
        let value = text(&mut rest).ok_or_else(cut)?;
        if name.is_empty() {
            return Err("headers: an empty name".to_owned());
        }
        headers.push((name.to_ascii_lowercase(), value));
    }
    match rest.is_empty() {
        true => Ok(headers),
        false => Err("headers: bytes after the last value".to_owned()),
    }
}

/// A text behind its length; what is no UTF-8 is not ours to understand and gets a mark.
fn text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(rest.try_get_u32().ok()?).ok()?;
    let bytes = rest.get(..length)?;
    let text = String::from_utf8_lossy(bytes).into_owned();
    rest.advance(length);
    Some(text)
}

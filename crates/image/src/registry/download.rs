//! A blob's bytes, over as many connections as it takes.

use std::io::{self, Read};
use std::sync::Arc;

use ureq::http::Method;

use super::client::{Call, Client, Needs};
use super::http::Response;
use crate::document::Descriptor;
use crate::{Error, Result};

/// Progress that earns new attempts: a connection that dies at every byte must end some time.
const PROGRESS: u64 = 1 << 20;

/// Reads a blob and asks for the rest when a connection breaks.
pub struct Download {
    client: Arc<Client>,
    blob: Descriptor,
    offset: u64,
    body: Option<Box<dyn Read + Send>>,
    failures: u32,
    /// Offset at the first of the failures in a row.
    stuck_at: u64,
}

impl Download {
    /// Makes the first request.
    pub fn begin(client: Arc<Client>, blob: &Descriptor) -> Result<Self> {
        let mut download = Self {
            client,
            blob: blob.clone(),
            offset: 0,
            body: None,
            failures: 0,
            stuck_at: 0,
        };
        download.body = Some(download.request()?);
        Ok(download)
    }

    fn request(&self) -> Result<Box<dyn Read + Send>> {
        let target = self.client.path(&format!("blobs/{}", self.blob.digest));
        let mut call = Call::new(Method::GET, target, Needs::Pull);
        if self.offset > 0 {
            call = call.header("range", format!("bytes={}-", self.offset));
        }
        let response = self.client.call(&call, &[200, 206])?;
        let begins = match response.status {
            206 => range_start(&response),
            // It does not do ranges: the part that is here already comes again.
            _ => Some(0),
        };
        let url = response.url.to_string();
        let mut body = response.into_reader();
        match begins {
            Some(start) if start <= self.offset => {
                skip(&mut body, self.offset - start).map_err(|e| Error::Connection {
                    what: format!("GET {url}"),
                    why: e.to_string(),
                })?;
                Ok(body)
            }
            _ => Err(Error::Document {
                what: "blob",
                why: format!("{url}: asked from byte {}, another part came", self.offset),
            }),
        }
    }

    /// Connects anew after `error`, or gives up with it.
    fn again(&mut self, error: io::Error) -> io::Result<()> {
        self.body = None;
        if self.offset >= self.stuck_at + PROGRESS {
            self.failures = 0;
        }
        if self.failures == 0 {
            self.stuck_at = self.offset;
        }
        let Some(pause) = self.client.retry().pause(self.failures, None) else {
            let text = format!(
                "gave up at byte {} of {} after {} attempts: {error}",
                self.offset,
                self.blob.size,
                self.failures + 1
            );
            return Err(io::Error::new(error.kind(), text));
        };
        self.failures += 1;
        std::thread::sleep(pause);
        match self.request() {
            Ok(body) => self.body = Some(body),
            // The next read tries again.
            Err(e) if e.is_transient() => {}
            Err(e) => return Err(io::Error::other(e.to_string())),
        }
        Ok(())
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let result = match &mut self.body {
                Some(body) => body.read(buffer),
                None => Err(io::Error::new(
                    io::ErrorKind::NotConnected,
                    "not reached again",
                )),
            };
            match result {
                Ok(0) if self.offset >= self.blob.size => return Ok(0),
                Ok(0) => {
                    let text = "the registry closed the connection";
                    self.again(io::Error::new(io::ErrorKind::UnexpectedEof, text))?;
                }
                Ok(n) => {
                    self.offset += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // All is here; how the connection ends does not matter.
                Err(_) if self.offset >= self.blob.size => return Ok(0),
                Err(e) => self.again(e)?,
            }
        }
    }
}

fn range_start(response: &Response) -> Option<u64> {
    let range = response.header("content-range")?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.parse().ok()
}

fn skip(body: &mut dyn Read, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut body.take(count), &mut io::sink())?;
    if skipped == count {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

//! From streams to descriptors: pipes for a process, and the tasks that fill and empty them.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use crate::backend::{Reader, Writer};

/// One buffer per direction.
const CHUNK: usize = 16 << 10;

/// The three of a process.
#[derive(Debug, Default)]
pub struct Ends {
    /// What the process reads.
    pub stdin: Option<OwnedFd>,
    /// What it writes.
    pub stdout: Option<OwnedFd>,
    /// See `stdout`.
    pub stderr: Option<OwnedFd>,
}

/// The copying tasks; dropping it stops them.
#[derive(Debug)]
pub struct Pump {
    input: Option<JoinHandle<()>>,
    output: Vec<JoinHandle<()>>,
}

impl Pump {
    /// Waits until all that was written to the output pipes has gone to the client, which is when
    /// every holder of their far ends has closed them; then stops reading from the client.
    pub async fn finish(mut self) {
        for task in &mut self.output {
            // The task neither panics nor is it cancelled before this Pump is dropped.
            let _ = task.await;
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        for task in self.input.iter().chain(&self.output) {
            task.abort();
        }
    }
}

/// Makes the pipes and starts the tasks.
pub(crate) fn start(
    stdin: Option<Reader>,
    stdout: Option<Writer>,
    stderr: Option<Writer>,
) -> io::Result<(Ends, Pump)> {
    let mut ends = Ends::default();
    let mut pump = Pump {
        input: None,
        output: Vec::new(),
    };
    if let Some(mut from) = stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut to = pipe::Sender::from_owned_fd(write)?;
        pump.input = Some(tokio::spawn(async move {
            copy(&mut from, &mut to).await;
        }));
        ends.stdin = Some(read);
    }
    for (writer, end) in [(stdout, &mut ends.stdout), (stderr, &mut ends.stderr)] {
        let Some(mut to) = writer else { continue };
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut from = pipe::Receiver::from_owned_fd(read)?;
        pump.output.push(tokio::spawn(async move {
            copy(&mut from, &mut to).await;
            // A client that is gone has its end of file.
            let _ = to.shutdown().await;
        }));
        *end = Some(write);
    }
    Ok((ends, pump))
}

/// Copies until either side ends. That side knows; there is nobody else to tell.
pub async fn copy<R, W>(from: &mut R, to: &mut W)
where
    R: AsyncRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    let mut buffer = vec![0_u8; CHUNK];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..n]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

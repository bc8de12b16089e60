//! A server whose containers are processes of this machine.

#![allow(dead_code, reason = "each test file uses a part")]

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use streaming::client::{Ask, Remote, TlsOptions, Transport};
use streaming::server::{Config, Server};
use streaming::status::Outcome;
use streaming::{AttachRequest, Backend, ExecRequest, PortForwardRequest, Streams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const BOTH: [Transport; 2] = [Transport::Spdy, Transport::WebSocket];

/// Runs commands here; a pod is this machine's loopback.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Futures of the backend that are alive.
    pub busy: Arc<AtomicUsize>,
}

/// Counts, and kills what it holds.
struct Guard {
    busy: Arc<AtomicUsize>,
    child: Option<Child>,
}

impl Guard {
    fn new(busy: &Arc<AtomicUsize>) -> Self {
        busy.fetch_add(1, Ordering::SeqCst);
        Guard {
            busy: Arc::clone(busy),
            child: None,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Backend for Machine {
    async fn exec(&self, request: ExecRequest, mut streams: Streams) -> Result<i32, String> {
        let mut guard = Guard::new(&self.busy);
        if request.cmd[0] == "sizes" {
            let mut stdout = streams.stdout.take().ok_or("no stdout")?;
            for _ in 0..2 {
                let size = streams.resize.recv().await.ok_or("no size")?;
                let line = format!("{}x{}\n", size.width, size.height);
                let _ = stdout.write_all(line.as_bytes()).await;
            }
            return Ok(0);
        }
        let (ends, pump, _resize) = streams.into_pipes().map_err(|e| e.to_string())?;
        let stdio = |end: Option<std::os::fd::OwnedFd>| end.map_or_else(Stdio::null, Stdio::from);
        let child = Command::new(&request.cmd[0])
            .args(&request.cmd[1..])
            .stdin(stdio(ends.stdin))
            .stdout(stdio(ends.stdout))
            .stderr(stdio(ends.stderr))
            .spawn()
            .map_err(|e| format!("{}: {e}", request.cmd[0]))?;
        guard.child = Some(child);
        let status = loop {
            let child = guard.child.as_mut().ok_or("no child")?;
            match child.try_wait().map_err(|e| e.to_string())? {
                Some(status) => break status,
                None => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
            }
        };
        pump.finish().await;
        let signal = status.signal().map(|n| 128 + n);
        Ok(status.code().or(signal).unwrap_or(-1))
    }

    async fn attach(&self, request: AttachRequest, streams: Streams) -> Result<(), String> {
        let _guard = Guard::new(&self.busy);
        if request.container == "gone" {
            return Err("container gone: no such container".to_owned());
        }
        let (Some(mut stdin), Some(mut stdout)) = (streams.stdin, streams.stdout) else {
            return Ok(());
        };
        let _ = tokio::io::copy(&mut stdin, &mut stdout).await;
        let _ = stdout.shutdown().await;
        Ok(())
    }

    async fn port_forward(&self, _pod: &str, port: u16) -> Result<TcpStream, String> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await;
        socket.map_err(|e| format!("connect to port {port}: {e}"))
    }
}

/// A running server; it stops with the test's runtime.
pub struct Running {
    pub server: Server<Machine>,
    pub machine: Machine,
    pub address: SocketAddr,
}

pub async fn start(config: Config) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let machine = Machine::default();
    let server = Server::new(machine.clone(), config, address);
    let serving = server.clone();
    tokio::spawn(async move {
        serving
            .serve(listener, std::future::pending())
            .await
            .expect("serves");
    });
    Running {
        server,
        machine,
        address,
    }
}

impl Running {
    pub fn exec_url(&self, cmd: &[&str], ask: Ask) -> String {
        let request = ExecRequest {
            container: "c".to_owned(),
            cmd: cmd.iter().map(|w| (*w).to_owned()).collect(),
            tty: ask.tty,
            stdin: ask.stdin,
            stdout: ask.stdout,
            stderr: ask.stderr,
        };
        self.server.exec_url(request).expect("a token")
    }

    pub fn forward_url(&self, ports: &[u16]) -> String {
        let request = PortForwardRequest {
            pod: "p".to_owned(),
            ports: ports.to_vec(),
        };
        self.server.port_forward_url(request).expect("a token")
    }

    /// Waits until nobody is served any more.
    pub async fn quiet(&self) {
        while self.machine.busy.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

pub fn all() -> Ask {
    Ask {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    }
}

/// Runs a command to its end with this input.
pub async fn exec(
    url: &str,
    transport: Transport,
    ask: Ask,
    tls: &TlsOptions,
    input: &[u8],
) -> Result<(Outcome, Vec<u8>, Vec<u8>), streaming::Error> {
    let mut remote = Remote::connect(url, transport, ask, tls).await?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdin, stdout, stderr) = (
        remote.stdin.take(),
        remote.stdout.take(),
        remote.stderr.take(),
    );
    let input = async {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(input).await;
            let _ = stdin.shutdown().await;
        }
    };
    let output = async {
        if let Some(mut stdout) = stdout {
            let _ = stdout.read_to_end(&mut out).await;
        }
    };
    let errors = async {
        if let Some(mut stderr) = stderr {
            let _ = stderr.read_to_end(&mut err).await;
        }
    };
    let (outcome, ..) = tokio::join!(remote.outcome(), input, output, errors);
    remote.close().await;
    Ok((outcome?, out, err))
}

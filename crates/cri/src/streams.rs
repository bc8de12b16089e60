//! Exec, attach and port-forward: what the streaming server asks of pods.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use pods::Engine;
use streaming::{AttachRequest, Backend, ExecRequest, PortForwardRequest, Size, Streams};
use supervise::protocol::Part;
use tokio::net::TcpStream;

use crate::ends;
use crate::runtime::RuntimeApi;

/// How long a connection to a port may take.
const DIAL: Duration = Duration::from_secs(10);
/// How long output is waited for when a command has ended and something still holds its pipes.
const DRAIN: Duration = Duration::from_secs(30);

impl RuntimeApi {
    pub(crate) fn exec_request(&self, r: cri_api::v1::ExecRequest) -> pods::Result<ExecRequest> {
        let container = self.engine.running(&r.container_id)?;
        check(r.stdin, r.stdout, r.stderr, r.tty)?;
        if r.cmd.is_empty() {
            return Err(pods::Error::new(
                pods::Kind::Invalid,
                "Exec: no command given",
            ));
        }
        Ok(ExecRequest {
            container: container.id.clone(),
            cmd: r.cmd,
            tty: r.tty,
            stdin: r.stdin,
            stdout: r.stdout,
            stderr: r.stderr,
        })
    }

    pub(crate) fn attach_request(
        &self,
        r: &cri_api::v1::AttachRequest,
    ) -> pods::Result<AttachRequest> {
        let container = self.engine.running(&r.container_id)?;
        check(r.stdin, r.stdout, r.stderr, r.tty)?;
        Ok(AttachRequest {
            container: container.id.clone(),
            tty: container.record().config.tty,
            stdin: r.stdin,
            stdout: r.stdout,
            stderr: r.stderr,
        })
    }

    pub(crate) fn forward_request(
        &self,
        r: &cri_api::v1::PortForwardRequest,
    ) -> pods::Result<PortForwardRequest> {
        // Fails where the pod is not ready.
        self.engine.netns(&r.pod_sandbox_id)?;
        let ports = r.port.iter().map(|&port| {
            u16::try_from(port).map_err(|_| {
                pods::Error::new(
                    pods::Kind::Invalid,
                    format!("PortForward: {port} is not a port"),
                )
            })
        });
        Ok(PortForwardRequest {
            pod: self.engine.pod(&r.pod_sandbox_id)?.id.clone(),
            ports: ports.collect::<pods::Result<_>>()?,
        })
    }
}

fn check(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> pods::Result<()> {
    let invalid = |text: &str| Err(pods::Error::new(pods::Kind::Invalid, text));
    if tty && stderr {
        return invalid("tty and stderr cannot both be asked for: a terminal has one output");
    }
    if !(stdin || stdout || stderr) {
        return invalid("none of stdin, stdout and stderr was asked for");
    }
    Ok(())
}

/// What the streaming server is given.
#[derive(Clone, Debug)]
pub struct Pods(pub Engine);

impl Backend for Pods {
    async fn exec(&self, request: ExecRequest, streams: Streams) -> Result<i32, String> {
        let exec = if request.tty {
            self.exec_on_terminal(request, streams).await
        } else {
            self.exec_on_pipes(request, streams).await
        };
        exec.map_err(|e| e.to_string())
    }

    async fn attach(&self, request: AttachRequest, streams: Streams) -> Result<(), String> {
        self.attach_now(request, streams)
            .await
            .map_err(|e| e.to_string())
    }

    async fn port_forward(&self, pod: &str, port: u16) -> Result<TcpStream, String> {
        let netns = self.0.netns(pod).map_err(|e| e.to_string())?;
        let connect = move || -> Result<std::net::TcpStream, String> {
            let stream = match netns {
                Some(path) => {
                    let netns =
                        File::open(&path).map_err(|e| format!("open({}): {e}", path.display()))?;
                    net::netns::dial(netns.as_fd(), port, DIAL).map_err(|e| e.to_string())?
                }
                None => std::net::TcpStream::connect(("localhost", port))
                    .map_err(|e| format!("connect(localhost:{port}): {e}"))?,
            };
            stream.set_nonblocking(true).map_err(|e| e.to_string())?;
            Ok(stream)
        };
        let stream = tokio::task::spawn_blocking(connect)
            .await
            .map_err(|e| e.to_string())??;
        TcpStream::from_std(stream).map_err(|e| e.to_string())
    }
}

impl Pods {
    async fn exec_on_pipes(&self, r: ExecRequest, streams: Streams) -> pods::Result<i32> {
        let made = streams.into_pipes();
        let (ends, pump, _sizes) =
            made.map_err(|e| pods::Error::new(pods::Kind::Failed, format!("pipe: {e}")))?;
        let parts = [
            (Part::Stdin, ends.stdin),
            (Part::Stdout, ends.stdout),
            (Part::Stderr, ends.stderr),
        ];
        let parts = parts
            .into_iter()
            .filter_map(|(part, fd)| Some((part, fd?)))
            .collect();
        let command = self.0.exec(&r.container, r.cmd, false, parts).await?;
        let code = command.wait().await?;
        if tokio::time::timeout(DRAIN, pump.finish()).await.is_err() {
            tracing::warn!(container = %r.container, "a process that a command has left behind still holds its output");
        }
        Ok(code)
    }

    async fn exec_on_terminal(&self, r: ExecRequest, mut streams: Streams) -> pods::Result<i32> {
        let mut command = self.0.exec(&r.container, r.cmd, true, Vec::new()).await?;
        let master = command
            .terminal()
            .ok_or_else(|| pods::Error::new(pods::Kind::Failed, "exec: no terminal came back"))?;
        let input = streams
            .stdin
            .take()
            .map(|from| ends::fill(ends::dup(&master)?, from));
        let output = streams
            .stdout
            .take()
            .map(|to| ends::drain(ends::dup(&master)?, to));
        let (input, output) = (input.transpose()?, output.transpose()?);
        let resize = tokio::spawn(async move {
            while let Some(Size { width, height }) = streams.resize.recv().await {
                ends::resize(&master, height, width);
            }
        });
        let _stops = (Stop(resize), input.map(|task| Stop(tokio::spawn(task))));
        let drained = async {
            match output {
                Some(output) => output.await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(drained);
        let ended = command.wait();
        tokio::pin!(ended);
        let mut closed = false;
        let code = loop {
            tokio::select! {
                code = &mut ended => break code?,
                () = &mut drained, if !closed => closed = true,
            }
        };
        if !closed && r.stdout {
            // The terminal ends when its last process has.
            let _ = tokio::time::timeout(DRAIN, drained).await;
        }
        Ok(code)
    }

    async fn attach_now(&self, r: AttachRequest, mut streams: Streams) -> pods::Result<()> {
        let container = self.0.container(&r.container)?;
        let parts = self
            .0
            .attach(&r.container, r.stdin, r.stdout, r.stderr)
            .await?;
        let mut stops = Vec::new();
        let mut outputs = Vec::new();
        for (part, fd) in parts {
            match part {
                Part::Stdin | Part::Terminal => {
                    let task = streams
                        .stdin
                        .take()
                        .map(|from| ends::fill(fd, from))
                        .transpose()?;
                    stops.extend(task.map(|task| Stop(tokio::spawn(task))));
                }
                Part::Stdout => {
                    let task = streams
                        .stdout
                        .take()
                        .map(|to| ends::drain(fd, to))
                        .transpose()?;
                    outputs.extend(task.map(|task| Stop(tokio::spawn(task))));
                }
                Part::Stderr => {
                    let task = streams
                        .stderr
                        .take()
                        .map(|to| ends::drain(fd, to))
                        .transpose()?;
                    outputs.extend(task.map(|task| Stop(tokio::spawn(task))));
                }
                Part::Pidfd => {}
            }
        }
        let engine = self.0.clone();
        let id = r.container.clone();
        stops.push(Stop(tokio::spawn(async move {
            while let Some(size) = streams.resize.recv().await {
                if let Err(error) = engine.resize(&id, size.height, size.width).await {
                    tracing::debug!(%id, %error, "resize");
                }
            }
        })));
        if outputs.is_empty() {
            container.ended().await;
        }
        for output in &mut outputs {
            // Its end is the container's, or that of a reader who was too slow.
            let _ = (&mut output.0).await;
        }
        Ok(())
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Stop(tokio::task::JoinHandle<()>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

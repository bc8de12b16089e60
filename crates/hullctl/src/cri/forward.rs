//! `port-forward`.

use std::rc::Rc;

use anyhow::{Context, Result, anyhow};
use clap::{Arg, ArgMatches, Command};
use cri_api::v1;
use streaming::client::{Connection, Forwarder};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};

use super::args::{self, texts};
use super::client::Cri;
use super::exec::{full_url, way};
use super::output::line;

/// The definition.
pub fn commands() -> Vec<Command> {
    let command = Command::new("port-forward")
        .about("Make ports of a pod reachable on this machine's loopback")
        .arg(Arg::new("pod").value_name("POD").required(true))
        .arg(
            Arg::new("ports")
                .value_name("[LOCAL:]PORT")
                .num_args(1..)
                .required(true)
                .help("An empty or 0 LOCAL is any free port"),
        )
        .arg(args::transport())
        .args(args::tls())
        .after_help("Example:\n  hullctl port-forward $POD 8080:80");
    vec![command]
}

/// Local and remote port.
fn parse(text: &str) -> Result<(u16, u16)> {
    let wrong = || anyhow!("{text}: no ports; write PORT or LOCAL:PORT");
    let port = |text: &str| text.parse::<u16>().map_err(|_| wrong());
    match text.split_once(':') {
        None => Ok((port(text)?, port(text)?)),
        Some(("", remote)) => Ok((0, port(remote)?)),
        Some((local, remote)) => Ok((port(local)?, port(remote)?)),
    }
}

/// `port-forward`: until it is interrupted or the runtime ends it.
pub async fn run(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let pod = args::text(m, "pod").unwrap_or_default();
    let ports = texts(m, "ports")
        .iter()
        .map(|p| parse(p))
        .collect::<Result<Vec<_>>>()?;
    let request = v1::PortForwardRequest {
        pod_sandbox_id: pod.clone(),
        port: ports.iter().map(|(_, remote)| i32::from(*remote)).collect(),
    };
    let what = format!("port-forward to pod {pod}");
    let url = act!(cri, &what, runtime.port_forward(request))?.url;
    let (transport, tls) = way(m)?;
    let forwarder = Forwarder::connect(&full_url(&url), transport, &tls)
        .await
        .context(what)?;
    let forwarder = Rc::new(forwarder);
    let mut listening = JoinSet::new();
    let local = LocalSet::new();
    for (port, remote) in ports {
        // IPv6's loopback may be missing; IPv4's is what counts.
        let first = TcpListener::bind(("127.0.0.1", port)).await;
        let first = first.with_context(|| format!("listen on 127.0.0.1 port {port}"))?;
        let port = first.local_addr().context("the listener's address")?.port();
        let second = TcpListener::bind(("::1", port)).await.ok();
        for listener in [Some(first), second].into_iter().flatten() {
            let address = listener.local_addr().context("the listener's address")?;
            line(&format!("Forwarding from {address} -> {remote}"))?;
            listening.spawn_local_on(accept(listener, remote, Rc::clone(&forwarder)), &local);
        }
    }
    local
        .run_until(async {
            tokio::select! {
                () = forwarder.ended() => Err(anyhow!("port-forward: the runtime closed the connection")),
                signal = tokio::signal::ctrl_c() => signal.context("wait for a signal"),
            }
        })
        .await?;
    forwarder.close().await;
    Ok(())
}

async fn accept(listener: TcpListener, port: u16, forwarder: Rc<Forwarder>) {
    // A connection that cannot be accepted is its client's matter.
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        match forwarder.open(port) {
            Ok(connection) => drop(tokio::task::spawn_local(join(socket, connection, port))),
            Err(e) => {
                eprintln!("hullctl: port {port}: {e}");
                return;
            }
        }
    }
}

async fn join(socket: TcpStream, connection: Connection, port: u16) {
    let (mut from_pod, mut to_pod, failure) = connection.split();
    let (mut from_here, mut to_here) = socket.into_split();
    let up = async {
        tokio::io::copy(&mut from_here, &mut to_pod).await?;
        to_pod.shutdown().await
    };
    let down = async {
        tokio::io::copy(&mut from_pod, &mut to_here).await?;
        to_here.shutdown().await
    };
    // Either side may break off; the others live on.
    let broken = tokio::try_join!(up, down).is_err();
    if broken {
        to_pod.cancel();
    }
    drop((from_pod, to_pod));
    if let Some(reason) = failure.reason().await {
        eprintln!("hullctl: port {port}: {reason}");
    }
}

//! Exec, attach and port-forward through the daemon, over both transports.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::os::fd::AsFd;

use cri_api::v1;
use cri_suite::{Daemon, Options, container, pod, sleeper};
use streaming::client::{Ask, Forwarder, Remote, TlsOptions, Transport};
use streaming::status::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BOTH: [Transport; 2] = [Transport::Spdy, Transport::WebSocket];

/// Runs a client in the daemon's network: its server listens on loopback there.
fn inside<T: Send>(daemon: &Daemon, client: impl AsyncFnOnce() -> T + Send) -> T {
    let netns = File::open(format!("/run/netns/{}", daemon.token)).unwrap();
    net::netns::inside(netns.as_fd(), || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Ok(runtime.block_on(client()))
    })
    .unwrap()
}

async fn exec_url(daemon: &Daemon, id: &str, cmd: &[&str], tty: bool) -> String {
    let request = v1::ExecRequest {
        container_id: id.to_owned(),
        cmd: cmd.iter().map(|&w| w.to_owned()).collect(),
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    };
    daemon
        .runtime()
        .exec(request)
        .await
        .unwrap()
        .into_inner()
        .url
}

/// What a command with a terminal has written.
async fn on_terminal(daemon: &Daemon, id: &str, transport: Transport) -> String {
    let url = exec_url(
        daemon,
        id,
        &["sh", "-c", "test -t 1 && echo terminal"],
        true,
    )
    .await;
    inside(daemon, async || {
        let ask = Ask {
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
        };
        let made = Remote::connect(&url, transport, ask, &TlsOptions::default()).await;
        let mut remote = made.unwrap();
        let mut out = String::new();
        remote
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut out)
            .await
            .unwrap();
        out
    })
}

/// What a command with pipes has written to both, and how it ended.
async fn on_pipes(daemon: &Daemon, id: &str, transport: Transport) -> (String, String, Outcome) {
    let url = exec_url(
        daemon,
        id,
        &["sh", "-c", "cat; echo err >&2; exit 7"],
        false,
    )
    .await;
    inside(daemon, async || {
        let ask = Ask {
            stdin: true,
            stdout: true,
            stderr: true,
            tty: false,
        };
        let made = Remote::connect(&url, transport, ask, &TlsOptions::default()).await;
        let mut remote = made.unwrap();
        let mut stdin = remote.stdin.take().unwrap();
        stdin.write_all(b"hello\n").await.unwrap();
        stdin.shutdown().await.unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        remote
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut out)
            .await
            .unwrap();
        remote
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .await
            .unwrap();
        (out, err, remote.outcome().await.unwrap())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_with_streams_and_terminals() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("exec")).await;
    let c = daemon.run(&id, sleeper("c")).await;
    for transport in BOTH {
        let (out, err, outcome) = on_pipes(&daemon, &c, transport).await;
        assert_eq!(
            (out.as_str(), err.as_str()),
            ("hello\n", "err\n"),
            "{transport:?}"
        );
        assert!(
            matches!(outcome, Outcome::Exit(7)),
            "{transport:?}: {outcome:?}"
        );
        assert_eq!(
            on_terminal(&daemon, &c, transport).await,
            "terminal\r\n",
            "{transport:?}"
        );
    }
    daemon.remove_pod(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attached_to_a_containers_own_process() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("attach")).await;
    for (n, transport) in BOTH.into_iter().enumerate() {
        let mut config = container(
            &format!("c{n}"),
            &["/bin/sh", "-c", "read word; echo got $word"],
        );
        config.stdin = true;
        let c = daemon.run(&id, config).await;
        let request = v1::AttachRequest {
            container_id: c.clone(),
            stdin: true,
            stdout: true,
            stderr: false,
            tty: false,
        };
        let url = daemon
            .runtime()
            .attach(request)
            .await
            .unwrap()
            .into_inner()
            .url;
        let out = inside(&daemon, async || {
            let ask = Ask {
                stdin: true,
                stdout: true,
                stderr: false,
                tty: false,
            };
            let mut remote = Remote::connect(&url, transport, ask, &TlsOptions::default())
                .await
                .unwrap();
            let mut stdin = remote.stdin.take().unwrap();
            stdin.write_all(b"it\n").await.unwrap();
            let mut out = String::new();
            remote
                .stdout
                .take()
                .unwrap()
                .read_to_string(&mut out)
                .await
                .unwrap();
            out
        });
        assert_eq!(out, "got it\n", "{transport:?}");
        assert_eq!(daemon.ended(&c).await.exit_code, 0);
    }
    daemon.remove_pod(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_of_a_pod() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("ports")).await;
    let web = daemon
        .run(
            &id,
            container(
                "web",
                &["/bin/httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/www"],
            ),
        )
        .await;
    cri_suite::until("it listens", async || {
        daemon
            .exec(&web, &["wget", "-q", "-O", "-", "http://127.0.0.1:8080/"])
            .await
            .0
            == 0
    })
    .await;
    for transport in BOTH {
        let request = v1::PortForwardRequest {
            pod_sandbox_id: id.clone(),
            port: vec![8080],
        };
        let url = daemon
            .runtime()
            .port_forward(request)
            .await
            .unwrap()
            .into_inner()
            .url;
        let page = inside(&daemon, async || {
            let forwarder = Forwarder::connect(&url, transport, &TlsOptions::default())
                .await
                .unwrap();
            let (mut read, mut write, _) = forwarder.open(8080).unwrap().split();
            write.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
            let mut page = String::new();
            read.read_to_string(&mut page).await.unwrap();
            page
        });
        assert!(
            page.ends_with("hello from a pod\n"),
            "{transport:?}: {page}"
        );
    }
    daemon.remove_pod(&id).await;
}

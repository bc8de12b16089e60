//! Exec and attach, our client against our server over real sockets.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use common::{BOTH, all, exec, start};
use streaming::AttachRequest;
use streaming::Size;
use streaming::client::{Ask, Remote, TlsOptions};
use streaming::server::Config;
use streaming::status::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn output_and_exit_codes() {
    let running = start(Config::default()).await;
    let table: [(&[&str], Outcome, &str, &str); 5] = [
        (
            &["sh", "-c", "echo out; echo err >&2"],
            Outcome::Exit(0),
            "out\n",
            "err\n",
        ),
        (&["sh", "-c", "exit 3"], Outcome::Exit(3), "", ""),
        (
            &["sh", "-c", "echo last; kill -9 $$"],
            Outcome::Exit(137),
            "last\n",
            "",
        ),
        (&["true"], Outcome::Exit(0), "", ""),
        (
            &["/no/such/program"],
            Outcome::Failed(
                "Internal error occurred: error executing command in container: \
                 /no/such/program: No such file or directory (os error 2)"
                    .to_owned(),
            ),
            "",
            "",
        ),
    ];
    for transport in BOTH {
        for (cmd, outcome, out, err) in &table {
            let url = running.exec_url(cmd, all());
            let result = exec(&url, transport, all(), &TlsOptions::default(), b"").await;
            let (got, stdout, stderr) = result.expect("a connection");
            assert_eq!(&got, outcome, "{transport:?} {cmd:?}");
            assert_eq!(
                String::from_utf8_lossy(&stdout),
                *out,
                "{transport:?} {cmd:?}"
            );
            assert_eq!(
                String::from_utf8_lossy(&stderr),
                *err,
                "{transport:?} {cmd:?}"
            );
        }
    }
    running.quiet().await;
}

/// Megabytes both ways at once, and the end of the input reaches the process.
#[tokio::test]
async fn much_input_comes_back() {
    let running = start(Config::default()).await;
    let input: Vec<u8> = (0..3_000_000_u32)
        .map(|i| i.to_le_bytes()[usize::from(i % 3 == 0)])
        .collect();
    for transport in BOTH {
        let url = running.exec_url(&["sh", "-c", "cat; echo end"], all());
        let result = exec(&url, transport, all(), &TlsOptions::default(), &input).await;
        let (outcome, out, _) = result.expect("a connection");
        assert_eq!(outcome, Outcome::Exit(0));
        assert_eq!(out.len(), input.len() + 4, "{transport:?}");
        assert!(out.starts_with(&input) && out.ends_with(b"end\n"));
    }
}

/// Output that nobody reads stops the process and not the server; then all of it is there.
#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    let running = start(Config::default()).await;
    for transport in BOTH {
        let url = running.exec_url(&["head", "-c", "5000000", "/dev/zero"], all());
        let mut remote = Remote::connect(&url, transport, all(), &TlsOptions::default())
            .await
            .expect("a connection");
        let mut stdout = remote.stdout.take().expect("stdout");
        stdout.read_exact(&mut [0; 100]).await.expect("a beginning");
        let other = running.exec_url(&["true"], all());
        let result = exec(&other, transport, all(), &TlsOptions::default(), b"").await;
        assert_eq!(result.expect("a connection").0, Outcome::Exit(0));
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).await.expect("the rest");
        assert_eq!(rest.len(), 5_000_000 - 100);
        assert_eq!(
            remote.outcome().await.expect("an outcome"),
            Outcome::Exit(0)
        );
    }
}

#[tokio::test]
async fn sizes_of_the_terminal() {
    let running = start(Config::default()).await;
    let ask = Ask {
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };
    for transport in BOTH {
        let url = running.exec_url(&["sizes"], ask);
        let mut remote = Remote::connect(&url, transport, ask, &TlsOptions::default())
            .await
            .expect("a connection");
        let mut resize = remote.resize.take().expect("a terminal");
        let mut stdout = remote.stdout.take().expect("stdout");
        let mut line = [0; 6];
        for (width, height, expected) in [(80, 24, b"80x24\n"), (99, 10, b"99x10\n")] {
            resize.send(Size { width, height }).await.expect("sent");
            stdout.read_exact(&mut line).await.expect("a size");
            assert_eq!(&line, expected, "{transport:?}");
        }
        assert_eq!(
            remote.outcome().await.expect("an outcome"),
            Outcome::Exit(0)
        );
    }
}

#[tokio::test]
async fn attach_echoes_and_fails() {
    let running = start(Config::default()).await;
    let ask = all();
    let url = |container: &str| {
        let request = AttachRequest {
            container: container.to_owned(),
            tty: false,
            stdin: true,
            stdout: true,
            stderr: true,
        };
        running.server.attach_url(request).expect("a token")
    };
    for transport in BOTH {
        let result = exec(&url("c"), transport, ask, &TlsOptions::default(), b"hello").await;
        let (outcome, out, _) = result.expect("a connection");
        assert_eq!((outcome, out.as_slice()), (Outcome::Exit(0), &b"hello"[..]));
        let result = exec(&url("gone"), transport, ask, &TlsOptions::default(), b"").await;
        let Outcome::Failed(reason) = result.expect("a connection").0 else {
            panic!("attached to nothing");
        };
        assert!(
            reason.ends_with("container gone: no such container"),
            "{reason}"
        );
    }
}

/// A client that goes away takes its command with it.
#[tokio::test]
async fn a_client_that_is_gone() {
    let running = start(Config::default()).await;
    for transport in BOTH {
        let url = running.exec_url(&["sh", "-c", "echo up; exec sleep 1000"], all());
        let mut remote = Remote::connect(&url, transport, all(), &TlsOptions::default())
            .await
            .expect("a connection");
        let mut stdout = remote.stdout.take().expect("stdout");
        stdout.read_exact(&mut [0; 3]).await.expect("it is up");
        drop(stdout);
        remote.close().await;
        running.quiet().await;
    }
}

/// A token is good once, and only for its verb.
#[tokio::test]
async fn tokens() {
    let running = start(Config::default()).await;
    for transport in BOTH {
        let url = running.exec_url(&["true"], all());
        let wrong = url.replace("/exec/", "/attach/");
        for url in [&wrong, &format!("{url}x")] {
            let error = exec(url, transport, all(), &TlsOptions::default(), b"").await;
            let message = error.expect_err("no such token").to_string();
            assert!(
                message.contains("404 Not Found: no such token"),
                "{message}"
            );
        }
        let first = exec(&url, transport, all(), &TlsOptions::default(), b"").await;
        assert_eq!(first.expect("a connection").0, Outcome::Exit(0));
        let second = exec(&url, transport, all(), &TlsOptions::default(), b"").await;
        assert!(second.is_err());
    }
}

/// A thousand commands, one connection each, and nothing of them remains.
#[tokio::test]
async fn a_thousand_execs_leave_nothing() {
    let running = start(Config::default()).await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("fds").count();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let mut before = None;
    for round in 0..26 {
        for transport in BOTH {
            let batch = (0..20).map(|i| {
                let url = match i % 2 {
                    0 => running.exec_url(&["sizes"], all()),
                    _ => running.exec_url(&["/no/such"], all()),
                };
                async move {
                    let mut remote =
                        Remote::connect(&url, transport, all(), &TlsOptions::default())
                            .await
                            .expect("a connection");
                    if i % 4 == 1 {
                        remote.outcome().await.expect("an outcome");
                    }
                    if let (2, Some(stdin)) = (i % 4, &mut remote.stdin) {
                        let _ = stdin.write_all(&[0; 1000]).await;
                    }
                    remote.close().await;
                }
            });
            let mut batch: tokio::task::JoinSet<()> = batch.collect();
            while let Some(done) = batch.join_next().await {
                done.expect("no panic");
            }
        }
        running.quiet().await;
        if round == 0 {
            before = Some((settled(descriptors).await, settled(tasks).await));
        }
    }
    let (fds, alive) = before.expect("measured");
    for _ in 0..1000 {
        if descriptors() <= fds && tasks() <= alive {
            return;
        }
        // Connections linger for their peer's last bytes.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(
        (descriptors(), tasks()),
        (fds, alive),
        "descriptors and tasks"
    );
}

/// The smallest of some looks: what lingers for a moment is not counted.
async fn settled(measure: impl Fn() -> usize) -> usize {
    let mut least = measure();
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        least = least.min(measure());
    }
    least
}

//! `exec` and `attach`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgMatches, Command};
use cri_api::v1;
use streaming::client::{Ask, Remote, TlsOptions, Transport};
use streaming::status::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::args::{self, container_filters, flag, number, text, texts};
use super::client::Cri;
use super::lifecycle::exit_code;
use super::output::{line, one_line};
use super::{list, terminal};

/// ctrl-p ctrl-q lets go of a container.
const DETACH: [u8; 2] = [0x10, 0x11];
/// Copied at once.
const CHUNK: usize = 16 << 10;

/// The definitions.
pub fn commands() -> Vec<Command> {
    let streams = || {
        [
            flag("interactive", "Send standard input").short('i'),
            flag("tty", "With a terminal; ctrl-p ctrl-q lets go").short('t'),
            args::transport(),
        ]
    };
    let filters = container_filters().into_iter();
    let filters = filters.filter(|a| a.get_id() != "namespace");
    // -s is --sync here.
    let filters = filters.map(|a| match a.get_id() == "state" {
        true => args::option("state", "STATE", "Only in this state"),
        false => a,
    });
    let exec = Command::new("exec")
        .about("Run a command in a container, or in each that the options choose")
        .arg(
            Arg::new("words")
                .value_names(["CONTAINER", "CMD"])
                .num_args(1..)
                .required(true)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .help("Without CONTAINER if options choose it"),
        )
        .args(streams())
        .args(args::tls())
        .arg(flag("sync", "Without streams: wait and print all at the end").short('s'))
        .arg(number("timeout", "Seconds, with --sync; 0 is for ever"))
        .args(filters)
        .arg(flag("quiet", "Do not say which container answers").short('q'))
        .arg(flag("ignore-errors", "Succeed in any case").short('e'))
        .arg(flag("parallel", "All containers at once").short('x'))
        .after_help(
            "Examples:\n  hullctl exec -it abc sh\n  hullctl exec -s --timeout 5 abc cat /etc/hosts\n  \
             hullctl exec --name '^web' -x date",
        );
    let attach = Command::new("attach")
        .about("Join a running container's streams")
        .arg(Arg::new("id").value_name("CONTAINER").required(true))
        .args(streams())
        .args(args::tls());
    vec![exec, attach]
}

fn tls(m: &ArgMatches) -> Result<TlsOptions> {
    let path = |name: &str| text(m, name).map(Into::into);
    let identity = match (path("tls-cert"), path("tls-key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => bail!("--tls-cert and --tls-key go together"),
    };
    Ok(TlsOptions {
        server_name: text(m, "tls-sni"),
        ca: path("tls-ca"),
        identity,
    })
}

/// Transport and TLS of a command line.
pub fn way(m: &ArgMatches) -> Result<(Transport, TlsOptions)> {
    let transport = text(m, "transport").unwrap_or_default();
    let transport = transport.parse().map_err(anyhow::Error::msg)?;
    Ok((transport, tls(m)?))
}

/// A URL from the runtime; those without host are the kubelet's.
pub fn full_url(url: &str) -> String {
    match url.split_once("://") {
        Some(_) => url.to_owned(),
        None if url.starts_with('/') => format!("http://127.0.0.1:10250{url}"),
        None => format!("http://{url}"),
    }
}

/// `exec`.
pub async fn exec(cri: &Cri, m: &ArgMatches) -> Result<ExitCode> {
    let mut cmd = texts(m, "words");
    let chosen_by = ["name", "pod", "image", "state", "label", "last"];
    let by_options = m.get_flag("latest") || chosen_by.iter().any(|n| m.contains_id(n));
    let ids: Vec<String> = match by_options {
        true => {
            let chosen = list::chosen_containers(cri, m, false).await?;
            chosen.into_iter().map(|c| c.id).collect()
        }
        false => vec![cmd.remove(0)],
    };
    if ids.is_empty() {
        bail!("exec: no container is like that");
    }
    if cmd.first().is_some_and(|word| word == "--") {
        cmd.remove(0);
    }
    if cmd.is_empty() {
        bail!("exec: no command; write hullctl exec CONTAINER CMD");
    }
    let say = by_options && !m.get_flag("quiet") && !m.get_flag("parallel");
    let result = exec_in(cri, m, &ids, &cmd, say).await;
    match m.get_flag("ignore-errors") {
        true => Ok(ExitCode::SUCCESS),
        false => result.map(exit_code),
    }
}

/// The last exit code that is not 0.
async fn exec_in(
    cri: &Cri,
    m: &ArgMatches,
    ids: &[String],
    cmd: &[String],
    say: bool,
) -> Result<i32> {
    let mut last = 0;
    if m.get_flag("parallel") {
        let all = ids.iter().map(|id| one(cri, m, id, cmd));
        for result in join_all(all.collect()).await {
            last = match result? {
                0 => last,
                code => code,
            };
        }
        return Ok(last);
    }
    for id in ids {
        if say {
            line(&format!("{id}:"))?;
        }
        last = match one(cri, m, id, cmd).await? {
            0 => last,
            code => code,
        };
    }
    Ok(last)
}

/// All futures at once, in one task.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, result) in &mut waiting {
            if result.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *result = Some(value);
            }
        }
        match waiting.iter().all(|(_, result)| result.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    waiting
        .into_iter()
        .filter_map(|(_, result)| result)
        .collect()
}

async fn one(cri: &Cri, m: &ArgMatches, id: &str, cmd: &[String]) -> Result<i32> {
    if m.get_flag("sync") {
        return sync(cri, m, id, cmd).await;
    }
    let ask = Ask {
        stdin: m.get_flag("interactive"),
        stdout: true,
        stderr: !m.get_flag("tty"),
        tty: m.get_flag("tty"),
    };
    let request = v1::ExecRequest {
        container_id: id.to_owned(),
        cmd: cmd.to_vec(),
        tty: ask.tty,
        stdin: ask.stdin,
        stdout: ask.stdout,
        stderr: ask.stderr,
    };
    let what = format!("exec in container {id}");
    let url = act!(cri, &what, runtime.exec(request))?.url;
    stream(&full_url(&url), m, ask).await.context(what)
}

async fn sync(cri: &Cri, m: &ArgMatches, id: &str, cmd: &[String]) -> Result<i32> {
    let request = v1::ExecSyncRequest {
        container_id: id.to_owned(),
        cmd: cmd.to_vec(),
        timeout: args::integer(m, "timeout").unwrap_or(0),
    };
    let what = format!("exec in container {id}");
    let answer = act!(cri, &what, runtime.exec_sync(request))?;
    let write = |mut to: Box<dyn std::io::Write>, bytes: &[u8]| {
        to.write_all(bytes).and_then(|()| to.flush())
    };
    write(Box::new(std::io::stdout()), &answer.stdout).context("write the output")?;
    write(Box::new(std::io::stderr()), &answer.stderr).context("write the output")?;
    Ok(answer.exit_code)
}

/// `attach`.
pub async fn attach(cri: &Cri, m: &ArgMatches) -> Result<ExitCode> {
    let id = text(m, "id").unwrap_or_default();
    let ask = Ask {
        stdin: m.get_flag("interactive"),
        stdout: true,
        stderr: !m.get_flag("tty"),
        tty: m.get_flag("tty"),
    };
    let request = v1::AttachRequest {
        container_id: id.clone(),
        stdin: ask.stdin,
        tty: ask.tty,
        stdout: ask.stdout,
        stderr: ask.stderr,
    };
    let what = format!("attach to container {id}");
    let url = act!(cri, &what, runtime.attach(request))?.url;
    let code = stream(&full_url(&url), m, ask).await.context(what)?;
    Ok(exit_code(code))
}

/// Why the streams ended.
enum End {
    Outcome(Outcome),
    Detached,
}

async fn stream(url: &str, m: &ArgMatches, ask: Ask) -> Result<i32> {
    if ask.tty && !ask.stdin {
        bail!("-t needs -i");
    }
    let (transport, tls) = way(m)?;
    let raw = match ask.tty {
        true => Some(terminal::Raw::new()?),
        false => None,
    };
    let remote = Remote::connect(url, transport, ask, &tls).await?;
    let end = relay(remote).await;
    if let Some(raw) = raw {
        raw.restore();
    }
    match end? {
        End::Detached => Ok(0),
        End::Outcome(Outcome::Exit(code)) => Ok(code),
        End::Outcome(Outcome::Failed(reason)) => bail!(one_line(&reason)),
    }
}

/// Copies everything until the outcome is there and all output is read.
async fn relay(mut remote: Remote) -> Result<End> {
    let sizes = remote
        .resize
        .take()
        .map(|resize| tokio::spawn(send_sizes(resize)));
    let (stdout, stderr) = (remote.stdout.take(), remote.stderr.take());
    let output = async {
        if let Some(mut from) = stdout {
            copy_out(&mut from, &mut tokio::io::stdout()).await;
        }
    };
    let errors = async {
        if let Some(mut from) = stderr {
            copy_out(&mut from, &mut tokio::io::stderr()).await;
        }
    };
    let (detach, mut detached) = tokio::sync::mpsc::channel::<()>(1);
    if let Some(stdin) = remote.stdin.take() {
        let detach = detach.clone();
        // A thread of its own: a read of standard input cannot be taken back.
        let handle = tokio::runtime::Handle::current();
        std::thread::spawn(move || copy_in(&handle, stdin, &detach));
    }
    let end = tokio::select! {
        (outcome, (), ()) = async { tokio::join!(remote.outcome(), output, errors) } => {
            outcome.map(End::Outcome).map_err(anyhow::Error::from)
        }
        Some(()) = detached.recv() => Ok(End::Detached),
    };
    if let Some(sizes) = sizes {
        sizes.abort();
    }
    remote.close().await;
    end
}

async fn send_sizes(mut resize: streaming::client::Resizer) {
    // Without the signal the size stays what it was.
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    loop {
        if let Some(size) = terminal::size()
            && resize.send(size).await.is_err()
        {
            return;
        }
        changes.recv().await;
    }
}

async fn copy_out<R, W>(from: &mut R, to: &mut W)
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        // Output that nobody takes any more is read on, so that the command can end.
        let _ = to.write_all(&buffer[..n]).await;
        let _ = to.flush().await;
    }
}

/// Copies standard input until its end, or until the keys that let go.
fn copy_in(
    handle: &tokio::runtime::Handle,
    mut to: streaming::backend::Writer,
    detach: &tokio::sync::mpsc::Sender<()>,
) {
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
    let mut buffer = vec![0; CHUNK];
    let mut held = false;
    loop {
        let n = match rustix::io::read(std::io::stdin(), &mut buffer) {
            Ok(n @ 1..) => n,
            Err(rustix::io::Errno::INTR) => continue,
            _ => break,
        };
        let bytes = &buffer[..n];
        if is_terminal && (bytes == DETACH || (held && bytes == [DETACH[1]])) {
            let _ = detach.blocking_send(());
            return;
        }
        held = bytes == [DETACH[0]];
        if handle.block_on(to.write_all(bytes)).is_err() {
            break;
        }
    }
    // The command may have ended before its input.
    let _ = handle.block_on(to.shutdown());
}

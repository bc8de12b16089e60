//! `cp`: files into containers and out of them, by `tar` on both sides.
//!
//! What comes out of a container is a stranger's archive: GNU tar, which unpacks it here, lets no
//! name leave the directory and makes links last.

use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgMatches, Command};
use cri_api::v1;
use streaming::client::{Ask, Remote};
use streaming::pump;
use streaming::status::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::args::{self, texts};
use super::client::Cri;
use super::exec::{full_url, way};
use super::output::one_line;

/// No complaint of tar's is longer.
const LONGEST: u64 = 16 << 10;

/// The definition.
pub fn commands() -> Vec<Command> {
    let command = Command::new("cp")
        .about("Copy files into a container or out of it; it must have tar")
        .arg(
            Arg::new("paths")
                .value_names(["FROM", "TO"])
                .num_args(2)
                .required(true)
                .help("One of them is CONTAINER:PATH"),
        )
        .arg(args::transport())
        .args(args::tls())
        .after_help("Examples:\n  hullctl cp abc:/etc/hosts .\n  hullctl cp ./site abc:/srv");
    vec![command]
}

/// A path that names a container.
fn remote(text: &str) -> Option<(&str, &str)> {
    let (container, path) = text.split_once(':')?;
    // ./a:b is a file.
    (!container.is_empty() && !container.contains('/')).then_some((container, path))
}

/// `cp`.
pub async fn run(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let paths = texts(m, "paths");
    let [from, to] = paths.as_slice() else {
        bail!("cp: two paths are needed");
    };
    match (remote(from), remote(to)) {
        (Some((container, path)), None) => out_of(cri, m, container, path, Path::new(to)).await,
        (None, Some((container, path))) => into(cri, m, Path::new(from), container, path).await,
        (None, None) => bail!("cp: neither {from} nor {to} names a container; write ID:PATH"),
        _ => bail!("cp: from one container to another it goes by way of a file"),
    }
    .with_context(|| format!("cp {from} {to}"))
}

/// Directory and name of a path.
fn parts(path: &str) -> Result<(&str, &str)> {
    let path = path.trim_end_matches('/');
    let (dir, name) = path.rsplit_once('/').unwrap_or((".", path));
    match name {
        "" | "." | ".." => bail!("{path}: it ends with no name"),
        name => Ok((if dir.is_empty() { "/" } else { dir }, name)),
    }
}

async fn out_of(cri: &Cri, m: &ArgMatches, id: &str, path: &str, to: &Path) -> Result<()> {
    let (dir, name) = parts(path)?;
    // Unpacked beside the target, then renamed: an archive has its own names.
    let (parent, target) = match to.is_dir() {
        true => (to.to_owned(), name.to_owned()),
        false => {
            let parent = to.parent().filter(|p| !p.as_os_str().is_empty());
            let target = to
                .file_name()
                .ok_or_else(|| anyhow!("the target has no name"))?;
            let parent = parent.map_or_else(|| PathBuf::from("."), Path::to_owned);
            (parent, target.to_string_lossy().into_owned())
        }
    };
    let fresh = tempfile::Builder::new()
        .prefix(".hullctl-cp-")
        .tempdir_in(&parent);
    let fresh = fresh.with_context(|| format!("make a directory in {}", parent.display()))?;
    let mut tar = tar(
        &["-xf", "-", "-C"],
        fresh.path(),
        Stdio::piped(),
        Stdio::null(),
    )?;
    let stdin = tar
        .stdin
        .take()
        .ok_or_else(|| anyhow!("tar has no input"))?;
    let mut to_tar = pipe::Sender::from_owned_fd(stdin.into()).context("tar's input")?;
    let cmd = ["tar", "-C", dir, "-cf", "-", "--", name];
    let done = exec(cri, m, id, &cmd, |remote| {
        let stdout = remote.stdout.take();
        async move {
            if let Some(mut stdout) = stdout {
                pump::copy(&mut stdout, &mut to_tar).await;
            }
        }
    })
    .await;
    finish(tar)?;
    done?;
    let (made, target) = (fresh.path().join(name), parent.join(target));
    std::fs::rename(&made, &target).with_context(|| format!("rename to {}", target.display()))
}

async fn into(cri: &Cri, m: &ArgMatches, from: &Path, id: &str, path: &str) -> Result<()> {
    let from = std::fs::canonicalize(from).context("the source")?;
    let source = from.to_string_lossy().into_owned();
    let (dir, name) = parts(&source)?;
    let is_dir = path.ends_with('/')
        || exec(cri, m, id, &["test", "-d", path], |_| nothing())
            .await
            .is_ok();
    let (target, rename) = match is_dir {
        true => (path, None),
        false => {
            let (dir, name) = parts(path)?;
            (dir, Some(name))
        }
    };
    let rename = rename.map(|new| transform(name, new));
    let mut words: Vec<&str> = rename.iter().map(String::as_str).collect();
    words.extend(["-cf", "-", "-C", dir, "--"]);
    let mut tar = tar(&words, Path::new(name), Stdio::null(), Stdio::piped())?;
    let stdout = tar
        .stdout
        .take()
        .ok_or_else(|| anyhow!("tar has no output"))?;
    let mut from_tar = pipe::Receiver::from_owned_fd(stdout.into()).context("tar's output")?;
    let cmd = ["tar", "-C", target, "-xf", "-"];
    let done = exec(cri, m, id, &cmd, |remote| {
        let stdin = remote.stdin.take();
        async move {
            if let Some(mut stdin) = stdin {
                pump::copy(&mut from_tar, &mut stdin).await;
                // The other tar has its own end of archive.
                let _ = stdin.shutdown().await;
            }
        }
    })
    .await;
    done?;
    finish(tar)
}

/// The option by which tar gives the top of an archive another name.
fn transform(name: &str, new: &str) -> String {
    let escaped = |text: &str, special: &str| -> String {
        text.chars()
            .flat_map(|c| special.contains(c).then_some('\\').into_iter().chain([c]))
            .collect()
    };
    format!(
        "--transform=flags=r;s,^{},{},",
        escaped(name, ",\\.*[]^$"),
        escaped(new, ",\\&")
    )
}

async fn nothing() {}

fn tar(words: &[&str], last: &Path, stdin: Stdio, stdout: Stdio) -> Result<Child> {
    let mut tar = Process::new("tar");
    tar.args(words).arg(last).stdin(stdin).stdout(stdout);
    tar.spawn().context("start tar on this side")
}

fn finish(mut tar: Child) -> Result<()> {
    let status = tar.wait().context("wait for tar")?;
    match status.success() {
        true => Ok(()),
        false => bail!("tar on this side: {status}"),
    }
}

/// Runs a command and something beside it; an error unless it ends well.
async fn exec<F>(
    cri: &Cri,
    m: &ArgMatches,
    id: &str,
    cmd: &[&str],
    beside: impl FnOnce(&mut Remote) -> F,
) -> Result<()>
where
    F: Future<Output = ()>,
{
    let (transport, tls) = way(m)?;
    let ask = Ask {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let request = v1::ExecRequest {
        container_id: id.to_owned(),
        cmd: cmd.iter().map(|w| (*w).to_owned()).collect(),
        tty: false,
        stdin: true,
        stdout: true,
        stderr: true,
    };
    let what = format!("exec in container {id}");
    let url = act!(cri, &what, runtime.exec(request))?.url;
    let mut remote = Remote::connect(&full_url(&url), transport, ask, &tls).await?;
    let beside = beside(&mut remote);
    let stderr = remote.stderr.take();
    let mut said = String::new();
    let errors = async {
        if let Some(stderr) = stderr {
            // What cannot be read is no loss: the exit code tells.
            let _ = stderr.take(LONGEST).read_to_string(&mut said).await;
        }
    };
    let (outcome, (), ()) = tokio::join!(remote.outcome(), beside, errors);
    remote.close().await;
    match outcome? {
        Outcome::Exit(0) => Ok(()),
        Outcome::Exit(code) => bail!(
            "{} in the container: exit code {code}: {}",
            cmd[0],
            one_line(&said)
        ),
        Outcome::Failed(reason) => bail!(one_line(&reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_side() {
        assert_eq!(remote("abc:/x"), Some(("abc", "/x")));
        assert_eq!(remote("./a:b"), None);
        assert_eq!(remote("file"), None);
        assert_eq!(parts("/etc/hosts").expect("parts"), ("/etc", "hosts"));
        assert_eq!(parts("/hosts/").expect("parts"), ("/", "hosts"));
        assert_eq!(parts("hosts").expect("parts"), (".", "hosts"));
        assert!(parts("/").is_err());
        assert_eq!(
            transform("a.b,c", "d.e&"),
            "--transform=flags=r;s,^a\\.b\\,c,d.e\\&,"
        );
    }
}

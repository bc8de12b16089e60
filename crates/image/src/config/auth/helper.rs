//! Credential helpers: programs `docker-credential-NAME` that speak JSON on their pipes.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::Credentials;
use crate::{Error, Result};

const LIMIT: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Stored<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'a str,
    secret: &'a str,
}

/// Asks helper `name` for the credentials of `server`.
pub fn get(name: &str, server: &str) -> Result<Option<Credentials>> {
    let output = match call(name, "get", server.as_bytes()) {
        Ok(output) => output,
        Err(Failure::Said(text)) if text.contains("credentials not found") => return Ok(None),
        Err(failure) => return Err(failure.into_error(name, "get", server)),
    };
    let answer: Answer = serde_json::from_slice(&output).map_err(|e| Error::Document {
        what: "credential helper",
        why: format!("docker-credential-{name} get {server}: {e}"),
    })?;
    Ok(Some(if answer.username == "<token>" {
        Credentials::Identity(answer.secret)
    } else {
        Credentials::Basic {
            user: answer.username,
            password: answer.secret,
        }
    }))
}

/// Gives helper `name` credentials to keep.
pub fn store(name: &str, server: &str, user: &str, password: &str) -> Result<()> {
    let stored = Stored {
        server_url: server,
        username: user,
        secret: password,
    };
    let input = serde_json::to_vec(&stored).map_err(|e| Error::Document {
        what: "credentials",
        why: e.to_string(),
    })?;
    call(name, "store", &input)
        .map(drop)
        .map_err(|f| f.into_error(name, "store", server))
}

/// Lets helper `name` forget `server`; whether it knew it.
pub fn erase(name: &str, server: &str) -> Result<bool> {
    match call(name, "erase", server.as_bytes()) {
        Ok(_) => Ok(true),
        Err(Failure::Said(text)) if text.contains("credentials not found") => Ok(false),
        Err(failure) => Err(failure.into_error(name, "erase", server)),
    }
}

enum Failure {
    Io(std::io::Error),
    Said(String),
    Name,
}

impl Failure {
    fn into_error(self, name: &str, verb: &str, server: &str) -> Error {
        let what = format!("docker-credential-{name} {verb} {server}");
        match self {
            Self::Io(source) => Error::Io { what, source },
            Self::Said(why) => Error::Refused { what, why },
            Self::Name => Error::Refused {
                what,
                why: "not the name of a helper".to_owned(),
            },
        }
    }
}

fn call(name: &str, verb: &str, input: &[u8]) -> std::result::Result<Vec<u8>, Failure> {
    // The name becomes a program's: no path may come out of a configuration file's value.
    let word = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || !name.bytes().all(word) {
        return Err(Failure::Name);
    }
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(Failure::Io)?;
    let fed = match child.stdin.take() {
        // Dropped at the end of the arm: the helper sees the end of its input.
        Some(mut stdin) => stdin.write_all(input),
        None => Ok(()),
    };
    let mut output = Vec::new();
    let read = match child.stdout.take() {
        Some(stdout) => stdout.take(LIMIT).read_to_end(&mut output).map(drop),
        None => Ok(()),
    };
    // Waited for in any case: no zombie stays behind an error.
    let status = child.wait().map_err(Failure::Io)?;
    read.map_err(Failure::Io)?;
    if !status.success() {
        let text = String::from_utf8_lossy(&output);
        let line = text.lines().next().unwrap_or("").trim().to_owned();
        return Err(Failure::Said(if line.is_empty() {
            status.to_string()
        } else {
            line
        }));
    }
    // A helper that does not read its input may still have answered.
    match fed {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Io(e)),
        _ => Ok(output),
    }
}

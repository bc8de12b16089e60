//! What can go wrong, one line each.

use std::io;

/// Why a stream, a connection or a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no random bytes.
    #[error("make a token: getrandom: {0}")]
    Random(#[source] io::Error),
    /// The table of tokens is full.
    #[error(
        "make a token: {} requests wait for their clients already; try again in a minute",
        crate::token::MOST
    )]
    TooManyTokens,
    /// The peer broke the protocol, or a limit of ours.
    #[error("spdy: {0}")]
    Spdy(String),
    /// The peer broke the protocol, or a limit of ours.
    #[error("websocket: {0}")]
    WebSocket(String),
    /// The connection ended.
    #[error("the connection was closed")]
    Closed,
    /// Nothing was sent or received for too long.
    #[error("nothing sent or received for {0} s: the connection was closed")]
    Idle(u64),
    /// A system call on a connection or a file failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation and its argument.
        what: String,
        /// Its error.
        source: io::Error,
    },
    /// Not a URL that can be streamed to.
    #[error("url {url}: {reason}")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server answered with something else than an upgrade.
    #[error("upgrade {url}: {status}: {body}")]
    Refused {
        /// Where.
        url: String,
        /// The answer's status line.
        status: String,
        /// The first line of the answer.
        body: String,
    },
    /// HTTP went wrong before there was an answer.
    #[error("{what}: {reason}")]
    Http {
        /// The operation and its argument.
        what: String,
        /// What happened.
        reason: String,
    },
    /// Certificates or keys.
    #[error("tls: {0}")]
    Tls(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}

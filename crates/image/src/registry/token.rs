//! Bearer tokens (distribution-spec's token authentication, and OAuth2 for refresh tokens).

use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::Method;

use super::http::{Http, Payload, Request, Response, SMALL, cleaned};
use super::url::{Url, encode};
use crate::config::Credentials;
use crate::{Error, Result};

/// What a token lives at least, whatever its maker says.
const SHORTEST: u64 = 60;
/// What is taken off, so that a token does not end on its way.
const MARGIN: Duration = Duration::from_secs(10);

/// A token and when it must be made anew.
#[derive(Clone)]
pub struct Token {
    /// `Authorization`'s value.
    pub value: String,
    until: Instant,
}

impl Token {
    /// Whether it may still be sent.
    pub fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

/// Who hands out tokens, and what for.
pub struct Asked<'a> {
    /// `realm` of the challenge.
    pub realm: &'a str,
    /// `service` of the challenge.
    pub service: &'a str,
    /// What the token shall allow.
    pub scopes: &'a [String],
    /// Without checks of certificates, and over plain HTTP.
    pub insecure: bool,
}

/// Gets a token.
pub fn get(http: &Http, asked: &Asked<'_>, credentials: Option<&Credentials>) -> Result<Token> {
    let Some(url) = Url::parse(asked.realm) else {
        return Err(Error::Refused {
            what: format!("token server {:?}", cleaned(asked.realm)),
            why: "the registry's challenge names no URL".to_owned(),
        });
    };
    // A password is not sent in the clear because somebody between says so.
    if !url.tls && !asked.insecure {
        return Err(Error::Refused {
            what: format!("token server {url}"),
            why: "without TLS; mark the registry insecure if that is meant".to_owned(),
        });
    }
    let what = format!(
        "token from {}{}",
        url.authority,
        url.path.split('?').next().unwrap_or("")
    );
    let response = match credentials {
        Some(Credentials::Identity(token)) => refresh(http, asked, url, token)?,
        Some(Credentials::Basic { user, password }) => {
            let authorization = super::client::basic(user, password);
            ask(http, asked, url, Some(authorization), Some(user))?
        }
        Some(Credentials::Bearer(_)) | None => ask(http, asked, url, None, None)?,
    };
    read(response, &what)
}

fn ask(
    http: &Http,
    asked: &Asked<'_>,
    mut url: Url,
    authorization: Option<String>,
    account: Option<&str>,
) -> Result<Response> {
    if let Some(account) = account {
        url = url.with("account", account);
    }
    if !asked.service.is_empty() {
        url = url.with("service", asked.service);
    }
    for scope in asked.scopes {
        url = url.with("scope", scope);
    }
    http.send(Request {
        method: Method::GET,
        url,
        headers: Vec::new(),
        authorization,
        payload: Payload::Empty,
        insecure: asked.insecure,
    })
}

fn refresh(http: &Http, asked: &Asked<'_>, url: Url, token: &str) -> Result<Response> {
    let scope = asked.scopes.join(" ");
    let form = [
        ("grant_type", "refresh_token"),
        ("service", asked.service),
        ("client_id", "hull"),
        ("scope", &scope),
        ("refresh_token", token),
    ]
    .map(|(name, value)| format!("{name}={}", encode(value)))
    .join("&");
    http.send(Request {
        method: Method::POST,
        url,
        headers: vec![(
            "content-type",
            "application/x-www-form-urlencoded".to_owned(),
        )],
        authorization: None,
        payload: Payload::Bytes(form.as_bytes()),
        insecure: asked.insecure,
    })
}

fn read(response: Response, what: &str) -> Result<Token> {
    let response = super::client::expect(response, what, &[200])?;
    let bytes = response.bytes(SMALL).map_err(|source| Error::Io {
        what: what.to_owned(),
        source,
    })?;
    let refuse = |why: String| Error::Document {
        what: "token",
        why: format!("{what}: {why}"),
    };
    let answer: Answer = serde_json::from_slice(&bytes).map_err(|e| refuse(e.to_string()))?;
    let token = if answer.token.is_empty() {
        answer.access_token
    } else {
        answer.token
    };
    let visible = |b: u8| b.is_ascii_graphic();
    if token.is_empty() || !token.bytes().all(visible) {
        return Err(refuse("no token in the answer".to_owned()));
    }
    let lives = Duration::from_secs(
        answer
            .expires_in
            .unwrap_or(SHORTEST)
            .clamp(SHORTEST, 86_400),
    );
    Ok(Token {
        value: format!("Bearer {token}"),
        until: Instant::now() + lives.saturating_sub(MARGIN),
    })
}

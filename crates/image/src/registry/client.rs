//! One registry: who one is there, requests that are repeated, answers that are judged.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use serde::Deserialize;
use ureq::http::Method;

use super::challenge::{self, Challenge};
use super::http::{Http, Payload, Request, Response, cleaned};
use super::retry::{Retry, is_transient, retry_after};
use super::token::{self, Asked, Token};
use super::url::Url;
use crate::config::Credentials;
use crate::{DEFAULT_HOST, Error, Reference, Result};

/// Talks to the registry of one repository.
pub struct Client {
    http: Arc<Http>,
    reference: Reference,
    base: Url,
    insecure: bool,
    credentials: Option<Credentials>,
    retry: Retry,
    challenges: Mutex<Vec<Challenge>>,
    tokens: Mutex<HashMap<String, Token>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.reference)
    }
}

/// How a client is made.
#[derive(Debug)]
pub struct Connect {
    /// Sends the requests.
    pub http: Arc<Http>,
    /// Certificates are not checked, plain HTTP will do.
    pub insecure: bool,
    /// Who one is.
    pub credentials: Option<Credentials>,
    /// How often requests are repeated.
    pub retry: Retry,
}

/// A request to a registry, which can be made again.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// GET, PUT, …
    pub method: Method,
    /// Below the registry's root, or elsewhere as it told.
    pub target: Target,
    /// Header fields.
    pub headers: Vec<(&'static str, String)>,
    /// What it carries.
    pub bytes: Option<&'a [u8]>,
    /// What it needs to be allowed to, besides pulling from the client's repository.
    pub needs: Needs,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// `/v2/` + this.
    Path(String),
    /// A URL that the registry gave.
    Url(Url),
}

/// What a request must be allowed to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Needs {
    /// Nothing but to be known.
    Login,
    /// Read.
    Pull,
    /// Read and write.
    Push,
    /// Delete.
    Delete,
    /// Write, and read from another repository of the same registry.
    Mount(String),
}

impl<'a> Call<'a> {
    /// A request without a body.
    pub const fn new(method: Method, target: Target, needs: Needs) -> Self {
        Self {
            method,
            target,
            headers: Vec::new(),
            bytes: None,
            needs,
        }
    }

    /// With a header field.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a body.
    pub const fn body(mut self, bytes: &'a [u8]) -> Self {
        self.bytes = Some(bytes);
        self
    }
}

impl Client {
    /// Asks the registry of `reference` how it wants to be spoken to.
    ///
    /// # Errors
    /// It was not reached.
    pub fn connect(reference: Reference, how: Connect) -> Result<Self> {
        let host = match reference.host() {
            DEFAULT_HOST => "registry-1.docker.io",
            host => host,
        };
        let mut client = Self {
            http: how.http,
            base: Url {
                tls: true,
                authority: host.to_ascii_lowercase(),
                path: "/v2/".to_owned(),
            },
            reference,
            insecure: how.insecure,
            credentials: how.credentials,
            retry: how.retry,
            challenges: Mutex::default(),
            tokens: Mutex::default(),
        };
        let response = client.first_contact()?;
        client.learn(&response);
        match response.status {
            // Some registries hide /v2/ from who is not known, others do not have it.
            200..=299 | 401 | 403 | 404 => Ok(client),
            _ => Err(refusal(response, &format!("GET {}", client.base))),
        }
    }

    /// The repository.
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// How often requests are repeated.
    pub const fn retry(&self) -> Retry {
        self.retry
    }

    /// With TLS if that can be, else without if that may be.
    fn first_contact(&mut self) -> Result<Response> {
        if self.insecure {
            // Once: most that are marked insecure speak plain HTTP.
            let Err(first) = self.ping() else {
                return self.repeat(|| self.ping());
            };
            self.base.tls = false;
            // The first failure is the one to tell if nobody speaks plain HTTP either.
            return self.repeat(|| self.ping()).map_err(|_| first);
        }
        self.repeat(|| self.ping()).map_err(|e| match e {
            Error::Connection { what, why } if why.starts_with("TLS:") => Error::Connection {
                what,
                why: format!(
                    "{why}; --tls-verify=false, or `insecure` in registries.conf, if that is meant"
                ),
            },
            e => e,
        })
    }

    fn ping(&self) -> Result<Response> {
        self.http.send(Request {
            method: Method::GET,
            url: self.base.clone(),
            headers: Vec::new(),
            authorization: None,
            payload: Payload::Empty,
            insecure: self.insecure,
        })
    }

    /// Asks whether the registry knows the one who has these credentials.
    pub fn check_login(&self) -> Result<()> {
        let call = Call::new(Method::GET, Target::Path(String::new()), Needs::Login);
        self.call(&call, &[200]).map(drop)
    }

    fn learn(&self, response: &Response) {
        let found = challenge::parse(&response.headers("www-authenticate"));
        if !found.is_empty() {
            *self
                .challenges
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = found;
        }
    }

    /// A path below this client's repository: `NAME/rest`.
    pub fn path(&self, rest: &str) -> Target {
        Target::Path(format!("{}/{rest}", self.reference.path()))
    }

    fn url(&self, target: &Target) -> Url {
        match target {
            Target::Url(url) => url.clone(),
            Target::Path(path) => Url {
                path: format!("/v2/{path}"),
                ..self.base.clone()
            },
        }
    }

    /// What `location` in an answer means.
    pub fn follow(&self, response: &Response, location: &str) -> Result<Url> {
        let next = response.url.join(location);
        let next = next.filter(|u| u.tls || !self.base.tls || self.insecure);
        next.ok_or_else(|| Error::Refused {
            what: format!("{}", response.url),
            why: format!("it says to go on at {:?}", cleaned(location)),
        })
    }

    /// Makes a request, again where that may help; the answer has one of the statuses `good`.
    ///
    /// # Errors
    /// Not reached, or another answer.
    pub fn call(&self, call: &Call<'_>, good: &[u16]) -> Result<Response> {
        let what = format!("{} {}", call.method, self.url(&call.target));
        let response = self.repeat(|| {
            let response = self.authorized(call)?;
            Ok(response)
        })?;
        expect(response, &what, good)
    }

    /// Makes a request whose body can be read only once: no repetition here, but an error that
    /// says whether one may help.
    ///
    /// # Errors
    /// Not reached, or another answer than one of the statuses `good`.
    pub fn call_stream(
        &self,
        call: &Call<'_>,
        payload: Payload<'_>,
        good: &[u16],
    ) -> Result<Response> {
        let url = self.url(&call.target);
        let what = format!("{} {url}", call.method);
        let authorization = self.authorization(&url, &call.needs)?;
        let sent = self.http.send(Request {
            method: call.method.clone(),
            url,
            headers: call.headers.clone(),
            authorization,
            payload,
            insecure: self.insecure,
        });
        let result = sent.and_then(|response| expect(response, &what, good));
        result.map_err(|e| match e {
            e if !e.is_transient() => e,
            Error::Status { status, why, .. } => Error::Interrupted {
                what,
                why: format!("{status} {why}"),
            },
            Error::Connection { why, .. } => Error::Interrupted { what, why },
            e => e,
        })
    }

    /// Once, and once more with a new token if the registry did not like the old one.
    fn authorized(&self, call: &Call<'_>) -> Result<Response> {
        let url = self.url(&call.target);
        let send = |authorization| {
            self.http.send(Request {
                method: call.method.clone(),
                url: url.clone(),
                headers: call.headers.clone(),
                authorization,
                payload: call.bytes.map_or(Payload::Empty, Payload::Bytes),
                insecure: self.insecure,
            })
        };
        let response = send(self.authorization(&url, &call.needs)?)?;
        if response.status != 401 || !self.base.same_host(&response.url) {
            return Ok(response);
        }
        self.learn(&response);
        self.tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        match self.authorization(&url, &call.needs)? {
            None => Ok(response),
            again => send(again),
        }
    }

    /// `Authorization` for a request: none for another host than the registry's.
    fn authorization(&self, url: &Url, needs: &Needs) -> Result<Option<String>> {
        if !self.base.same_host(url) {
            return Ok(None);
        }
        if let Some(Credentials::Bearer(token)) = &self.credentials {
            return Ok(Some(format!("Bearer {token}")));
        }
        let challenges = self
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let bearer = challenges.iter().find_map(|c| match c {
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        if let Some((realm, service, scope)) = bearer {
            return self.bearer(realm, service, scope, needs).map(Some);
        }
        match &self.credentials {
            Some(Credentials::Basic { user, password }) if !challenges.is_empty() => {
                Ok(Some(basic(user, password)))
            }
            _ => Ok(None),
        }
    }

    fn bearer(&self, realm: &str, service: &str, scope: &str, needs: &Needs) -> Result<String> {
        let mut scopes = self.scopes(needs);
        // What the registry itself asked for, unless it is one of those already.
        if !scope.is_empty() && !scopes.iter().any(|s| covers(s, scope)) {
            scopes.push(scope.to_owned());
        }
        let key = scopes.join(" ");
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = tokens.get(&key).filter(|t| t.is_fresh()) {
            return Ok(token.value.clone());
        }
        // The lock is held: several layers begin at once, and one token does for all.
        let asked = Asked {
            realm,
            service,
            scopes: &scopes,
            insecure: self.insecure,
        };
        let token =
            self.repeat_any(|| token::get(&self.http, &asked, self.credentials.as_ref()))?;
        let value = token.value.clone();
        tokens.insert(key, token);
        Ok(value)
    }

    fn scopes(&self, needs: &Needs) -> Vec<String> {
        let path = self.reference.path();
        match needs {
            Needs::Login => Vec::new(),
            Needs::Pull => vec![format!("repository:{path}:pull")],
            Needs::Push => vec![format!("repository:{path}:pull,push")],
            Needs::Delete => vec![format!("repository:{path}:delete,pull")],
            Needs::Mount(from) => vec![
                format!("repository:{path}:pull,push"),
                format!("repository:{from}:pull"),
            ],
        }
    }

    /// Repeats `attempt` while the connection breaks or the answer is a passing one.
    fn repeat(&self, attempt: impl Fn() -> Result<Response>) -> Result<Response> {
        let mut n = 0;
        loop {
            let result = attempt();
            let asked = match &result {
                Ok(r) if is_transient(r.status) => r.header("retry-after").map(str::to_owned),
                Ok(_) => return result,
                Err(e) if e.is_transient() => None,
                Err(_) => return result,
            };
            let asked = asked.and_then(|v| retry_after(&v, now()));
            let Some(pause) = self.retry.pause(n, asked) else {
                return result;
            };
            n += 1;
            std::thread::sleep(pause);
        }
    }

    /// The same for what is judged already.
    fn repeat_any<T>(&self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        let mut n = 0;
        loop {
            let error = match attempt() {
                Err(e) if e.is_transient() => e,
                other => return other,
            };
            let Some(pause) = self.retry.pause(n, None) else {
                return Err(error);
            };
            n += 1;
            std::thread::sleep(pause);
        }
    }
}

/// Whether scope `have` (`repository:x:pull,push`) allows all of `want`.
fn covers(have: &str, want: &str) -> bool {
    let split = |s: &str| {
        s.rsplit_once(':')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    match (split(have), split(want)) {
        (Some((a, actions)), Some((b, wanted))) => {
            let have: Vec<&str> = actions.split(',').collect();
            a == b && wanted.split(',').all(|w| have.contains(&w))
        }
        _ => have == want,
    }
}

/// `Authorization` of name and password.
pub fn basic(user: &str, password: &str) -> String {
    let pair = format!("{user}:{password}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

/// Lets answers of the statuses `good` pass.
pub fn expect(response: Response, what: &str, good: &[u16]) -> Result<Response> {
    if good.contains(&response.status) {
        Ok(response)
    } else {
        Err(refusal(response, what))
    }
}

/// The error that an answer is.
fn refusal(response: Response, what: &str) -> Error {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<One>,
        #[serde(default)]
        details: String,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = response.status;
    let body = response.bytes(64 << 10).unwrap_or_default();
    let said = serde_json::from_slice::<Errors>(&body).ok().map(|e| {
        let texts = e.errors.iter().map(|o| format!("{} {}", o.code, o.message));
        let texts: Vec<String> = texts
            .chain([e.details])
            .filter(|t| !t.trim().is_empty())
            .collect();
        texts.join("; ")
    });
    let why = match said.filter(|s| !s.is_empty()) {
        Some(text) => cleaned(&text),
        None => match status {
            401 => "not logged in, or not allowed; see `hullctl image login`".to_owned(),
            403 => "not allowed".to_owned(),
            404 => "not found".to_owned(),
            429 => "too many requests".to_owned(),
            _ => cleaned(std::str::from_utf8(&body).unwrap_or("")),
        },
    };
    Error::Status {
        what: what.to_owned(),
        status,
        why,
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}

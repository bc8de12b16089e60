//! HTTP: one agent per host, because each host has its own certificates; redirects are followed
//! here, so that credentials stay where they belong.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ureq::http::{Method, Request as HttpRequest, Response as HttpResponse};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body as HttpBody, SendBody};

use super::url::Url;
use crate::config::CertDirs;
use crate::{Error, Result};

/// Longest time to reach a host.
const CONNECT: Duration = Duration::from_secs(30);
/// Longest silence of a host that was reached.
const SILENCE: Duration = Duration::from_secs(60);
const REDIRECTS: usize = 10;
/// Largest answer that is not a blob.
pub const SMALL: u64 = 8 << 20;

/// Sends requests.
#[derive(Debug)]
pub struct Http {
    certs: CertDirs,
    agents: Mutex<HashMap<(String, bool), Agent>>,
    roots: OnceLock<Vec<Certificate<'static>>>,
}

/// What a request carries.
pub enum Payload<'a> {
    /// Nothing.
    Empty,
    /// All at once.
    Bytes(&'a [u8]),
    /// Of known length, read while it is sent.
    Stream(&'a mut dyn Read, u64),
}

/// A request.
pub struct Request<'a> {
    /// GET, PUT, …
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Header fields besides `Authorization`.
    pub headers: Vec<(&'static str, String)>,
    /// Value of `Authorization`; it does not go along to other hosts.
    pub authorization: Option<String>,
    /// What it carries.
    pub payload: Payload<'a>,
    /// Certificates are not checked.
    pub insecure: bool,
}

/// An answer, its body not yet read.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Where it came from, after redirects.
    pub url: Url,
    inner: HttpResponse<HttpBody>,
}

impl Response {
    /// A header field, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// All fields of a name.
    pub fn headers(&self, name: &str) -> Vec<String> {
        let all = self.inner.headers().get_all(name);
        all.iter()
            .filter_map(|v| v.to_str().ok())
            .map(str::to_owned)
            .collect()
    }

    /// The body, of any length.
    pub fn into_reader(self) -> Box<dyn Read + Send> {
        Box::new(self.inner.into_body().into_reader())
    }

    /// The body, of at most `limit` bytes.
    pub fn bytes(self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let reader = self.inner.into_body().into_reader();
        reader.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            let why = format!("the answer has more than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(bytes)
    }
}

impl Http {
    /// Uses the certificates in `certs` besides the machine's.
    pub fn new(certs: CertDirs) -> Self {
        Self {
            certs,
            agents: Mutex::default(),
            roots: OnceLock::new(),
        }
    }

    /// Sends a request and follows redirects of those that carry nothing. An answer of any status
    /// is an answer.
    pub fn send(&self, request: Request<'_>) -> Result<Response> {
        let Request {
            method,
            url,
            headers,
            authorization,
            payload,
            insecure,
        } = request;
        let what = format!("{method} {url}");
        let follow =
            matches!(payload, Payload::Empty) && (method == Method::GET || method == Method::HEAD);
        let first = url.clone();
        let mut response = self.once(
            &method,
            url,
            &headers,
            authorization.as_deref(),
            payload,
            insecure,
        )?;
        for _ in 0..REDIRECTS {
            if !follow || !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.header("location").unwrap_or("");
            let Some(next) = response.url.join(location) else {
                return Err(Error::Refused {
                    what,
                    why: format!("redirected to {:?}, which is no URL", cleaned(location)),
                });
            };
            if first.tls && !next.tls && !insecure {
                return Err(Error::Refused {
                    what,
                    why: format!("redirected to {next}, without TLS"),
                });
            }
            // Another host gets no credentials (and neither does the same without TLS).
            let authorization = authorization.as_deref().filter(|_| first.same_host(&next));
            response = self.once(
                &method,
                next,
                &headers,
                authorization,
                Payload::Empty,
                insecure,
            )?;
        }
        Err(Error::Refused {
            what,
            why: format!("redirected more than {REDIRECTS} times"),
        })
    }

    fn once(
        &self,
        method: &Method,
        url: Url,
        headers: &[(&'static str, String)],
        authorization: Option<&str>,
        payload: Payload<'_>,
        insecure: bool,
    ) -> Result<Response> {
        let failed = |why: String| Error::Connection {
            what: format!("{method} {url}"),
            why,
        };
        let agent = self.agent(&url, insecure)?;
        let mut builder = HttpRequest::builder().method(method).uri(url.to_string());
        for (name, value) in headers {
            builder = builder.header(*name, value);
        }
        if let Some(value) = authorization {
            builder = builder.header("authorization", value);
        }
        let bad = |e: ureq::http::Error| failed(e.to_string());
        let result = match payload {
            Payload::Empty if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
                // An empty body is said to be empty; some registries insist.
                agent.run(builder.body(&[][..]).map_err(bad)?)
            }
            Payload::Empty => agent.run(builder.body(()).map_err(bad)?),
            Payload::Bytes(bytes) => agent.run(builder.body(bytes).map_err(bad)?),
            Payload::Stream(reader, length) => {
                let builder = builder.header("content-length", length);
                agent.run(builder.body(SendBody::from_reader(reader)).map_err(bad)?)
            }
        };
        let inner = result.map_err(|e| failed(explain(&e)))?;
        Ok(Response {
            status: inner.status().as_u16(),
            url,
            inner,
        })
    }

    fn agent(&self, url: &Url, insecure: bool) -> Result<Agent> {
        let key = (url.authority.clone(), insecure);
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("hull/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .max_idle_connections_per_host(8)
            .input_buffer_size(128 << 10)
            .output_buffer_size(128 << 10);
        if url.tls {
            config = config.tls_config(self.tls(&url.authority, insecure)?);
        }
        let agent = Agent::new_with_config(config.build());
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    fn tls(&self, authority: &str, insecure: bool) -> Result<TlsConfig> {
        let found = self.certs.for_host(authority)?;
        let refuse = |why: &str| Error::Document {
            what: "certificates",
            why: format!("for {authority}: {why}"),
        };
        let mut roots = self.roots.get_or_init(machine_roots).clone();
        for pem in &found.authorities {
            let certs = chain(pem).ok_or_else(|| refuse("a .crt file without a certificate"))?;
            roots.extend(certs);
        }
        let client = match &found.client {
            None => None,
            Some((cert, key)) => {
                let certs =
                    chain(cert).ok_or_else(|| refuse("the .cert file has no certificate"))?;
                let key =
                    PrivateKey::from_pem(key).map_err(|_| refuse("the .key file has no key"))?;
                Some(ClientCert::new_with_certs(&certs, key))
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(client)
            .disable_verification(insecure)
            .build())
    }
}

/// The machine's certificate authorities. Those that cannot be read are left out: if all are, a
/// connection says that nobody vouches for the certificate.
fn machine_roots() -> Vec<Certificate<'static>> {
    let loaded = rustls_native_certs::load_native_certs();
    let der = loaded.certs.iter();
    der.map(|c| Certificate::from_der(c.as_ref()).to_owned())
        .collect()
}

fn chain(pem: &[u8]) -> Option<Vec<Certificate<'static>>> {
    let certs: Vec<Certificate<'static>> = parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(cert)) => Some(cert),
            _ => None,
        })
        .collect();
    (!certs.is_empty()).then_some(certs)
}

fn explain(error: &ureq::Error) -> String {
    match error {
        // What rustls finds wrong with the other side arrives as invalid data.
        ureq::Error::Io(e) if e.kind() == io::ErrorKind::InvalidData => format!("TLS: {e}"),
        ureq::Error::Io(e) => e.to_string(),
        ureq::Error::HostNotFound => "the host name has no address".to_owned(),
        ureq::Error::ConnectionFailed => "not reached".to_owned(),
        ureq::Error::Timeout(kind) => format!("no answer in time ({kind})"),
        ureq::Error::Rustls(e) => format!("TLS: {e}"),
        other => other.to_string(),
    }
}

/// Text from outside as it may be shown: short, and without what moves a terminal's cursor.
pub fn cleaned(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    visible.take(300).collect::<String>().trim().to_owned()
}

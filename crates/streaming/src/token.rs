//! Tickets: a request is left here, and fetched once by whoever has its name.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::backend::{AttachRequest, ExecRequest, PortForwardRequest};
use crate::error::Error;

/// How long a ticket waits for its client.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// How many tickets wait at most; each is at most as large as one CRI message.
pub const MOST: usize = 1000;

/// What a ticket stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `/exec/TOKEN`.
    Exec(ExecRequest),
    /// `/attach/TOKEN`.
    Attach(AttachRequest),
    /// `/portforward/TOKEN`.
    PortForward(PortForwardRequest),
}

impl Request {
    /// The first part of the path.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Request::Exec(_) => "exec",
            Request::Attach(_) => "attach",
            Request::PortForward(_) => "portforward",
        }
    }
}

/// The tickets that wait.
#[derive(Debug, Default)]
pub struct Tokens(Mutex<HashMap<String, (Request, Instant)>>);

impl Tokens {
    fn waiting(&self) -> MutexGuard<'_, HashMap<String, (Request, Instant)>> {
        // Nothing that can panic happens under the lock; a map is a map in any case.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a request; its name is 128 random bits.
    ///
    /// # Errors
    /// Too many wait already; the kernel gives no random bytes.
    pub fn leave(&self, request: Request, now: Instant) -> Result<String, Error> {
        let mut bytes = [0_u8; 16];
        let mut have = 0;
        while have < bytes.len() {
            have +=
                rustix::rand::getrandom(&mut bytes[have..], rustix::rand::GetRandomFlags::empty())
                    .map_err(|e| Error::Random(e.into()))?;
        }
        let name: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let mut waiting = self.waiting();
        waiting.retain(|_, (_, until)| *until > now);
        if waiting.len() >= MOST {
            return Err(Error::TooManyTokens);
        }
        waiting.insert(name.clone(), (request, now + LIFETIME));
        Ok(name)
    }

    /// Fetches a request, which works once, in time, and under its own verb.
    #[must_use]
    pub fn fetch(&self, verb: &str, name: &str, now: Instant) -> Option<Request> {
        let mut waiting = self.waiting();
        waiting.retain(|_, (_, until)| *until > now);
        let (request, _) = waiting.get(name)?;
        if request.verb() != verb {
            return None;
        }
        waiting.remove(name).map(|(request, _)| request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pod: &str) -> Request {
        Request::PortForward(PortForwardRequest {
            pod: pod.to_owned(),
            ports: Vec::new(),
        })
    }

    #[test]
    fn once_in_time_under_its_verb() {
        let tokens = Tokens::default();
        let now = Instant::now();
        let name = tokens.leave(request("a"), now).expect("a token");
        assert_eq!(name.len(), 32);
        assert_eq!(tokens.fetch("exec", &name, now), None);
        assert_eq!(tokens.fetch("portforward", "other", now), None);
        assert_eq!(tokens.fetch("portforward", &name, now), Some(request("a")));
        assert_eq!(tokens.fetch("portforward", &name, now), None);

        let name = tokens.leave(request("b"), now).expect("a token");
        assert_eq!(tokens.fetch("portforward", &name, now + LIFETIME), None);
    }

    #[test]
    fn bounded_until_they_expire() {
        let tokens = Tokens::default();
        let now = Instant::now();
        let names: std::collections::HashSet<String> = (0..MOST)
            .map(|_| tokens.leave(request("a"), now).expect("a token"))
            .collect();
        assert_eq!(names.len(), MOST);
        assert!(matches!(
            tokens.leave(request("a"), now),
            Err(Error::TooManyTokens)
        ));
        tokens
            .leave(request("a"), now + LIFETIME)
            .expect("the others are gone");
        assert_eq!(tokens.waiting().len(), 1);
    }
}

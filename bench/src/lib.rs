//! What the three programs share: reading their command lines.

use std::error::Error;
use std::fmt::Display;
use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow};

/// The words of a command line, and what to say of one that is wrong.
#[derive(Debug)]
pub struct Words {
    rest: std::vec::IntoIter<String>,
    usage: &'static str,
}

impl Words {
    /// This process's.
    #[must_use]
    pub fn new(usage: &'static str) -> Self {
        let words: Vec<String> = std::env::args().skip(1).collect();
        Self {
            rest: words.into_iter(),
            usage,
        }
    }

    /// The value of an option.
    ///
    /// # Errors
    /// There is none.
    pub fn value(&mut self, option: &str) -> Result<String> {
        let next = self.rest.next();
        next.with_context(|| format!("{option} needs a value\n{}", self.usage))
    }

    /// The same, as a number.
    ///
    /// # Errors
    /// There is none, or it is no such number.
    pub fn number<T>(&mut self, option: &str) -> Result<T>
    where
        T: FromStr,
        T::Err: Error + Send + Sync + Display + 'static,
    {
        let value = self.value(option)?;
        value.parse().with_context(|| format!("{option} {value}"))
    }

    /// There is no such word.
    #[must_use]
    pub fn unknown(&self, word: &str) -> anyhow::Error {
        anyhow!("unknown word {word}\n{}", self.usage)
    }
}

impl Iterator for Words {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.rest.next()
    }
}

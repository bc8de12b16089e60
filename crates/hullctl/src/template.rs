//! Go's template language over a JSON document: what `-o go-template`, `--template` and `--format`
//! take.
//!
//! The language of Go's text/template without `define`, `template` and `block`, with its printing
//! rules, its functions, and the helpers people know from other container tools: `json`, `lower`,
//! `upper`, `title`, `join`, `split`, `truncate`, `pad`.

mod eval;
mod format;
mod parse;
mod value;

use serde_json::Value;

/// Why a template has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: byte {at}: {reason}")]
pub struct Error {
    /// Where, in bytes from the template's start.
    pub at: usize,
    /// What is wrong.
    pub reason: String,
}

impl Error {
    fn new(at: usize, reason: impl Into<String>) -> Self {
        Error {
            at,
            reason: reason.into(),
        }
    }
}

/// A parsed template; cheap to use many times.
#[derive(Debug, Clone)]
pub struct Template(Vec<parse::Node>);

impl Template {
    /// Parses; every mistake in the text is found here.
    ///
    /// # Errors
    /// The first mistake and its place.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse::parse(text).map(Template)
    }

    /// The text for one document.
    ///
    /// # Errors
    /// A function given what it cannot take, an index out of range.
    pub fn render(&self, data: &Value) -> Result<String, Error> {
        eval::render(&self.0, data)
    }
}

#[cfg(test)]
mod tests;

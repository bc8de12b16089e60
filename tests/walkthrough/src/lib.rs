//! Runs sessions: transcripts of commands and what they must show.
//!
//! A session is a text, one step a line, that reads like the terminal of the person who tries it:
//!
//! | line | meaning |
//! |---|---|
//! | `# text` | a remark |
//! | `$ command` | run by a shell in the session's directory; must succeed, unless followed by `!` |
//! | `< pattern` | the last command's output has such a line, after the line matched before |
//! | `<! pattern` | it has no such line |
//! | `! pattern` | the last command failed, with such a line on standard error |
//! | `1$ command` | started on terminal 1 |
//! | `1> text` | typed on terminal 1, with Enter |
//! | `1< text` | appears on terminal 1, after what was matched there before |
//! | `1! text` | does not appear there for half a second |
//! | `1= code` | its command ends with this code |
//!
//! In a pattern, `*` stands for any text and `?` for any character.

// A failed step must stop the session at its line: that is what panics are for here.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod document;
mod image;
mod pattern;
mod session;

pub use document::steps_of;
pub use image::{debian, nginx};
pub use session::Session;

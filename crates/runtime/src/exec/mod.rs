//! Running a command in a container that runs.

mod request;

pub use request::{SubCgroup, User, Wish, parse_id};

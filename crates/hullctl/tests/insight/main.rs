//! `hullctl why`, `top`, `doctor` and `selftest`, on real containers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audit;
mod doctor;
mod hint;
mod selftest;
mod supervisors;
mod support;
mod top;
mod why;
mod words;

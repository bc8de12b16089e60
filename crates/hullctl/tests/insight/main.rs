//! `hullctl why`, `top`, `doctor` and `selftest`, on real containers.

mod doctor;
mod selftest;
mod support;
mod top;
mod why;

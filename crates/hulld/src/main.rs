//! The program hulld.

fn main() {}

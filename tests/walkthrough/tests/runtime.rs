//! The sessions, on the runtime under test.

use walkthrough::{Session, debian};

#[test]
fn the_parts_of_a_container() {
    let session = Session::new("part1", None);
    session.play(include_str!("../part1.session"));
}

#[test]
fn the_life_of_a_container() {
    let session = Session::new("walkthrough", Some(&debian()));
    session.play(include_str!("../runtime.session"));
}

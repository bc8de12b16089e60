//! The sessions, on the runtime under test.

use walkthrough::{Session, debian};

#[test]
fn the_life_of_a_container() {
    let session = Session::new("walkthrough", &debian());
    session.play(include_str!("../runtime.session"));
}

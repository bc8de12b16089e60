//! The sessions, on the runtime under test.

use walkthrough::{Session, debian, nginx, steps_of};

#[test]
fn the_parts_of_a_container() {
    let session = Session::new("part1", None);
    session.play(include_str!("../part1.session"));
}

#[test]
fn the_tour() {
    let part = |name, text| Session::new(name, None).play(&steps_of(text));
    part("tour-1", include_str!("../../../docs/tour.md"));
    part("tour-2", include_str!("../../../docs/tour-2.md"));
}

#[test]
fn the_life_of_a_container() {
    let session = Session::new("walkthrough", Some(&debian()));
    session.play(include_str!("../runtime.session"));
}

#[test]
fn a_kubernetes_workload_without_kubernetes() {
    let session = Session::new("part2", Some(&nginx()));
    session.play(include_str!("../part2.session"));
}

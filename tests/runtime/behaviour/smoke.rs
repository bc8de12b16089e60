//! The suite itself works.
use runtime_suite::prelude::*;

#[test]
fn a_container_runs() {
    case(|t| {
        assert_eq!(t.sh("echo hello; hostname", |_| {}), "hello\nsuite");
        let r = t.report(|_| {});
        assert_eq!(r.0["pid"], 1);
        println!("{:#?}", r.fds());
    });
}

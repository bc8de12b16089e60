//! The store beside a daemon that keeps it.

use std::path::Path;
use std::time::Duration;

use image::Reference;
use image::store::{PullOptions, Store, StoreOptions};
use image::transport::{LayoutSource, Name};

use crate::support::{Desk, layout};

#[test]
fn a_daemons_store_is_read_and_not_written() {
    let desk = Desk::new();
    layout(&desk, &desk.path("layout"));
    let root = desk.path("store");
    let options = StoreOptions {
        kept: true,
        ..StoreOptions::default()
    };
    let store = Store::open_with(Path::new(&root), &options).unwrap();
    let source = LayoutSource::open(Path::new(&desk.path("layout")), &Name::Only).unwrap();
    let name = Reference::parse("here.local/app:1").unwrap();
    let image = store.pull(&source, &name, &PullOptions::default()).unwrap();

    // All that only looks.
    let list = desk.ok(&["ls", "--root", &root]);
    assert!(list.contains("here.local/app"), "{list}");
    let shown = desk.ok(&["inspect", "--root", &root, "here.local/app:1"]);
    assert!(shown.contains(image.id.hex()), "{shown}");
    desk.ok(&["history", "--root", &root, "here.local/app:1"]);
    desk.ok(&["df", "--root", &root]);
    desk.ok(&["save", "--root", &root, "-o", "app.tar", "here.local/app:1"]);
    let mut copy = vec!["copy", "-q", "--root", &root];
    copy.extend(["hull:here.local/app:1", "dir:out"]);
    desk.ok(&copy);

    // What would change it is told whom to ask, without waiting for the daemon's end.
    let changes: [&[&str]; 4] = [
        &["tag", "--root", &root, "here.local/app:1", "other:1"],
        &["rm", "--root", &root, "here.local/app:1"],
        &["gc", "--root", &root],
        &["pull", "-q", "--root", &root, "--name", "x", "oci:layout:x"],
    ];
    for words in changes {
        let error = desk.fails(words);
        assert_eq!(error.lines().count(), 1, "{error}");
        let pid = std::process::id().to_string();
        let says = error.contains("keeps it while it runs") && error.contains(&pid);
        assert!(says && error.contains("--root DIR"), "{error}");
    }

    // The next daemon waits for the end of this one.
    let next = StoreOptions {
        wait: Duration::from_secs(60),
        ..options
    };
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| Store::open_with(Path::new(&root), &next));
        drop(store);
        assert_eq!(opening.join().unwrap().unwrap().images().unwrap().len(), 1);
    });
    desk.ok(&["rm", "--root", &root, "here.local/app:1"]);
}

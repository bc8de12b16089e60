//! Names: the tags of a repository, of layouts and archives, and short names.

use std::fs;

use crate::support::{Desk, Registry, layout};

#[test]
fn tags_in_layouts_and_archives() {
    let desk = Desk::new();
    layout(&desk, &desk.path("layout"));
    desk.ok(&["copy", "-q", "oci:layout:x", "oci:layout:y"]);
    desk.ok(&["copy", "-q", "oci:layout:x", "oci-archive:one.tar:z"]);
    desk.ok(&[
        "copy",
        "-q",
        "oci:layout:x",
        "docker-archive:two.tar:here.local/app:1",
    ]);
    let text = |place: &str| desk.ok(&["list-tags", "--format", "text", place]);
    assert_eq!(text("oci:layout"), "x\ny\n");
    assert_eq!(text("oci-archive:one.tar"), "z\n");
    assert_eq!(text("docker-archive:two.tar"), "here.local/app:1\n");
    let json = desk.ok(&["list-tags", "oci:layout"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["Repository"], "oci:layout");
    assert_eq!(json["Tags"], serde_json::json!(["x", "y"]));
    for (place, why) in [
        ("oci:nowhere", "nowhere"),
        ("oci-archive:two.tar", "two.tar"),
        ("docker-archive:none.tar", "none.tar"),
        ("dir:layout", "write docker://NAME"),
        ("docker://127.0.0.1:1/x:1", "no tag here"),
    ] {
        let error = desk.fails(&["list-tags", place]);
        assert!(error.contains(why) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn short_names_by_alias_and_search() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let host = registry.address.as_str();
    fs::create_dir_all(desk.path("containers/registries.conf.d")).unwrap();
    let conf = format!(
        "unqualified-search-registries = [\"{host}\"]\n\
         [[registry]]\nlocation = \"{host}\"\ninsecure = true\n\
         [aliases]\n\"app\" = \"{host}/wrong/place\"\n"
    );
    fs::write(desk.path("containers/registries.conf"), conf).unwrap();
    // A later file has the last word.
    let alias = format!("[aliases]\n\"app\" = \"{host}/team/app\"\n");
    fs::write(desk.path("containers/registries.conf.d/alias.conf"), alias).unwrap();
    layout(&desk, &desk.path("layout"));
    desk.ok(&["login", "-u", "person", "-p", "secret", host]);
    for name in ["team/app:1", "found:2"] {
        let to = format!("docker://{host}/{name}");
        desk.ok(&["copy", "-q", "oci:layout:x", &to]);
    }
    let root = desk.path("store");
    let pull = |name: &str| desk.ok(&["pull", "-q", "--root", &root, name]);
    let id = pull("app:1");
    assert_eq!(pull("found:2"), id);
    let list = desk.ok(&["ls", "--root", &root, "--format", "json"]);
    for name in ["team/app:1", "found:2"] {
        assert!(list.contains(&format!("{host}/{name}")), "{name}: {list}");
    }
    // The short name finds it in the store, too.
    let shown = desk.ok(&["inspect", "--root", &root, "--format", "{{.Id}}", "app:1"]);
    assert_eq!(shown, id);
    let removed = desk.ok(&["rm", "--root", &root, "app:1"]);
    assert_eq!(removed, format!("untagged {host}/team/app:1\n"));
    let error = desk.fails(&["pull", "-q", "--root", &root, "nowhere:1"]);
    assert!(
        error.contains("nowhere") && error.lines().count() == 1,
        "{error}"
    );
}

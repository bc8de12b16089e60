//! An image's way through the local store, by the commands of a person.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Desk, layout, rootfs, succeeded};

/// A desk with a store and an image in it, named `app:1`.
struct Shop(Desk);

impl Shop {
    fn new() -> Self {
        let shop = Self(Desk::new());
        layout(&shop.0, &shop.0.path("layout"));
        shop.ok(&["pull", "-q", "--name", "app:1", "oci:layout:x"]);
        shop
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.0.command(words);
        command.env("HULL_STORE", self.0.path("store"));
        command
    }

    fn ok(&self, words: &[&str]) -> String {
        let out = self.command(words).output().unwrap();
        succeeded(words, &out);
        String::from_utf8(out.stdout).unwrap()
    }

    fn json(&self, words: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(words)).unwrap()
    }

    fn fails(&self, words: &[&str]) -> String {
        let out = self.command(words).output().unwrap();
        assert!(!out.status.success(), "{words:?}");
        String::from_utf8(out.stderr).unwrap()
    }

    /// The image's id, in full.
    fn id(&self, name: &str) -> String {
        let id = self.ok(&["ls", "-q", "--no-trunc", name]);
        id.trim().to_owned()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = self.0.path("store");
        for line in mounts.lines().rev() {
            if let Some(point) = line.split(' ').nth(4).filter(|p| p.starts_with(&own)) {
                let _ = Command::new("umount").arg(point).status();
            }
        }
    }
}

#[test]
fn a_store_that_is_not_there_yet_is_empty() {
    let shop = Shop(Desk::new());
    assert_eq!(
        shop.json(&["ls", "--format", "json"]),
        serde_json::json!([])
    );
    let df = shop.json(&["df", "--format", "json"]);
    assert_eq!(
        (&df["images"], &df["layers"]),
        (&serde_json::json!([]), &0.into())
    );
    assert!(shop.ok(&["df"]).contains("IMAGE"));
    assert!(!Path::new(&shop.0.path("store")).exists());
}

#[test]
fn named_listed_and_collected() {
    let shop = Shop::new();
    let id = shop.id("app");
    shop.ok(&["tag", "app:1", "other.local/team/app:2"]);
    let list = shop.json(&["ls", "--format", "json"]);
    let names = list[0]["names"].as_array().unwrap();
    assert_eq!(names.len(), 2, "{list}");
    let line = shop.ok(&["ls", "--format", "{{.id}}", "team/app"]);
    assert!(line.contains(id.trim_start_matches("sha256:")), "{line}");
    let history = shop.json(&["history", "--format", "json", "app:1"]);
    assert!(
        history.as_array().is_some_and(|h| !h.is_empty()),
        "{history}"
    );

    // What is shared is counted once.
    let df = shop.json(&["df", "--format", "json"]);
    let usage = &df["images"][0];
    assert_eq!(usage["shared"], 0, "{df}");
    assert_eq!(usage["exclusive"], df["layers"], "{df}");

    // A name goes, then the image with its last one.
    shop.ok(&["rm", "app:1"]);
    assert_eq!(shop.id("team/app"), id);
    shop.ok(&["rm", "other.local/team/app:2"]);
    assert_eq!(shop.id("app"), "");
    assert!(shop.fails(&["rm", "app:1"]).contains("app:1"));
    shop.ok(&["rm", "-f", "app:1"]);
    shop.ok(&["pull", "-q", "--name", "app:1", "oci:layout:x"]);
    assert!(!shop.ok(&["gc"]).is_empty());
    assert_eq!(shop.id("app"), id);
    shop.ok(&["gc", "--unused"]);
    assert_eq!(shop.id("app"), "");
    let left = std::fs::read_dir(Path::new(&shop.0.path("store")).join("layers"));
    assert_eq!(left.unwrap().count(), 0);
}

#[test]
fn saved_and_loaded() {
    let shop = Shop::new();
    let id = shop.id("app");
    for format in ["docker-archive", "oci-archive"] {
        let file = format!("{format}.tar");
        shop.ok(&["save", "-q", "--format", format, "-o", &file, "app:1"]);
        shop.ok(&["rm", "app:1"]);
        shop.ok(&["load", "-q", "-i", &file]);
        assert_eq!(shop.id("app"), id, "{format}");
    }
    // From the standard input, as `docker save | hullctl image load`.
    shop.ok(&["rm", "app:1"]);
    let bytes = std::fs::read(shop.0.path("docker-archive.tar")).unwrap();
    let mut command = shop.command(&["load", "-q"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(shop.id("app"), id);
}

#[test]
fn mounted_changed_and_committed() {
    let shop = Shop::new();
    let path = PathBuf::from(shop.ok(&["mount", "app:1"]).trim());
    let release = std::fs::read_to_string(path.join("etc/os-release")).unwrap();
    assert_eq!(release, "NAME=test\n");
    assert!(
        std::fs::write(path.join("new"), "").is_err(),
        "not read-only"
    );
    assert!(shop.ok(&["mount"]).contains(path.to_str().unwrap()));
    shop.ok(&["umount", "app:1"]);
    assert!(!path.join("etc").exists());

    let work = shop.ok(&["mount", "--rw", "--id", "work", "app:1"]);
    let work = PathBuf::from(work.trim());
    std::fs::write(work.join("new"), "x").unwrap();
    std::fs::remove_file(work.join("etc/os-release")).unwrap();
    let diff = shop.ok(&["diff", "work"]);
    assert_eq!(diff, "C /etc\nD /etc/os-release\nA /new\n");
    let change = ["-c", "CMD [\"/new\"]", "-c", "ENV B=c"];
    let mut commit = vec!["commit", "-m", "a remark", "-a", "somebody"];
    commit.extend(change);
    commit.extend(["work", "app:2"]);
    shop.ok(&commit);
    shop.ok(&["umount", "--id", "work"]);

    let said = shop.ok(&["inspect", "--format", "{{.Cmd}} {{.Env}}", "app:2"]);
    assert!(said.starts_with("[/new]") && said.contains("B=c"), "{said}");
    assert!(shop.ok(&["history", "app:2"]).contains("a remark"));
    let between = shop.ok(&["diff", "app:1", "app:2"]);
    assert!(between.contains("D /etc/os-release"), "{between}");
    assert!(between.contains("A /new"), "{between}");
    // The lower layer is one of both.
    let df = shop.json(&["df", "--format", "json"]);
    let shared = df["images"].as_array().unwrap();
    assert!(
        shared.iter().all(|i| i["shared"].as_u64() > Some(0)),
        "{df}"
    );
}

#[test]
fn made_of_a_tar_file() {
    let shop = Shop::new();
    let tar = rootfs(&shop.0);
    let mut import = vec!["import", "-q", "-c", "CMD [\"sh\"]", "-m", "by hand"];
    import.extend(["--platform", "linux/arm64/v8", &tar, "made:1"]);
    shop.ok(&import);
    let format = "{{.Architecture}} {{.Cmd}}";
    assert_eq!(
        shop.ok(&["inspect", "--format", format, "made:1"]),
        "arm64 [sh]\n"
    );
}

#[test]
fn unpacked_changed_and_packed_again() {
    let shop = Shop::new();
    for (bundle, rootless) in [("bundle", false), ("mine", true)] {
        let mut unpack = vec!["unpack", "-q"];
        unpack.extend(rootless.then_some("--rootless"));
        unpack.extend(["oci:layout:x", bundle]);
        shop.ok(&unpack);
        let root = Path::new(&shop.0.path(bundle)).join("rootfs");
        let config = std::fs::read(root.with_file_name("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["process"]["args"][0], "sh");
        let namespaces = config["linux"]["namespaces"].to_string();
        assert_eq!(namespaces.contains("user"), rootless, "{namespaces}");
        std::fs::write(root.join("added"), "x").unwrap();
        let to = format!("oci:layout:{bundle}");
        shop.ok(&["repack", "--comment", "a step", bundle, &to]);
        let layers = shop.json(&["inspect", "--raw", &to]);
        assert_eq!(layers["layers"].as_array().unwrap().len(), 2, "{layers}");
        shop.ok(&["pull", "-q", "--name", bundle, &to]);
        let diff = shop.ok(&["diff", "app:1", bundle]);
        // The time of the directory is another, too.
        assert_eq!(diff, "C /\nA /added\n");
    }
}

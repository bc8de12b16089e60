//! Images and their containers as an ordinary user with subordinate ids: a user number of the
//! test's own, which only its mount namespace knows.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Desk, complaint, shown};

/// Nobody's, here.
const USER: u32 = 4242;
const SUBORDINATE: u32 = 300_000;

/// Makes /etc know the user, for this mount namespace, and runs the rest of the words as it.
const AS_USER: &str = r#"
for file in passwd subuid subgid; do
	mount --bind "$0/$file" "/etc/$file" || exit 125
done
cd "$0/home" && exec setpriv --reuid 4242 --regid 4242 --clear-groups "$@"
"#;

struct User(Desk);

impl User {
    fn new(subordinate: &str) -> Self {
        let user = Self(Desk::new());
        let public = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(user.0.0.path(), public).unwrap();
        let mut passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        passwd += &format!("hulltester:x:{USER}:{USER}::/:/bin/sh\n");
        std::fs::write(user.path("passwd"), passwd).unwrap();
        for file in ["subuid", "subgid"] {
            std::fs::write(user.path(file), subordinate).unwrap();
        }
        for dir in ["home", "run"] {
            std::fs::create_dir(user.path(dir)).unwrap();
            chown(user.path(dir), Some(USER), Some(USER)).unwrap();
        }
        // Where the programs are built, a user may not look.
        let built = Path::new(env!("CARGO_BIN_EXE_hullctl"));
        for program in ["hullctl", "hull"] {
            let from = built.with_file_name(program);
            assert!(from.exists(), "{}: build it first", from.display());
            std::fs::copy(from, user.path(program)).unwrap();
        }
        user.layout();
        user
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.path().join(name)
    }

    /// An image with a file of somebody else's, and a device.
    fn layout(&self) {
        let root = self.path("root");
        for dir in ["bin", "srv", "dev"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in ["sh", "id", "stat", "echo", "cat"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        std::fs::write(root.join("srv/file"), "secret\n").unwrap();
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(root.join("srv/file"), private).unwrap();
        chown(root.join("srv/file"), Some(33), Some(34)).unwrap();
        let done = |program: &str, words: &[&str]| {
            let out = Command::new(program).args(words).output().unwrap();
            assert!(out.status.success(), "{program} {words:?}: {out:?}");
        };
        let text = |path: PathBuf| path.display().to_string();
        done("mknod", &[&text(root.join("dev/console")), "c", "5", "1"]);
        let tar = text(self.path("root.tar"));
        done("tar", &["-C", &text(root), "-cf", &tar, "."]);
        let layout = text(self.path("layout"));
        let image = format!("{layout}:x");
        for words in [
            vec!["init", "--layout", &layout],
            vec!["new", "--image", &image],
            vec!["raw", "add-layer", "--image", &image, &tar],
            vec!["config", "--image", &image, "--config.env", "PATH=/bin"],
        ] {
            done("umoci", &words);
        }
        done("chmod", &["-R", "a+rX", &layout]);
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", AS_USER]);
        command.arg(self.0.0.path()).arg(self.path("hullctl"));
        command.args(words).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", self.path("home"));
        command.env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("HULL", self.path("hull"));
        command.output().unwrap()
    }

    fn ok(&self, words: &[&str]) -> String {
        shown(words, self.run(words))
    }

    fn fails(&self, words: &[&str]) -> String {
        complaint(words, self.run(words))
    }

    fn pull(&self) {
        let place = format!("oci:{}:x", self.path("layout").display());
        self.ok(&["image", "pull", "-q", "--name", "app", &place]);
    }
}

#[test]
fn a_users_image_becomes_a_users_container() {
    let user = User::new(&format!("hulltester:{SUBORDINATE}:65536\n"));
    user.pull();
    assert!(user.ok(&["image", "ls"]).contains("library/app"));
    assert!(user.ok(&["image", "check"]).contains("0 broken"));
    user.ok(&["image", "save", "-o", "app.tar", "app"]);

    // Owners are what the image says inside, and the user's own subordinates outside.
    let script = "id -u; stat -c '%u %g' /srv/file; echo new >/srv/new; cat /srv/new";
    let words = [
        "run",
        "--rm",
        "--network",
        "none",
        "app",
        "sh",
        "-c",
        script,
    ];
    assert_eq!(user.ok(&words), "0\n33 34\nnew\n");
    let layers = user.path("home/.local/share/hull/layers");
    let layer = std::fs::read_dir(layers).unwrap().next().unwrap();
    let file = layer.unwrap().path().join("tree/srv/file");
    let stat = std::fs::symlink_metadata(file).unwrap();
    assert_eq!(
        (stat.uid(), stat.gid()),
        (SUBORDINATE + 32, SUBORDINATE + 33)
    );
    let exits = [
        "run",
        "--rm",
        "--network",
        "none",
        "app",
        "sh",
        "-c",
        "exit 3",
    ];
    assert_eq!(user.run(&exits).status.code(), Some(3));

    // Nothing is left of the containers.
    for place in [
        "home/.local/share/hull/containers",
        "home/.local/share/hull/local",
    ] {
        let left = std::fs::read_dir(user.path(place)).into_iter().flatten();
        assert_eq!(left.count(), 0, "{place}");
    }

    // What a user cannot have is said in a line.
    for (words, why) in [
        (["run", "--rm", "app"].as_slice(), "only root; use none"),
        (&["run", "-d", "--network", "none", "app"], "--detach"),
        (&["image", "mount", "app"], "only root"),
    ] {
        let error = user.fails(words);
        assert!(error.contains(why), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    user.ok(&["image", "rm", "app"]);
}

#[test]
fn without_subordinate_ids_all_belongs_to_the_user() {
    let user = User::new("");
    user.pull();
    let words = ["run", "--rm", "--network", "none", "app", "id", "-u"];
    assert_eq!(user.ok(&words), "0\n");
    let error = String::from_utf8(user.run(&words).stderr).unwrap();
    assert!(error.contains("only root is mapped"), "{error}");
    user.ok(&["image", "rm", "app"]);
}

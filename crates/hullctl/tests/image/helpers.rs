//! Credential helpers: programs that keep what a login gets.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use crate::support::{Desk, Registry, complaint, layout, shown};

/// Keeps one login, as docker-credential-pass and its like do.
const HELPER: &str = r#"#!/bin/sh
set -eu
echo "$1" >>"$KEPT.calls"
missing() { echo "credentials not found in native keychain"; exit 1; }
case $1 in
store) cat >"$KEPT" ;;
get) read -r server || true
	grep -q "\"ServerURL\":\"$server\"" "$KEPT" 2>/dev/null || missing
	cat "$KEPT" ;;
erase) rm "$KEPT" 2>/dev/null || missing ;;
esac
"#;

/// A desk with the helper `fake` in its search path.
struct WithHelper(Desk);

impl WithHelper {
    fn new() -> Self {
        let desk = Desk::new();
        std::fs::create_dir(desk.path("bin")).unwrap();
        let desk = Self(desk);
        desk.program("docker-credential-fake", HELPER);
        desk
    }

    fn program(&self, name: &str, text: &str) {
        let file = self.0.path(&format!("bin/{name}"));
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        let path = format!("{}:{}", self.0.path("bin"), std::env::var("PATH").unwrap());
        let mut command = self.0.command(args);
        command.env("PATH", path).env("KEPT", self.0.path("kept"));
        command.output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        shown(args, self.run(args))
    }

    fn fails(&self, args: &[&str]) -> String {
        let text = complaint(args, self.run(args));
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }
}

#[test]
fn a_login_is_kept_by_its_helper() {
    let (desk, registry) = (WithHelper::new(), Registry::start());
    let host = registry.address.as_str();
    layout(&desk.0, &desk.0.path("layout"));
    let image = format!("docker://{host}/app:1");
    let push = [
        "copy",
        "-q",
        "--dest-tls-verify=false",
        "oci:layout:x",
        &image,
    ];
    std::fs::create_dir(desk.0.path("containers")).unwrap();
    let auth = desk.0.path("containers/auth.json");
    std::fs::write(&auth, r#"{"credsStore":"fake"}"#).unwrap();
    assert!(desk.fails(&push).contains("401"));

    let mut login = vec!["login", "-u", "person", "-p", "secret"];
    login.extend(["--tls-verify=false", host]);
    desk.ok(&login);
    let kept = std::fs::read_to_string(desk.0.path("kept")).unwrap();
    assert!(kept.contains("person") && kept.contains(host), "{kept}");
    let file = std::fs::read_to_string(&auth).unwrap();
    assert_eq!(file, r#"{"credsStore":"fake"}"#, "the file got the secret");
    assert_eq!(desk.ok(&["login", "--get-login", host]), "person\n");
    desk.ok(&push);

    desk.ok(&["logout", host]);
    assert!(!std::path::Path::new(&desk.0.path("kept")).exists());
    assert!(desk.fails(&["logout", host]).contains("not logged in"));
    assert!(desk.fails(&push).contains("401"));
    let calls = std::fs::read_to_string(desk.0.path("kept.calls")).unwrap();
    for verb in ["get", "store", "erase"] {
        assert!(calls.lines().any(|line| line == verb), "{calls}");
    }
}

#[test]
fn dockers_file_names_a_helper_for_a_host() {
    let (desk, registry) = (WithHelper::new(), Registry::start());
    let host = registry.address.as_str();
    layout(&desk.0, &desk.0.path("layout"));
    std::fs::create_dir(desk.0.path(".docker")).unwrap();
    let name = |helper: &str| {
        let text = format!(r#"{{"credHelpers":{{"{host}":"{helper}"}}}}"#);
        std::fs::write(desk.0.path(".docker/config.json"), text).unwrap();
    };
    let image = format!("docker://{host}/app:1");
    let push = [
        "copy",
        "-q",
        "--dest-tls-verify=false",
        "oci:layout:x",
        &image,
    ];
    name("fake");
    let kept = format!(r#"{{"ServerURL":"{host}","Username":"person","Secret":"secret"}}"#);
    std::fs::write(desk.0.path("kept"), kept).unwrap();
    desk.ok(&push);

    // One that fails, one that is not there, one that is no name: a line each.
    desk.program(
        "docker-credential-broken",
        "#!/bin/sh\necho the keyring is locked\nexit 1\n",
    );
    name("broken");
    let error = desk.fails(&push);
    assert!(error.contains("the keyring is locked"), "{error}");
    name("absent");
    let error = desk.fails(&push);
    assert!(error.contains("docker-credential-absent"), "{error}");
    name("../../bin/sh");
    let error = desk.fails(&push);
    assert!(error.contains("not the name of a helper"), "{error}");
}

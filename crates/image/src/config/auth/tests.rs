use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn basic(user: &str, password: &str) -> Credentials {
    Credentials::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    }
}

fn find(files: &AuthFiles, name: &str) -> Option<Credentials> {
    files.find(&Reference::parse(name).unwrap()).unwrap()
}

#[test]
fn the_most_specific_key_wins() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.json");
    let entry = |user: &str| {
        format!(
            "{{\"auth\":\"{}\"}}",
            STANDARD.encode(format!("{user}:p:w"))
        )
    };
    let text = format!(
        r#"{{"auths":{{"r.io":{},"r.io/a":{},"r.io/a/b":{},"{HUB_KEY}":{},"https://old.io/v1":{},"t.io":{{"identitytoken":"T"}},"e.io":{{}}}}}}"#,
        entry("host"),
        entry("a"),
        entry("b"),
        entry("hub"),
        entry("old"),
    );
    std::fs::write(&path, text).unwrap();
    let files = AuthFiles::only(path.clone());
    for (name, user) in [
        ("r.io/x", "host"),
        ("r.io/a/x", "a"),
        ("r.io/ab", "host"),
        ("r.io/a/b:t", "b"),
        ("busybox", "hub"),
        ("old.io/x", "old"),
    ] {
        assert_eq!(find(&files, name), Some(basic(user, "p:w")), "{name}");
    }
    assert_eq!(
        find(&files, "t.io/x"),
        Some(Credentials::Identity("T".to_owned()))
    );
    assert_eq!(find(&files, "e.io/x"), None);
    assert_eq!(find(&files, "r.io.evil.io/x"), None);
    assert_eq!(files.login_of("r.io").unwrap().as_deref(), Some("host"));
    assert!(!format!("{:?}", find(&files, "r.io/x")).contains("p:w"));
    std::fs::write(&path, r#"{"auths":{"r.io":{"auth":"!"}}}"#).unwrap();
    assert!(files.find(&Reference::parse("r.io/x").unwrap()).is_err());
}

#[test]
fn login_keeps_the_rest_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/auth.json");
    let files = AuthFiles::only(path.clone());
    files.login("r.io", "u", "p").unwrap();
    files.login("r.io/a", "v", "q:r").unwrap();
    assert_eq!(find(&files, "r.io/a/x"), Some(basic("v", "q:r")));
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.insert_str(1, "\"detachKeys\":\"ctrl-x\",");
    std::fs::write(&path, text).unwrap();
    assert!(files.logout("r.io/a").unwrap());
    assert!(!files.logout("r.io/a").unwrap());
    assert_eq!(find(&files, "r.io/a/x"), Some(basic("u", "p")));
    assert!(std::fs::read_to_string(&path).unwrap().contains("ctrl-x"));
    files.logout_all().unwrap();
    assert_eq!(find(&files, "r.io/x"), None);
}

#[test]
fn a_helper_name_is_no_path() {
    for name in ["../x", "a/b", "", "a b"] {
        let error = helper::get(name, "r.io").unwrap_err().to_string();
        assert!(error.contains("not the name of a helper"), "{error}");
    }
}

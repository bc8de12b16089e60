//! `hullctl image` as a person uses it: a registry on loopback, credentials, a proxy, archives.

#![allow(clippy::unwrap_used, clippy::panic)]

mod bars;
mod helpers;
mod names;
mod rootless;
mod sharing;
mod store;
mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{Desk, Registry, layout, succeeded};

#[test]
fn login_copy_inspect_delete_logout() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let host = registry.address.as_str();
    std::fs::create_dir(desk.path("containers")).unwrap();
    let conf = format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
    std::fs::write(desk.path("containers/registries.conf"), conf).unwrap();
    layout(&desk, &desk.path("layout"));
    let image = format!("docker://{host}/team/app:1");
    let error = desk.fails(&["copy", "-q", "oci:layout:x", &image]);
    assert!(error.contains("401"), "{error}");
    let error = desk.fails(&["login", "-u", "person", "-p", "wrong", host]);
    assert!(error.contains("401"), "{error}");
    let args = ["login", "-u", "person", "--password-stdin", host];
    let mut child = desk.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"secret\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(desk.ok(&["login", "--get-login", host]), "person\n");

    let digest = desk.ok(&[
        "copy",
        "-q",
        "--digestfile",
        "digest",
        "oci:layout:x",
        &image,
    ]);
    assert_eq!(
        std::fs::read_to_string(desk.path("digest")).unwrap(),
        digest.trim()
    );
    assert_eq!(desk.ok(&["inspect", "--manifest-digest", &image]), digest);
    assert_eq!(
        desk.ok(&["inspect", "--format", "{{.Env}} {{.RepoTags}}", &image]),
        "[A=b] [1]\n"
    );
    let raw = desk.ok(&["inspect", "--raw", &image]);
    assert!(raw.contains("\"layers\""), "{raw}");
    let config = desk.ok(&["inspect", "--config", "--format", "{{.config.Cmd}}", &image]);
    assert_eq!(config, "[sh]\n");
    let repository = format!("docker://{host}/team/app");
    assert_eq!(
        desk.ok(&["list-tags", "--format", "text", &repository]),
        "1\n"
    );
    // Without a terminal, progress is lines and the result stands alone.
    let args = ["copy", &image, "dir:plain"];
    let output = desk.command(&args).output().unwrap();
    succeeded(&args, &output);
    assert_eq!(String::from_utf8_lossy(&output.stdout), digest);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.lines().count() >= 4 && !said.contains('\u{1b}'),
        "{said}"
    );
    assert_eq!(desk.ok(&["delete", &image]), digest);
    assert!(desk.fails(&["inspect", &image]).contains("404"));
    desk.ok(&["logout", host]);
    assert!(desk.fails(&["logout", host]).contains("not logged in"));
    assert!(
        desk.fails(&["login", "--get-login", host])
            .contains("not logged in")
    );
}

#[test]
fn a_policy_is_obeyed() {
    let desk = Desk::new();
    layout(&desk, &desk.path("layout"));
    std::fs::write(
        desk.path("policy.json"),
        r#"{"default":[{"type":"reject"}]}"#,
    )
    .unwrap();
    let error = desk.fails(&[
        "copy",
        "-q",
        "--policy",
        "policy.json",
        "oci:layout:x",
        "dir:out",
    ]);
    assert!(error.contains("refused: policy.json"), "{error}");
    assert!(!Path::new(&desk.path("out/manifest.json")).exists());
    let root = desk.path("store");
    let pull = [
        "pull",
        "-q",
        "--root",
        &root,
        "--policy",
        "policy.json",
        "--name",
        "x",
        "oci:layout:x",
    ];
    assert!(desk.fails(&pull).contains("refused"));
    desk.ok(&["copy", "-q", "--insecure-policy", "oci:layout:x", "dir:out"]);
}

/// A proxy that does CONNECT and counts.
fn proxy() -> (String, Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (count, asked) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(Mutex::new(Vec::new())),
    );
    let (counter, log) = (Arc::clone(&count), Arc::clone(&asked));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut client = stream.unwrap();
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            loop {
                let mut header = String::new();
                if reader.read_line(&mut header).unwrap() <= 2 {
                    break;
                }
            }
            let target = line.split(' ').nth(1).unwrap().to_owned();
            log.lock().unwrap().push(line);
            counter.fetch_add(1, Ordering::SeqCst);
            let mut server = TcpStream::connect(target).unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let (mut c, mut s) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut c, &mut s));
            std::thread::spawn(move || std::io::copy(&mut server, &mut client));
        }
    });
    (address, count, asked)
}

#[test]
fn proxies_are_used_and_passed_by() {
    let (desk, registry) = (Desk::new(), Registry::start());
    let (address, count, asked) = proxy();
    let host = registry.address.as_str();
    let repository = format!("docker://{host}/x");
    let list = |name: &str, no: &str| {
        let args = [
            "list-tags",
            "--tls-verify=false",
            "--creds",
            "person:secret",
            &repository,
        ];
        let mut command = desk.command(&args);
        command
            .env(name, format!("http://{address}"))
            .env("NO_PROXY", no);
        let output = command.output().unwrap();
        // The repository does not exist: an answer of the registry, by whatever way.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("404"), "{said}");
    };
    list("ALL_PROXY", "");
    assert!(count.load(Ordering::SeqCst) > 0);
    assert!(asked.lock().unwrap()[0].starts_with(&format!("CONNECT {host} ")));
    let before = count.load(Ordering::SeqCst);
    list("ALL_PROXY", "127.0.0.1");
    assert_eq!(count.load(Ordering::SeqCst), before);
}

//! `linux.seccomp.listenerPath`: the descriptor for `SCMP_ACT_NOTIFY`.

use std::io::Read as _;
use std::os::unix::net::UnixStream;

use runtime_suite::prelude::*;

fn notify(c: &mut Value, path: &str) {
    seccomp(c, &["mkdir", "mkdirat"], "SCMP_ACT_NOTIFY");
    c["linux"]["seccomp"]["listenerPath"] = json!(path);
    c["linux"]["seccomp"]["listenerMetadata"] = json!("some data");
}

/// Creates the container and begins its start; returns that and the connection to the agent.
fn launch(t: &Case, agent: &socket::Listener) -> (Running, UnixStream) {
    let _ = t.with_bundle("create", &[]).run().ok();
    let start = t.runtime(&["start", t.id()]).spawn();
    (start, agent.accept())
}

#[test]
fn the_listener_gets_the_descriptor_and_the_state() {
    case(|t| {
        let agent = socket::listen(&t.dir().join("agent"));
        t.write(|c| {
            script(c, "mkdir /tmp/made");
            c["annotations"] = json!({"org.example.key": "value"});
            notify(c, agent.arg());
        });
        let (start, mut stream) = launch(t, &agent);
        let message = socket::receive(&stream);
        let mut data = message.data;
        stream
            .read_to_end(&mut data)
            .expect("read to the end: the runtime closes it");
        let [fd] = &message.fds[..] else {
            panic!("{} descriptors", message.fds.len())
        };
        assert_eq!(socket::target(fd), "anon_inode:seccomp notify");

        let state: Value = serde_json::from_slice(&data).expect("one JSON document");
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "some data");
        assert!(state["ociVersion"].is_string());
        assert_eq!(state["pid"], t.pid());
        let inner = &state["state"];
        assert_eq!(inner["id"], t.id());
        // The filter is installed late in create, or early in start.
        assert!(
            inner["status"] == "creating" || inner["status"] == "created",
            "{inner}"
        );
        assert_eq!(inner["pid"], t.pid());
        assert_eq!(inner["bundle"], t.bundle().to_str().expect("UTF-8"));
        assert_eq!(inner["annotations"]["org.example.key"], "value");

        let _ = start.wait().ok();
        assert!(
            socket::readable(fd, Duration::from_secs(10)),
            "no notification comes"
        );
        assert_eq!(t.status(), "running", "the call waits for an answer");
        // Nobody listens any more: the call fails with ENOSYS (seccomp_unotify(2)).
        drop(message.fds);
        t.wait_for("stopped");
        assert!(!t.rootfs().join("tmp/made").exists());
    });
}

#[test]
fn an_exec_has_a_descriptor_of_its_own() {
    case(|t| {
        let agent = socket::listen(&t.dir().join("agent"));
        t.write(|c| {
            args(c, &["/bin/sleep", "1000"]);
            notify(c, agent.arg());
        });
        let (start, stream) = launch(t, &agent);
        let first = socket::receive(&stream);
        drop(stream);
        let _ = start.wait().ok();
        let exec = t.exec_cmd(&[], &["/bin/mkdir", "/tmp/made"]).spawn();
        let stream = agent.accept();
        let message = socket::receive(&stream);
        let state: Value = serde_json::from_slice(&message.data).expect("one JSON document");
        assert_eq!(state["state"]["status"], "running");
        assert_eq!(state["state"]["pid"], t.pid());
        assert_ne!(state["pid"], t.pid(), "the executed process's own");
        assert!(socket::readable(&message.fds[0], Duration::from_secs(10)));
        drop((first, message));
        assert_eq!(exec.wait().code(), 1);
    });
}

#[test]
fn a_listener_that_is_not_there_is_an_error() {
    case(|t| {
        let _ = t.create(|c| notify(c, "/nonexistent/socket")).refused();
    });
}

#[test]
fn notify_without_a_listener_is_refused() {
    case(|t| {
        let _ = t
            .create(|c| seccomp(c, &["mkdir"], "SCMP_ACT_NOTIFY"))
            .refused();
    });
}

#[test]
fn metadata_without_a_listener_is_refused() {
    case(|t| {
        let _ = t
            .create(|c| {
                seccomp(c, &["mkdir"], "SCMP_ACT_ERRNO");
                c["linux"]["seccomp"]["listenerMetadata"] = json!("data");
            })
            .refused();
    });
}

#[test]
fn a_listener_is_not_called_without_need() {
    case(|t| {
        let agent = socket::listen(&t.dir().join("agent"));
        let _ = t
            .run(|c| {
                seccomp(c, &["mkdir"], "SCMP_ACT_ERRNO");
                c["linux"]["seccomp"]["listenerPath"] = json!(agent.arg());
            })
            .ok();
        assert!(!agent.has_caller(Duration::from_millis(50)));
    });
}

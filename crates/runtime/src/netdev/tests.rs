//! On the real kernel, in network namespaces made by the test threads.

use std::process::Command;
use std::sync::mpsc;

use super::*;

/// Runs `f` on a thread with a new network namespace.
fn in_new_namespace<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let run = move || {
        sys::namespace::unshare(NamespaceKind::Network.clone_flag()).unwrap();
        f()
    };
    std::thread::spawn(run).join().unwrap()
}

/// ip(8) in the calling thread's namespace.
fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A second namespace, and a way to run ip(8) in it.
struct There {
    namespace: File,
    commands: mpsc::Sender<String>,
    answers: mpsc::Receiver<String>,
}

impl There {
    fn new() -> Self {
        let (commands, todo) = mpsc::channel::<String>();
        let (done, answers) = mpsc::channel();
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            sys::namespace::unshare(NamespaceKind::Network.clone_flag()).unwrap();
            send.send(open_home().unwrap()).unwrap();
            for command in todo {
                done.send(ip(&command)).unwrap();
            }
        });
        let namespace = receive.recv().unwrap();
        Self {
            namespace,
            commands,
            answers,
        }
    }

    fn ip(&self, command: &str) -> String {
        self.commands.send(command.to_owned()).unwrap();
        self.answers.recv().unwrap()
    }
}

fn devices(list: &[(&str, &str)]) -> BTreeMap<String, NetDevice> {
    let device = |name: &str| NetDevice {
        name: name.to_owned(),
    };
    list.iter()
        .map(|(old, new)| ((*old).to_owned(), device(new)))
        .collect()
}

#[test]
fn loopback_comes_up() {
    in_new_namespace(|| {
        assert!(!ip("addr show lo").contains("127.0.0.1"));
        loopback_up().unwrap();
        let text = ip("addr show lo");
        assert!(
            text.contains("LOOPBACK,UP") && text.contains("127.0.0.1"),
            "{text}"
        );
    });
}

#[test]
fn a_device_keeps_its_lasting_addresses() {
    in_new_namespace(|| {
        ip("link add host0 type veth peer name host1");
        ip("addr add 192.0.2.7/24 brd + dev host0");
        ip("addr add 2001:db8::7/64 dev host0 nodad");
        ip("addr add 169.254.3.3/16 scope link dev host0");
        ip("addr add 192.0.2.9/24 valid_lft 300 preferred_lft 300 dev host0");
        ip("link set host0 up");
        let there = There::new();
        move_all(&devices(&[("host0", "net0")]), &there.namespace).unwrap();
        let text = there.ip("addr show net0");
        for lasting in ["192.0.2.7/24 brd 192.0.2.255", "2001:db8::7/64"] {
            assert!(text.contains(lasting), "{text}");
        }
        for passing in ["169.254.3.3", "192.0.2.9"] {
            assert!(!text.contains(passing), "{text}");
        }
        assert!(text.contains(",UP"), "{text}");
        assert!(!ip("link show").contains("host0"));
    });
}

#[test]
fn templates_take_the_first_free_number() {
    in_new_namespace(|| {
        ip("link add eth0 type veth peer name x1");
        let there = There::new();
        there.ip("link add eth1 type veth peer name eth3");
        let wanted = devices(&[("eth0", "eth%d"), ("x1", "eth%d")]);
        move_all(&wanted, &there.namespace).unwrap();
        let text = there.ip("-br link show");
        for name in ["eth0", "eth1", "eth2", "eth3"] {
            assert!(text.contains(name), "{text}");
        }
    });
}

#[test]
fn a_failure_moves_back_what_was_moved() {
    in_new_namespace(|| {
        ip("link add a0 type veth peer name a1");
        let there = There::new();
        there.ip("link add taken type veth peer name other");
        let wanted = devices(&[("a0", "b0"), ("a1", "taken")]);
        let text = move_all(&wanted, &there.namespace).unwrap_err().to_string();
        assert!(
            text.contains("has a network device \"taken\" already"),
            "{text}"
        );
        assert!(ip("link show").contains(": a0"));
        assert!(!there.ip("link show").contains(": b0"));
        let wanted = devices(&[("none", "")]);
        let text = move_all(&wanted, &there.namespace).unwrap_err().to_string();
        assert_eq!(
            text,
            "move network device \"none\": rtnetlink(none): no such device"
        );
    });
}

#[test]
fn names_the_kernel_would_not_take_are_refused() {
    for name in [
        "",
        "a/b",
        "a b",
        "%d%d",
        "a:1",
        "..",
        "sixteen-letters-",
        "%s",
    ] {
        assert!(check_name(name).is_err(), "{name:?}");
    }
    for name in ["eth0", "eth%d", "%d", "fifteen-letters"] {
        check_name(name).unwrap();
    }
    let taken: BTreeSet<String> = ["e0", "e1"].map(str::to_owned).into();
    assert_eq!(free_name(&taken, "e%d").unwrap(), "e2");
    assert!(free_name(&taken, "e1").is_err());
}

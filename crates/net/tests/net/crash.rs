//! Death at any moment: nothing that was given is lost, nothing is left.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::lab::{eventually, lab, picture};
use net::{Attachment, Network};

const DIR: &str = "HULL_NET_CRASH_DIR";

/// Attaches and detaches without end, in the network namespace in which it was started.
#[test]
#[ignore = "run by a_kill_at_any_moment_loses_nothing, which kills it"]
fn worker() {
    let dir = std::path::PathBuf::from(std::env::var_os(DIR).unwrap());
    let config = crate::lab::config(&dir);
    let network = Network::open(config, &dir.join("state")).unwrap();
    for n in 0.. {
        let id = format!("w{}", n % 3);
        let path = network.create_netns(&id).unwrap();
        let mut attachment = Attachment::new(&id, path);
        let port = 8000 + n % 3;
        attachment.ports = vec![format!("{port}:80").parse().unwrap()];
        network.setup(&attachment).unwrap();
        if n > 0 {
            network.teardown(&format!("w{}", (n - 1) % 3)).unwrap();
        }
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing() {
    lab("crash", |lab| {
        let network = lab.network();
        assert!(network.status().ready);
        let live = lab.pod(&network, "live");
        let before = picture();
        for round in 0..40 {
            let mut worker = Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", "crash::worker"])
                .env(DIR, &lab.dir)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let begun = lab.dir.join("netns/w0");
            eventually("it began", || begun.exists());
            std::thread::sleep(Duration::from_micros(1_313 * round));
            worker.kill().unwrap();
            let status = worker.wait().unwrap();
            assert_eq!(status.code(), None, "it failed by itself: {status}");
            let (_, errors) = network.gc(|id| id == "live");
            assert!(errors.is_empty(), "round {round}: {errors:?}");
            assert_eq!(picture(), before, "round {round}");
            assert_eq!(network.addresses_held().unwrap(), 2, "round {round}");
            network.check("live").unwrap();
            let locks = std::fs::read_dir(lab.state().join("locks")).unwrap();
            assert_eq!(locks.count(), 1, "round {round}");
        }
        assert_eq!(network.setup(&live.attachment).unwrap(), live.setup);
    });
}

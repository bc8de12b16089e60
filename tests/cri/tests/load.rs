//! Much at once, again and again, and killings at any moment: nothing is lost and nothing is left.
//!
//! `HULL_SOAK=ROUNDS` makes more rounds of each (`make soak`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cri_api::v1;
use cri_suite::{Daemon, Options, pod, sleeper, until};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{RwLock, Semaphore};
use tokio::task::JoinSet;

/// How often.
fn rounds(usual: usize) -> usize {
    let asked = std::env::var("HULL_SOAK").ok();
    asked.map_or(usual, |n| n.parse().expect("HULL_SOAK is a number"))
}

/// What a daemon holds.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    resident_kb: usize,
}

impl Held {
    fn by(daemon: &Daemon) -> Self {
        let proc = format!("/proc/{}", daemon.pid());
        let count = |what: &str| fs::read_dir(format!("{proc}/{what}")).unwrap().count();
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        Self {
            descriptors: count("fd"),
            threads: count("task"),
            resident_kb: number.parse().unwrap(),
        }
    }
}

/// Addresses that are given out.
fn addresses(daemon: &Daemon) -> usize {
    let dir = daemon.dir.join("run/network/addresses");
    fs::read_dir(dir).unwrap().count()
}

/// A hundred pods with a container and a command each, eight at once.
async fn a_hundred(daemon: &Arc<Daemon>, round: usize) {
    let permits = Arc::new(Semaphore::new(8));
    let mut tasks = JoinSet::new();
    for n in 0..100 {
        let (daemon, permits) = (Arc::clone(daemon), Arc::clone(&permits));
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await.unwrap();
            let id = daemon.run_pod(pod(&format!("p{round}x{n}"))).await;
            let mut config = sleeper("c");
            config.log_path = format!("p{round}x{n}.log");
            let c = daemon.run(&id, config).await;
            assert_eq!(daemon.exec(&c, &["true"]).await.0, 0);
            if n % 2 == 0 {
                daemon.stop(&c, 10).await;
            }
            daemon.remove_pod(&id).await;
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_pods_up_and_down_leave_nothing() {
    let daemon = Arc::new(Daemon::start(Options::default()).await);
    a_hundred(&daemon, 0).await;
    let before = Held::by(&daemon);
    for round in 1..=rounds(1) {
        a_hundred(&daemon, round).await;
        assert_eq!(daemon.leftovers(), Vec::<String>::new());
        until("addresses are given back", async || addresses(&daemon) == 0).await;
        assert_eq!(daemon.supervisors(), Vec::<Pid>::new());
        let held = Held::by(&daemon);
        println!("round {round}: {held:?}");
        until("descriptors go", async || {
            Held::by(&daemon).descriptors <= before.descriptors + 8
        })
        .await;
        // Freed memory is not given back at once; what is lost with each pod grows beyond this.
        let most = before.resident_kb + 16 * 1024;
        assert!(held.resident_kb <= most, "{before:?} became {held:?}");
        assert!(
            held.threads <= before.threads + 16,
            "{before:?} became {held:?}"
        );
    }
}

/// A number that nobody foresees, and that a failed test can be repeated with.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("HULL_SEED").ok();
        let pid = u64::from(std::process::id());
        let seed = seed.map_or(pid, |s| s.parse().expect("HULL_SEED is a number"));
        println!("HULL_SEED={seed}");
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `bound`.
    fn roll(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Asks again until it succeeds, as a kubelet does: the daemon is killed meanwhile.
macro_rules! insist {
    ($what:literal, $ask:expr) => {{
        let mut tries = 0;
        loop {
            match $ask.await {
                Ok(value) => break value,
                Err(e) if tries == 400 => panic!("{} never succeeds: {e}", $what),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }};
}

/// A command that may be killed with its supervisor: then the kubelet probes again.
async fn probe(stage: &Daemon, container: &str) -> Result<(), tonic::Status> {
    let request = v1::ExecSyncRequest {
        container_id: container.to_owned(),
        cmd: vec!["/bin/true".to_owned()],
        timeout: 30,
    };
    let answer = match stage.runtime().exec_sync(request).await {
        Ok(answer) => answer.into_inner(),
        Err(e) if e.code() == tonic::Code::FailedPrecondition => {
            let status = stage.status(container).await;
            return Err(tonic::Status::aborted(format!("{e}: {status:?}")));
        }
        Err(e) => return Err(e),
    };
    let killed = tonic::Status::aborted(format!("{answer:?}"));
    if answer.exit_code == 0 {
        Ok(())
    } else {
        Err(killed)
    }
}

/// A pod's life in which every request is repeated until it is granted.
async fn stubborn_life(stage: &RwLock<Daemon>, name: &str) {
    let mut config = pod(name);
    config.log_directory = stage.read().await.dir.join("logs").display().to_string();
    let mut runtime = stage.read().await.runtime();
    let request = v1::RunPodSandboxRequest {
        config: Some(config),
        ..Default::default()
    };
    let ran = insist!("RunPodSandbox", runtime.run_pod_sandbox(request.clone()));
    let pod_sandbox_id = ran.into_inner().pod_sandbox_id;
    let mut container = sleeper("c");
    container.log_path = format!("{name}.log");
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
        config: Some(container),
        sandbox_config: None,
    };
    let made = insist!("CreateContainer", runtime.create_container(request.clone()));
    let container_id = made.into_inner().container_id;
    let request = v1::StartContainerRequest {
        container_id: container_id.clone(),
    };
    insist!("StartContainer", runtime.start_container(request.clone()));
    insist!("ExecSync", async {
        probe(&*stage.read().await, &container_id).await
    });
    let request = v1::ContainerStatusRequest {
        container_id,
        verbose: false,
    };
    let status = insist!("ContainerStatus", runtime.container_status(request.clone()));
    let status = status.into_inner().status.unwrap();
    assert_eq!(
        status.state(),
        v1::ContainerState::ContainerRunning,
        "{status:?}"
    );
    let request = v1::StopPodSandboxRequest {
        pod_sandbox_id: pod_sandbox_id.clone(),
    };
    insist!("StopPodSandbox", runtime.stop_pod_sandbox(request.clone()));
    let request = v1::RemovePodSandboxRequest { pod_sandbox_id };
    insist!(
        "RemovePodSandbox",
        runtime.remove_pod_sandbox(request.clone())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killings_at_any_moment_lose_nothing() {
    let stage = Arc::new(RwLock::new(Daemon::start(Options::default()).await));
    let mut dice = Dice::new();
    let lives = 40 * rounds(1);
    let begun = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let (stage, begun) = (Arc::clone(&stage), Arc::clone(&begun));
        tasks.spawn(async move {
            loop {
                let number = begun.fetch_add(1, Ordering::SeqCst);
                if number >= lives {
                    return;
                }
                stubborn_life(&stage, &format!("k{number}")).await;
            }
        });
    }
    let (mut daemons, mut supervisors) = (0, 0);
    while begun.load(Ordering::SeqCst) < lives {
        tokio::time::sleep(std::time::Duration::from_millis(dice.roll(400))).await;
        if dice.roll(3) == 0 {
            let mut daemon = stage.write().await;
            daemon.kill();
            daemon.launch().await;
            daemons += 1;
        } else {
            let all = stage.read().await.supervisors();
            let count = u64::try_from(all.len()).unwrap();
            let chosen = all.get(usize::try_from(dice.roll(count.max(1))).unwrap());
            // It may have ended by itself.
            if chosen.is_some_and(|pid| kill_process(*pid, Signal::KILL).is_ok()) {
                supervisors += 1;
            }
        }
        // A failed life ends the test, not only its task.
        while let Some(done) = tasks.try_join_next() {
            done.unwrap();
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    println!("{lives} lives; killed: {daemons} hulld, {supervisors} supervisors");
    let daemon = stage.read().await;
    // What was being taken down for nobody goes in the background.
    for _ in 0..1000 {
        if daemon.leftovers().is_empty() && addresses(&daemon) == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
    assert_eq!(addresses(&daemon), 0);
    assert_eq!(daemon.supervisors(), Vec::<Pid>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_in_a_storm_leave_nothing() {
    let daemon = Arc::new(Daemon::start(Options::default()).await);
    let id = daemon.run_pod(pod("storm")).await;
    let c = daemon.run(&id, sleeper("c")).await;
    assert_eq!(daemon.exec(&c, &["true"]).await.0, 0);
    let supervisor = daemon.supervisors()[0].as_raw_nonzero();
    let descriptors = || {
        fs::read_dir(format!("/proc/{supervisor}/fd"))
            .unwrap()
            .count()
    };
    let before = descriptors();
    for _ in 0..rounds(1) {
        let permits = Arc::new(Semaphore::new(32));
        let mut tasks = JoinSet::new();
        for n in 0..1000 {
            let (daemon, permits, c) = (Arc::clone(&daemon), Arc::clone(&permits), c.clone());
            tasks.spawn(async move {
                let _permit = permits.acquire_owned().await.unwrap();
                let text = format!("probe {n}");
                let said = daemon.exec(&c, &["echo", &text]).await;
                assert_eq!(said, (0, text + "\n"));
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }
    until("the supervisor's descriptors go", async || {
        descriptors() <= before
    })
    .await;
    let (_, processes) = daemon.exec(&c, &["ps"]).await;
    assert!(!processes.contains("echo"), "{processes}");
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

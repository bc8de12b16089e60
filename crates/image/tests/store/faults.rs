//! The store after a kill, a full disk, a power cut.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::Reference;
use image::store::{PullOptions, Store, StoreOptions};

use crate::against_umoci::run;
use crate::archive::Archive;
use crate::layout::{Layout, Pack};

/// Rounds of kills, as far as the time goes.
const ROUNDS: u32 = 300;
/// Time for them.
const KILL_TIME: Duration = Duration::from_secs(25);

fn name() -> Reference {
    Reference::parse("x/y:v").unwrap()
}

/// Noise that does not compress to nothing.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        })
        .collect()
}

fn image_of(layers: u32, files: u32, size: usize) -> Layout {
    let layer = |l: u32| {
        (0..files)
            .fold(Archive::new().dir("d"), |a, f| {
                a.file(&format!("d/{l}-{f}"), &noise(l * 1000 + f, size))
            })
            .done()
    };
    let mut layout = Layout::new();
    layout.image("v", &(0..layers).map(layer).collect::<Vec<_>>(), Pack::Gzip);
    layout
}

/// Not a test: pulls and removes until it is killed.
#[test]
#[ignore = "run by the others"]
fn puller() {
    let Ok(root) = std::env::var("HULL_TEST_STORE") else {
        return;
    };
    let layout = std::env::var("HULL_TEST_LAYOUT").unwrap();
    let which = image::transport::Name::Tag("v".to_owned());
    let source = image::transport::LayoutSource::open(layout.as_ref(), &which).unwrap();
    let store = reopened(root.as_ref());
    loop {
        let image = store
            .pull(&source, &name(), &PullOptions::default())
            .unwrap();
        store.remove(&image.id).unwrap();
    }
}

fn spawn_puller(root: &Path, layout: &Layout) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "faults::puller", "--test-threads=1"])
        .env("HULL_TEST_STORE", root)
        .env("HULL_TEST_LAYOUT", layout.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The store, once the children that other tests fork at this moment have let go of its lock.
fn reopened(root: &Path) -> Store {
    let options = StoreOptions {
        wait: Duration::from_secs(10),
        ..StoreOptions::default()
    };
    Store::open_with(root, &options).unwrap()
}

/// What is known is whole, and there is nothing else.
fn sound(root: &Path) {
    let store = reopened(root);
    let report = store.check().unwrap();
    assert!(report.broken.is_empty(), "{report:#?}");
    let images = store.images().unwrap();
    let wanted = images.iter().map(|i| i.layers.len()).sum::<usize>();
    let count = |part: &str| std::fs::read_dir(root.join(part)).unwrap().count();
    assert_eq!(
        (report.layers, count("layers"), count("tmp")),
        (wanted, wanted, 0)
    );
}

#[test]
fn killed_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let layout = image_of(4, 20, 30_000);
    let until = Instant::now() + KILL_TIME;
    let mut rounds = 0;
    while rounds < ROUNDS && (Instant::now() < until || rounds < 20) {
        let mut child = spawn_puller(dir.path(), &layout);
        let wait = u64::from(rounds.wrapping_mul(2_654_435_761) >> 8) % 60_000;
        std::thread::sleep(Duration::from_micros(2000 + wait));
        child.kill().unwrap();
        child.wait().unwrap();
        if rounds % 2 == 1 && dir.path().join("db").exists() {
            // Who only looks finds the database in order, too.
            let looking = Store::open_read_only(dir.path()).unwrap();
            assert!(looking.images().unwrap().len() < 2);
        }
        sound(dir.path());
        rounds += 1;
    }
    let store = reopened(dir.path());
    let image = store
        .pull(&layout.source("v"), &name(), &PullOptions::default())
        .unwrap();
    assert_eq!(image.layers.len(), 4);
    drop(store);
    sound(dir.path());
}

/// A file system of its own that is gone at the end.
struct Mounted(tempfile::TempDir);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn mount(args: &[&str]) -> Mounted {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap().to_owned();
    run("mount", &[args, &[path.as_str()]].concat());
    Mounted(dir)
}

#[test]
fn full_disk() {
    let disk = mount(&["-t", "tmpfs", "-o", "size=12m", "hull-test"]);
    let root = disk.0.path().join("store");
    let layout = image_of(3, 10, 1_000_000);
    {
        let store = reopened(&root);
        let error = store
            .pull(&layout.source("v"), &name(), &PullOptions::default())
            .unwrap_err();
        let line = error.to_string();
        assert!(line.to_lowercase().contains("no space left"), "{line}");
        assert!(store.images().unwrap().is_empty());
    }
    run(
        "mount",
        &["-o", "remount,size=80m", disk.0.path().to_str().unwrap()],
    );
    let store = reopened(&root);
    store
        .pull(&layout.source("v"), &name(), &PullOptions::default())
        .unwrap();
    drop(store);
    sound(&root);
}

/// The disk as it is at this moment, without what was not written to it yet. Two copies that are
/// the same prove that nothing was written while they were made.
fn snapshot(disk: &Path) -> Vec<u8> {
    loop {
        let first = std::fs::read(disk).unwrap();
        if std::fs::read(disk).unwrap() == first {
            return first;
        }
    }
}

#[test]
fn power_cut() {
    let work = mount(&["-t", "tmpfs", "-o", "size=400m", "hull-test"]);
    let disk = work.0.path().join("disk");
    let file = std::fs::File::create(&disk).unwrap();
    file.set_len(64 << 20).unwrap();
    drop(file);
    run("mkfs.ext4", &["-q", disk.to_str().unwrap()]);
    let layout = image_of(3, 10, 100_000);
    for round in 0..8u64 {
        let live = mount(&["-o", "loop", disk.to_str().unwrap()]);
        let root = live.0.path().join("store");
        let mut child = spawn_puller(&root, &layout);
        std::thread::sleep(Duration::from_millis(150 + round * 97 % 400));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let cut = work.0.path().join("cut");
        std::fs::write(&cut, snapshot(&disk)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        drop(live);
        let after = mount(&["-o", "loop", cut.to_str().unwrap()]);
        let root = after.0.path().join("store");
        // Before the first start was through there is not even a database.
        sound(&root);
        let store = reopened(&root);
        store
            .pull(&layout.source("v"), &name(), &PullOptions::default())
            .unwrap();
        drop(store);
        sound(&root);
    }
}

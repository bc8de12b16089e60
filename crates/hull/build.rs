//! Tells the program which commit it is built from; links the release program.

use std::path::Path;
use std::process::Command;

/// Where Debian's musl-dev has its static C library.
const MUSL: &str = "/usr/lib/x86_64-linux-musl";

fn main() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let git = |args: &[&str]| {
        let out = Command::new("git").arg("-C").arg(root).args(args).output();
        let out = out.ok().filter(|o| o.status.success())?;
        let text = String::from_utf8(out.stdout).ok()?;
        Some(text.trim().to_owned())
    };
    // A source archive has no history.
    let commit = git(&["describe", "--always", "--abbrev=12", "--exclude=*"]);
    println!(
        "cargo::rustc-env=HULL_COMMIT={}",
        commit.as_deref().unwrap_or("unknown")
    );
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--path-format=absolute", "--git-path", name]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    link();
}

/// How the release program is linked.
fn link() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=no-unwind.ld");
    println!("cargo::rerun-if-changed=hot.ld");
    println!("cargo::rerun-if-changed={MUSL}/libc.a");
    println!("cargo::rerun-if-env-changed=HULL_LIBC");
    println!("cargo::rerun-if-env-changed=HULL_MAP");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|v| v == value);
    // The linker that comes with Rust for this target knows all of this.
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        return;
    }
    // A panic aborts: nothing ever unwinds a stack.
    argument(concat!(
        "-Wl,-T,",
        env!("CARGO_MANIFEST_DIR"),
        "/no-unwind.ld"
    ));
    // The code of a start in one piece.
    argument(concat!("-Wl,-T,", env!("CARGO_MANIFEST_DIR"), "/hot.ld"));
    if let Ok(map) = std::env::var("HULL_MAP") {
        argument(&format!("-Wl,-Map={map}"));
    }
    let musl = Path::new(MUSL).join("libc.a").exists() && Path::new(MUSL).join("rcrt1.o").exists();
    if musl && !is("HULL_LIBC", "glibc") {
        link_musl();
    } else {
        // Addresses to be relocated as a bit map, not as 24 bytes each. musl's start code cannot
        // read it before version 1.2.4.
        argument("-Wl,-z,pack-relative-relocs");
    }
}

/// Links musl instead of glibc, whose start costs more than all of hull's: ARCHITECTURE.md says
/// what that rests on, and tests/abi.rs sees to it.
fn link_musl() {
    // Both come before the compiler's own directories: its start files, then `-lc`.
    argument(&format!("-B{MUSL}"));
    argument(&format!("-L{MUSL}"));
    // What the compiled code asks glibc. Its names for 64-bit offsets, which musl always has, musl
    // has had until version 1.2.3.
    for (theirs, ours) in [
        ("fstat64", "fstat"),
        ("lseek64", "lseek"),
        ("lstat64", "lstat"),
        ("mmap64", "mmap"),
        ("open64", "open"),
        ("openat64", "openat"),
        ("pread64", "pread"),
        ("readdir64", "readdir"),
        ("stat64", "stat"),
        ("gnu_get_libc_version", "hull_libc_version"),
        ("_dl_find_object", "hull_find_object"),
        ("__xpg_strerror_r", "hull_strerror_r"),
        ("pthread_getattr_np", "hull_thread_attributes"),
    ] {
        argument(&format!("-Wl,--defsym={theirs}={ours}"));
    }
}

fn argument(text: &str) {
    println!("cargo::rustc-link-arg-bins={text}");
}

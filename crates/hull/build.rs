//! Tells the program which commit it is built from; links the release program.

use std::process::Command;

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
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|v| v == value);
    // The linker that comes with Rust for this target knows both.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/no-unwind.ld");
        // A panic aborts: nothing ever unwinds a stack.
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
        // Addresses to be relocated as a bit map, not as 24 bytes each.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

//! Ordinary behaviour that needs a program of its own.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

/// Takes and touches that many megabytes, then says that it survived.
pub fn hog(megabytes: u64) {
    let mut held = Vec::new();
    for n in 0..megabytes {
        let fill = u8::try_from(n % 255 + 1).unwrap_or(1);
        held.push(vec![fill; 1 << 20]);
    }
    println!("survived with {} MB", held.len());
}

/// Starts that many processes at once, and says how many it got.
pub fn fork(count: u64) {
    let mut children = Vec::new();
    for _ in 0..count {
        match Command::new("/bin/sleep").arg("5").spawn() {
            Ok(child) => children.push(child),
            Err(_) => break,
        }
    }
    println!("{}", children.len());
    for child in &mut children {
        // Gone is what we want.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Sends a text to `$NOTIFY_SOCKET` (sd_notify(3)).
pub fn notify(text: &str) {
    let path = std::env::var_os("NOTIFY_SOCKET").expect("NOTIFY_SOCKET");
    let socket = UnixDatagram::unbound().expect("socket");
    socket
        .send_to(text.as_bytes(), path)
        .expect("send to NOTIFY_SOCKET");
}

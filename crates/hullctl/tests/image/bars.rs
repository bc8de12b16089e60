//! Progress on a terminal.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};

use image::Digest;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::Desk;

const MIB: usize = 1 << 20;

/// How far blobs are sent: half, three quarters, all.
#[derive(Default)]
struct Gate {
    stage: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    fn open(&self, stage: usize) {
        *self.stage.lock().unwrap() = stage;
        self.changed.notify_all();
    }

    fn wait(&self, stage: usize) {
        let open = self.stage.lock().unwrap();
        drop(self.changed.wait_while(open, |now| *now < stage).unwrap());
    }
}

/// A registry with one image whose two layers come as the gate says.
struct Slow {
    address: String,
    gate: Arc<Gate>,
    layers: [Vec<u8>; 2],
}

impl Slow {
    fn start() -> Self {
        let layers = [layer(1), layer(2)];
        let ids = layers.each_ref().map(|l| Digest::of(l).to_string());
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": ids},
        })
        .to_string();
        let blob = |kind: &str, bytes: &[u8]| {
            serde_json::json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": Digest::of(bytes).to_string(), "size": bytes.len(),
            })
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob("config.v1+json", config.as_bytes()),
            "layers": layers.each_ref().map(|l| blob("layer.v1.tar", l)),
        })
        .to_string();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let gate = Arc::new(Gate::default());
        let (slow, served) = (Arc::clone(&gate), layers.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (slow, served) = (Arc::clone(&slow), served.clone());
                let (manifest, config) = (manifest.clone(), config.clone());
                std::thread::spawn(move || {
                    answer(stream.unwrap(), &manifest, &config, &served, &slow)
                });
            }
        });
        Self {
            address,
            gate,
            layers,
        }
    }
}

/// Answers the requests of a connection until it ends.
fn answer(stream: TcpStream, manifest: &str, config: &str, layers: &[Vec<u8>], gate: &Gate) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut to = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        let mut send = |kind: &str, body: &[u8], slow: bool| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            to.write_all(head.as_bytes()).unwrap();
            let marks = [0, MIB / 2, MIB * 3 / 4, body.len()];
            if !slow {
                return to.write_all(body).unwrap();
            }
            for (stage, part) in marks.windows(2).enumerate() {
                gate.wait(stage);
                to.write_all(&body[part[0]..part[1]]).unwrap();
            }
        };
        let layer = layers
            .iter()
            .find(|l| request.contains(Digest::of(l).hex()));
        match layer {
            Some(layer) => send("application/octet-stream", layer, true),
            None if request.contains("/manifests/") => send(
                "application/vnd.oci.image.manifest.v1+json",
                manifest.as_bytes(),
                false,
            ),
            None if request.contains("/blobs/") => {
                send("application/octet-stream", config.as_bytes(), false)
            }
            None => send("text/plain", b"", false),
        }
    }
}

/// A tar stream of exactly a mebibyte.
fn layer(seed: u8) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), vec![seed; MIB - 2048]).unwrap();
    let tar = Command::new("tar")
        .args(["--blocking-factor=1", "-cf", "-", "-C"])
        .arg(dir.path())
        .arg("file")
        .output()
        .unwrap()
        .stdout;
    let mut bytes = tar;
    bytes.resize(MIB, 0);
    bytes
}

/// A program whose standard error is a terminal.
struct Terminal {
    master: File,
    child: Child,
    seen: String,
}

impl Terminal {
    fn new(mut command: Command, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let name = name.to_str().unwrap();
        let slave = File::options().read(true).write(true).open(name);
        let slave = slave.unwrap();
        let master = File::from(master);
        resize(&master, columns);
        let child = command.stderr(slave).env("TERM", "xterm").spawn().unwrap();
        // The command holds a copy of the terminal: with it, the end would never be seen.
        drop(command);
        Self {
            master,
            child,
            seen: String::new(),
        }
    }

    /// Reads until `enough` is, or the program has closed its terminal.
    fn until(&mut self, enough: impl Fn(&str) -> bool) {
        let mut buffer = [0; 4096];
        while !enough(&self.seen) {
            match self.master.read(&mut buffer) {
                Ok(n) if n > 0 => self.seen += &String::from_utf8_lossy(&buffer[..n]),
                _ => panic!("it ended after {:?}", self.seen),
            }
        }
    }
}

fn resize(master: &File, columns: u16) {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master, size).unwrap();
}

/// The rows of a terminal of `columns` that were written to: a line that is full goes on in the
/// next row.
fn rows(seen: &str, columns: usize) -> Vec<String> {
    let plain = regex::Regex::new("\u{1b}\\[[0-9;?]*[A-Za-z]").unwrap();
    let text = plain.replace_all(seen, "\n");
    let lines = text
        .split(['\r', '\n'])
        .map(|l| l.chars().collect::<Vec<_>>());
    lines
        .flat_map(|line| {
            line.chunks(columns)
                .map(|row| row.iter().collect())
                .collect::<Vec<String>>()
        })
        .collect()
}

#[test]
fn a_bar_for_each_layer_within_the_width() {
    let (desk, slow) = (Desk::new(), Slow::start());
    let store = desk.path("store");
    let name = format!("docker://{}/app:1", slow.address);
    let args = ["pull", "--tls-verify=false", "--root", &store, &name];
    let mut terminal = Terminal::new(desk.command(&args), 100);
    let ids = slow
        .layers
        .each_ref()
        .map(|l| Digest::of(l).short().to_owned());
    // A row for each layer, which begins with its name.
    let shows = |seen: &str, columns: usize, bytes: &str| {
        let rows = rows(seen, columns);
        ids.iter()
            .all(|id| rows.iter().any(|r| r.starts_with(id) && r.contains(bytes)))
    };

    // All of it: layer, bar, bytes, rate, time left.
    terminal.until(|seen| shows(seen, 100, "512.00 KiB/1.00 MiB"));
    let wide = rows(&terminal.seen, 100);
    let full = wide.iter().rfind(|r| r.contains("512.00 KiB/1.00 MiB"));
    let full = full.unwrap();
    assert!(full.contains("[=") && full.contains("/s "), "{full}");
    assert!(full.trim_end().ends_with(['s', 'm', 'h', 'd']), "{full}");

    // A narrower window gets what fits, without the bar.
    resize(&terminal.master, 50);
    let before = terminal.seen.len();
    slow.gate.open(1);
    terminal.until(|seen| shows(&seen[before..], 50, "768.00 KiB/1.00 MiB"));
    let narrow = rows(&terminal.seen[before..], 50);
    let last = narrow.iter().rfind(|r| r.contains("768.00 KiB")).unwrap();
    assert!(!last.contains('['), "{last:?}");

    slow.gate.open(2);
    terminal.until(|seen| shows(&seen[before..], 50, "done 1.00 MiB"));
    assert!(terminal.child.wait().unwrap().success());
}

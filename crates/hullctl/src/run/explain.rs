//! `--explain`: what is isolated, and how it came to be, as two tables.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use runtime::create::Request;
use runtime::foreground::Foreground;
use runtime::root::StateRoot;
use runtime::{Warn, start, teardown};
use spec::plan::NamespaceKind;
use sys::trace::{Recorder, Step};

use super::carrier::Program;

/// Creates the container, connects its network and shows its namespaces while it waits, starts it,
/// shows the steps, and stays with it. Everything shown goes to standard error: standard output is
/// the container's. Without a `record` nothing is shown.
pub fn run(
    root: &StateRoot,
    mut request: Request,
    terminal: bool,
    record: Option<&Recorder>,
    carrier: Option<Program>,
    warn: Warn<'_>,
) -> Result<i32> {
    let foreground = Foreground::begin(true)?;
    let terminal = terminal.then(Terminal::listen).transpose()?;
    request.console_socket = terminal.as_ref().map(|t| t.dir.path().join(SOCKET));
    let created = runtime::create::create(root, &request, warn)?;
    let pid = created.child.pid;
    let number = pid.as_raw_nonzero().get();
    let carried = carrier.map(|program| program.connect(number)).transpose();
    let ended = carried.and_then(|_carrier| {
        if record.is_some() {
            eprintln!("{}\n", namespaces(number)?);
        }
        let console = terminal.map(Terminal::receive).transpose()?;
        start::start(&created.container, None, warn)?;
        if let Some(record) = record {
            eprintln!(
                "{}
",
                steps(&record.steps()?)
            );
        }
        let code = foreground.attend(pid, console)?;
        runtime::verdict::note(&created.container, "exit", &code.to_string());
        Ok(code)
    });
    if let Err(e) = teardown::teardown(root, &created.container, true, warn) {
        warn(&e.to_string());
    }
    ended
}

const SOCKET: &str = "console";

/// The end of a console socket that takes the terminal.
struct Terminal {
    listener: UnixListener,
    dir: tempfile::TempDir,
}

impl Terminal {
    fn listen() -> Result<Self> {
        let dir = tempfile::tempdir().context("mkdtemp(console socket)")?;
        let path = dir.path().join(SOCKET);
        let listener =
            UnixListener::bind(&path).with_context(|| format!("bind({})", path.display()))?;
        Ok(Self { listener, dir })
    }

    fn receive(self) -> Result<OwnedFd> {
        let (socket, _) = self.listener.accept().context("accept(console socket)")?;
        let received = runtime::console::receive_fd(&socket)?;
        let (_, master) = received.context("the runtime sent no terminal")?;
        Ok(master)
    }
}

/// What a namespace keeps apart, in a few words.
const fn isolates(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::User => "user and group ids, capabilities",
        NamespaceKind::Cgroup => "the root of the control-group tree",
        NamespaceKind::Ipc => "System V IPC, message queues",
        NamespaceKind::Uts => "host and domain name",
        NamespaceKind::Network => "interfaces, addresses, ports, routes",
        NamespaceKind::Pid => "process ids",
        NamespaceKind::Mount => "the tree of mounts",
        NamespaceKind::Time => "boot-time and monotonic clocks",
    }
}

/// The namespaces of `pid` beside our own.
pub fn namespaces(pid: i32) -> Result<String> {
    let mut table = plain_table();
    table.set_header(["NAMESPACE", "OUTSIDE", "INSIDE", "", "KEEPS APART"]);
    for kind in NamespaceKind::ALL {
        let outside = inode(Path::new("/proc/self/ns"), kind)?;
        let inside = inode(&Path::new("/proc").join(pid.to_string()).join("ns"), kind)?;
        let verdict = if outside == inside { "shared" } else { "own" };
        table.add_row([kind.proc_name(), &outside, &inside, verdict, isolates(kind)]);
    }
    Ok(table.to_string())
}

/// The number in `net:[4026531840]`.
fn inode(dir: &Path, kind: NamespaceKind) -> Result<String> {
    let path = dir.join(kind.proc_name());
    let link = std::fs::read_link(&path)
        .with_context(|| format!("readlink({}): the container's namespaces", path.display()))?;
    let text = link.to_string_lossy();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    Ok(digits)
}

/// The recorded steps, in order, with the process that took them.
pub fn steps(steps: &[Step]) -> String {
    let Some(begin) = steps.first().map(|s| s.start_ns) else {
        return "no step was recorded".to_owned();
    };
    let mut table = plain_table();
    table.set_header(["AT µs", "TOOK µs", "BY", "KERNEL CALL", "WHAT FOR"]);
    let parent = std::process::id().cast_signed();
    for step in steps {
        let by = if step.pid == parent {
            "runtime"
        } else {
            "init"
        };
        table.add_row([
            &micros(step.start_ns - begin),
            &micros(step.took_ns),
            by,
            &step.call,
            &step.detail,
        ]);
    }
    for column in 0..2 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let end = steps
        .iter()
        .map(|s| s.start_ns + s.took_ns)
        .max()
        .unwrap_or(begin);
    let mut text = table.to_string();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\n{} steps in {} µs",
        steps.len(),
        micros(end - begin)
    );
    text
}

fn micros(ns: u64) -> String {
    (ns / 1000).to_string()
}

/// Columns without lines, wrapped to the terminal's width where there is one.
fn plain_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stderr()) {
        table.set_width(size.ws_col);
    }
    table
}

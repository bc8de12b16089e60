//! The driver against a peer that speaks real D-Bus: on a socket pair, and through a real
//! message bus (Debian's dbus-daemon). The peer plays systemd, which this machine does not run.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use super::connection::Connection;
use super::message::{Kind, Message, PROLOGUE, message_len};
use super::*;

/// What the peer does about a call of systemd.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    /// Does it.
    Willing,
    /// The first start finds a unit of that name.
    LeftOver,
    /// Jobs end with this result.
    JobFails,
    /// Never ends a job.
    Hanging,
    /// Knows no unit.
    Empty,
}

/// The other end, as a list of the calls it got.
struct Peer {
    stream: UnixStream,
    serial: u32,
    mood: Mood,
    calls: Vec<Message>,
}

impl Peer {
    /// The authentication's other side (D-Bus specification, "Authentication Protocol").
    fn authenticate(&mut self) {
        let mut lines = [0; 29];
        self.stream.read_exact(&mut lines).unwrap();
        assert_eq!(&lines, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
        self.stream
            .write_all(b"DATA\r\nOK 0123456789abcdef\r\n")
            .unwrap();
    }

    fn receive(&mut self) -> Option<Message> {
        let mut bytes = vec![0; PROLOGUE];
        self.stream.read_exact(&mut bytes).ok()?;
        let len = message_len(bytes[..].try_into().unwrap()).unwrap();
        bytes.resize(len, 0);
        self.stream.read_exact(&mut bytes[PROLOGUE..]).ok()?;
        Some(Message::decode(&bytes).unwrap())
    }

    fn send(&mut self, mut message: Message) {
        self.serial += 1;
        message.serial = self.serial;
        // Whoever has given up does not listen any more.
        let _ = self.stream.write_all(&message.encode());
    }

    /// Answers one call until the other side hangs up.
    fn serve(mut self) -> Vec<Message> {
        self.authenticate();
        while let Some(call) = self.receive() {
            self.answer(&call, "");
            self.calls.push(call);
        }
        self.calls
    }

    fn answer(&mut self, call: &Message, destination: &str) {
        let mut reply = Message::new(Kind::Return);
        reply.reply_to = call.serial;
        reply.destination = destination.to_owned();
        let refuse = |reply: &mut Message, name: &str| {
            reply.kind = Kind::Error;
            reply.error = name.to_owned();
            reply.body = vec!["no".into()];
        };
        let before = self
            .calls
            .iter()
            .filter(|c| c.member == call.member)
            .count();
        let is_job = matches!(call.member.as_str(), "StartTransientUnit" | "StopUnit");
        match (call.member.as_str(), self.mood) {
            ("StartTransientUnit", Mood::LeftOver) if before == 0 => {
                refuse(&mut reply, UNIT_EXISTS)
            }
            ("StopUnit" | "ResetFailedUnit", Mood::Empty) => refuse(&mut reply, NO_SUCH_UNIT),
            _ if is_job => reply.body = vec![Value::Path("/job/7".into())],
            _ => {}
        }
        let refused = reply.kind == Kind::Error;
        if is_job && !refused && self.mood != Mood::Hanging {
            // Another one's job first; and the signal before the answer.
            self.send(job_removed("/job/6", "done"));
            let result = if self.mood == Mood::JobFails {
                "failed"
            } else {
                "done"
            };
            self.send(job_removed("/job/7", result));
        }
        self.send(reply);
    }
}

fn job_removed(job: &str, result: &str) -> Message {
    let mut signal = Message::new(Kind::Signal);
    signal.path = "/org/freedesktop/systemd1".into();
    signal.interface = "org.freedesktop.systemd1.Manager".into();
    signal.member = "JobRemoved".into();
    signal.body = vec![
        Value::U32(7),
        Value::Path(job.into()),
        "p-n.scope".into(),
        result.into(),
    ];
    signal
}

fn scope() -> Scope {
    Scope {
        unit: "p-n.scope".into(),
        user: false,
    }
}

/// A connection to a peer of that mood, which tells in the end what it was asked.
fn pair(mood: Mood) -> (Connection, JoinHandle<Vec<Message>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let peer = Peer {
        stream: theirs,
        serial: 0,
        mood,
        calls: Vec::new(),
    };
    let thread = std::thread::spawn(|| peer.serve());
    let patience = if mood == Mood::Hanging { 300 } else { 10_000 };
    let c = Connection::start(ours, false, Duration::from_millis(patience)).unwrap();
    (c, thread)
}

fn members(thread: JoinHandle<Vec<Message>>) -> Vec<String> {
    thread
        .join()
        .unwrap()
        .into_iter()
        .map(|m| m.member)
        .collect()
}

#[test]
fn a_scope_is_started_and_stopped() {
    let (mut c, thread) = pair(Mood::Willing);
    let properties = vec![value::property("Delegate", Value::Bool(true))];
    scope().start_on(&mut c, properties.clone()).unwrap();
    scope().stop_on(&mut c).unwrap();
    drop(c);
    let calls = thread.join().unwrap();
    let start = &calls[0];
    assert_eq!(value::signature_of(&start.body), "ssa(sv)a(sa(sv))");
    assert_eq!((start.text(0), start.text(1)), ("p-n.scope", "replace"));
    assert_eq!(start.body[2], value::properties(properties));
    assert_eq!(start.path, "/org/freedesktop/systemd1");
    assert_eq!(start.destination, "");
    assert_eq!(
        (calls[1].member.as_str(), calls[2].member.as_str()),
        ("StopUnit", "ResetFailedUnit")
    );
}

#[test]
fn a_left_over_unit_is_reset_and_the_start_repeated() {
    let (mut c, thread) = pair(Mood::LeftOver);
    scope().start_on(&mut c, Vec::new()).unwrap();
    drop(c);
    assert_eq!(
        members(thread),
        [
            "StartTransientUnit",
            "ResetFailedUnit",
            "StartTransientUnit"
        ]
    );
}

#[test]
fn failures_have_a_reason() {
    let (mut c, thread) = pair(Mood::JobFails);
    let e = scope().start_on(&mut c, Vec::new()).unwrap_err();
    assert_eq!(
        e.to_string(),
        "start of p-n.scope: systemd's job ended with \"failed\""
    );
    drop(c);
    assert_eq!(members(thread), ["StartTransientUnit", "ResetFailedUnit"]);

    let (mut c, thread) = pair(Mood::Hanging);
    let e = scope()
        .start_on(&mut c, Vec::new())
        .unwrap_err()
        .to_string();
    assert!(
        e.starts_with("start of p-n.scope: not done after 300 ms: systemd took the job"),
        "{e}"
    );
    drop(c);
    thread.join().unwrap();

    // A unit that is gone is as good as stopped.
    let (mut c, thread) = pair(Mood::Empty);
    scope().stop_on(&mut c).unwrap();
    drop(c);
    assert_eq!(members(thread), ["StopUnit"]);
}

#[test]
fn properties_are_set_until_reboot() {
    let (mut c, thread) = pair(Mood::Willing);
    scope()
        .set_on(&mut c, &[("MemoryMax", Value::U64(5))])
        .unwrap();
    drop(c);
    let calls = thread.join().unwrap();
    assert_eq!(calls[0].member, "SetUnitProperties");
    let want = [
        "p-n.scope".into(),
        Value::Bool(true),
        value::properties(vec![value::property("MemoryMax", Value::U64(5))]),
    ];
    assert_eq!(calls[0].body, want);
}

#[test]
fn a_process_is_attached() {
    let (mut c, thread) = pair(Mood::Willing);
    let pid = Pid::from_raw(7).unwrap();
    scope().attach_on(&mut c, "/container", pid).unwrap();
    drop(c);
    let calls = thread.join().unwrap();
    assert_eq!(calls[0].member, "AttachProcessesToUnit");
    let pids = Value::Array("u".into(), vec![Value::U32(7)]);
    assert_eq!(
        calls[0].body,
        ["p-n.scope".into(), "/container".into(), pids]
    );
}

#[test]
fn who_is_not_let_in_says_so() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
    let e = Connection::start(ours, true, Duration::from_secs(5))
        .unwrap_err()
        .to_string();
    assert_eq!(e, "authenticate to systemd: answer \"REJECTED EXTERNAL\"");
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert!(Connection::start(ours, true, Duration::from_secs(5)).is_err());
    // A line without end, and a message without end.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&[b'x'; 4096]).unwrap();
    let e = Connection::start(ours, true, Duration::from_secs(5))
        .unwrap_err()
        .to_string();
    assert!(e.contains("too long"), "{e}");
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs
        .write_all(b"OK x\r\nl\x02\x00\x01\xff\xff\xff\x7f\x01\x00\x00\x00\x00\x00\x00\x00")
        .unwrap();
    let e = Connection::start(ours, true, Duration::from_secs(5))
        .unwrap_err()
        .to_string();
    assert!(e.contains("too long"), "{e}");
}

#[test]
fn where_systemd_is_looked_for() {
    let var = |name: &'static str| -> Option<std::ffi::OsString> {
        match name {
            "XDG_RUNTIME_DIR" => Some("/run/user/7".into()),
            "DBUS_SESSION_BUS_ADDRESS" => {
                Some("tcp:host=x;unix:abstract=y;unix:path=/tmp/a%20b,guid=1".into())
            }
            _ => None,
        }
    };
    let direct = |p: &str| Address::Direct(p.into());
    let bus = |p: &str| Address::Bus(p.into());
    assert_eq!(
        addresses(true, var),
        [
            direct("/run/user/7/systemd/private"),
            bus("/tmp/a b"),
            bus("/run/user/7/bus")
        ]
    );
    assert_eq!(
        addresses(false, var),
        [
            direct("/run/systemd/private"),
            bus("/run/dbus/system_bus_socket")
        ]
    );
    let nobody = [direct("/nonexistent/a"), bus("/nonexistent/b")];
    let e = Connection::open(&nobody, Duration::from_secs(1))
        .unwrap_err()
        .to_string();
    assert!(
        e.contains("/nonexistent/a") && e.contains("/nonexistent/b"),
        "{e}"
    );
}

/// dbus-daemon with a socket of its own, killed when dropped.
struct Bus {
    daemon: Child,
    dir: PathBuf,
    socket: PathBuf,
}

impl Bus {
    fn start() -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("hull-test-bus-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let socket = dir.join("socket");
        let daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address"])
            .arg(format!("--address=unix:path={}", socket.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut daemon) = daemon else {
            std::fs::remove_dir_all(&dir).unwrap();
            return None;
        };
        let mut line = String::new();
        let mut stdout = BufReader::new(daemon.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        Some(Self {
            daemon,
            dir,
            socket,
        })
    }

    fn connect(&self) -> Connection {
        let address = [Address::Bus(self.socket.clone())];
        Connection::open(&address, Duration::from_secs(10)).unwrap()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Takes systemd's name on a bus and answers like [`Peer`].
fn play_systemd(mut c: Connection, ready: &std::sync::mpsc::Sender<()>) -> Vec<Message> {
    let mut request = Message::new(Kind::Call);
    request.path = "/org/freedesktop/DBus".into();
    request.interface = "org.freedesktop.DBus".into();
    request.member = "RequestName".into();
    request.body = vec!["org.freedesktop.systemd1".into(), Value::U32(0)];
    let serial = c.send_to(request, "org.freedesktop.DBus").unwrap();
    assert_eq!(c.reply(serial).unwrap().body, [Value::U32(1)]);
    ready.send(()).unwrap();
    let mut calls = Vec::new();
    while calls.len() < 5 {
        let call = c.receive().unwrap();
        if call.kind != Kind::Call {
            continue;
        }
        let mut reply = Message::new(Kind::Return);
        reply.reply_to = call.serial;
        if call.member == "StartTransientUnit" || call.member == "StopUnit" {
            reply.body = vec![Value::Path("/job/7".into())];
            c.send(job_removed("/job/7", "done")).unwrap();
        }
        // The bus fills the sender in, which Message does not keep: unique names count up, and
        // the other side was the second to say hello.
        c.send_to(reply, ":1.1").unwrap();
        calls.push(call);
    }
    calls
}

#[test]
fn through_a_real_message_bus() {
    let Some(bus) = Bus::start() else {
        // No dbus-daemon on this machine: the socket pair tests speak the same protocol.
        return;
    };
    let systemd = bus.connect();
    let mut ours = bus.connect();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || play_systemd(systemd, &ready));
    is_ready.recv().unwrap();
    scope()
        .start_on(
            &mut ours,
            vec![value::property("Delegate", Value::Bool(true))],
        )
        .unwrap();
    scope().stop_on(&mut ours).unwrap();
    assert_eq!(
        members(thread),
        [
            "Subscribe",
            "StartTransientUnit",
            "Subscribe",
            "StopUnit",
            "ResetFailedUnit"
        ]
    );
    // An error of the bus itself: nobody has the name any more.
    let e = scope()
        .set_on(&mut ours, &[("TasksMax", Value::U64(1))])
        .unwrap_err()
        .to_string();
    assert!(e.starts_with("properties of p-n.scope: "), "{e}");
}

#[test]
fn a_connection_that_is_lost_is_made_again() {
    // The other side hangs up in the middle of a call.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let peer = std::thread::spawn(move || {
        let mut peer = Peer {
            stream: theirs,
            serial: 0,
            mood: Mood::Willing,
            calls: Vec::new(),
        };
        peer.authenticate();
        let _ = peer.receive();
    });
    let mut c = Connection::start(ours, false, Duration::from_secs(5)).unwrap();
    let lost = scope().stop_on(&mut c).unwrap_err();
    peer.join().unwrap();
    assert!(matches!(lost, Error::Lost { .. }), "{lost}");
    let mut outcomes = vec![Ok(()), Err(lost)];
    persist(|| outcomes.pop().unwrap()).unwrap();
    assert!(outcomes.is_empty());
    // What was refused is not asked for again.
    let mut refusals = 0;
    let refuse = || {
        refusals += 1;
        Err(Error::Bus {
            operation: "stop".into(),
            reason: "no".into(),
        })
    };
    assert!(persist(refuse).is_err());
    assert_eq!(refusals, 1);
}

//! Commands in containers.

use std::io::Read as _;
use std::os::fd::AsFd as _;

use supervise::protocol::{Exec, ExecSync, Kind, Part};

use crate::support::{Pod, is_alive, wait_until};

fn sync(pod: &Pod, script: &str, timeout_millis: u64) -> ExecSync {
    ExecSync {
        id: pod.id("c"),
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        timeout_millis,
        max_output: None,
    }
}

fn running(name: &str) -> Pod {
    let mut pod = Pod::new(name);
    let create = pod.script("c", "sleep 1000");
    pod.run(create);
    pod
}

#[test]
fn output_and_code_of_a_command() {
    let mut pod = running("sync");
    let wish = sync(&pod, "echo out; echo err >&2; exit 4", 60_000);
    let got = pod.client.exec_sync(wish).unwrap();
    assert_eq!(got.output.ended.code, Some(4));
    assert!(!got.output.timed_out && !got.output.truncated);
    assert_eq!(
        (&got.stdout[..], &got.stderr[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );
    let quiet = sync(&pod, "exit 0", 0);
    let quiet = pod.client.exec_sync(quiet).unwrap();
    assert!(quiet.output.parts.is_empty(), "no file for no output");
    let killed = sync(&pod, "kill -9 $$", 0);
    let killed = pod.client.exec_sync(killed).unwrap();
    assert_eq!(killed.output.ended.signal, Some(9));
    assert_eq!(killed.output.ended.code, Some(137));
    let missing = ExecSync {
        args: vec!["nosuch".to_owned()],
        ..sync(&pod, "", 0)
    };
    let e = pod.client.exec_sync(missing).unwrap_err();
    assert_eq!(e.kind(), Kind::Program);
    assert!(e.to_string().contains("executable file not found"), "{e}");
    let nowhere = ExecSync {
        id: "none".to_owned(),
        ..sync(&pod, "true", 0)
    };
    let e = pod.client.exec_sync(nowhere).unwrap_err();
    assert_eq!(e.kind(), Kind::NotFound);
}

#[test]
fn a_deadline_kills_all_that_the_command_has_started() {
    let mut pod = running("deadline");
    // One in another session and process group, whose parent has gone: only its control group
    // tells whose it is.
    let script = "setsid sh -c 'sleep 2000 & echo $!; sleep 2000' & echo begun; sleep 2000";
    let wish = sync(&pod, script, 1500);
    let got = pod.client.exec_sync(wish).unwrap();
    assert!(got.output.timed_out);
    assert!(String::from_utf8_lossy(&got.stdout).contains("begun"));
    wait_until("nobody but the container is left", || {
        let list = sync(&pod, "ps -o args | grep -c '^sleep 2000'", 0);
        let got = pod.client.exec_sync(list).unwrap();
        (got.stdout == b"0\n").then_some(())
    });
    assert!(is_alive(pod.status("c").pid), "the container lives on");
    assert_eq!(leaves(&pod), 0, "control groups of commands are left");
}

#[test]
fn a_command_that_nobody_waits_for_is_killed() {
    let mut pod = running("gone");
    let mut client = pod.connect();
    let wish = sync(&pod, "sleep 2500", 0);
    let request = supervise::protocol::Request::ExecSync(Box::new(wish));
    client.send(request, &[]).unwrap();
    let count = |pod: &mut Pod, want: &[u8]| {
        let list = sync(pod, "ps -o args | grep -c '^sleep 2500'", 0);
        (pod.client.exec_sync(list).unwrap().stdout == want).then_some(())
    };
    wait_until("it runs", || count(&mut pod, b"1\n"));
    drop(client);
    wait_until("it is gone", || count(&mut pod, b"0\n"));
}

/// How many control groups of commands there are.
fn leaves(pod: &Pod) -> usize {
    let mut count = 0;
    let mut left = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                let path = entry.path();
                let ours = path.to_string_lossy().contains(&pod.name);
                count += usize::from(
                    ours && entry
                        .file_name()
                        .to_string_lossy()
                        .starts_with("hull-exec-"),
                );
                left.push(path);
            }
        }
    }
    count
}

#[test]
fn a_grandchild_with_the_pipe_does_not_hold_the_answer() {
    let mut pod = running("pipe");
    let wish = sync(&pod, "sleep 3000 & echo here", 0);
    let got = pod.client.exec_sync(wish).unwrap();
    assert_eq!(got.stdout, b"here\n");
    assert_eq!(got.output.ended.code, Some(0));
}

#[test]
fn output_is_bounded() {
    let mut pod = running("bound");
    let wish = ExecSync {
        max_output: Some(100_000),
        ..sync(&pod, "seq 1 1000000; echo last >&2", 0)
    };
    let got = pod.client.exec_sync(wish).unwrap();
    assert!(got.output.truncated);
    assert_eq!(got.stdout.len(), 100_000);
    assert!(got.stdout.starts_with(b"1\n2\n"));
    assert_eq!(got.stderr, b"last\n");
    assert_eq!(got.output.ended.code, Some(0));
}

#[test]
fn a_command_with_the_clients_own_pipes() {
    let mut pod = running("streams");
    let (stdin, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let (read, stdout) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let exec = Exec {
        id: pod.id("c"),
        args: ["sh", "-c", "cat; exit 6"].map(str::to_owned).to_vec(),
        parts: vec![Part::Stdin, Part::Stdout],
        ..Exec::default()
    };
    let running = pod
        .client
        .exec(exec, &[stdin.as_fd(), stdout.as_fd()])
        .unwrap();
    drop((stdin, stdout));
    rustix::io::write(&write, b"through").unwrap();
    drop(write);
    let mut text = String::new();
    std::fs::File::from(read).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
    let ended = pod.client.ended(&running).unwrap();
    assert_eq!(ended.code, Some(6));
}

#[test]
fn a_command_with_a_terminal() {
    let mut pod = running("term");
    let exec = Exec {
        id: pod.id("c"),
        args: ["sh", "-c", "stty size; read x"]
            .map(str::to_owned)
            .to_vec(),
        terminal: true,
        size: Some((44, 99)),
        ..Exec::default()
    };
    let mut running = pod.client.exec(exec, &[]).unwrap();
    let mut master = std::fs::File::from(running.terminal.take().unwrap());
    let mut text = [0; 7];
    master.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"44 99\r\n");
    // A signal by number ends it too.
    pod.connect();
    let number = running.process.exec;
    let mut other = pod.connect();
    let sent = other.send(supervise::protocol::Request::SignalExec(number, 9), &[]);
    other.reply(sent.unwrap()).unwrap();
    let ended = pod.client.ended(&running).unwrap();
    assert_eq!(ended.signal, Some(9));
}

#[test]
fn a_storm_of_commands_leaves_nothing() {
    let mut pod = running("storm");
    let before = descriptors(&mut pod);
    let mut clients: Vec<_> = (0..8).map(|_| pod.connect()).collect();
    for _ in 0..10 {
        let numbers: Vec<u64> = clients
            .iter_mut()
            .map(|client| {
                let wish = Box::new(sync(&pod, "echo x", 60_000));
                let request = supervise::protocol::Request::ExecSync(wish);
                client.send(request, &[]).unwrap()
            })
            .collect();
        for (client, number) in clients.iter_mut().zip(numbers) {
            client.reply(number).unwrap();
        }
    }
    drop(clients);
    wait_until("connections are gone", || {
        (descriptors(&mut pod) <= before).then_some(())
    });
    assert_eq!(leaves(&pod), 0);
    assert!(pod.client.list().is_ok());
}

/// How many descriptors the supervisor has.
pub fn descriptors(pod: &mut Pod) -> usize {
    // With this answer, all that came before is done.
    pod.client.list().unwrap();
    let fds = std::fs::read_dir(format!("/proc/{}/fd", pod.supervisor()));
    fds.unwrap().count()
}

//! `--log`, `--log-format`, `--debug`, and what stands on standard error.

use runtime_suite::prelude::*;

/// Fails a create with these global flags; returns its output and the log file.
fn failing(t: &Case, format: &[&str]) -> (Output, String) {
    t.write(|c| args(c, &["/bin/missing"]));
    let log = t.dir().join("log");
    let bundle = t.bundle().to_str().expect("UTF-8");
    let mut flags = vec!["--log", log.to_str().expect("UTF-8")];
    flags.extend(format);
    flags.extend(["run", "--bundle", bundle, t.id()]);
    let out = t.runtime(&flags).run();
    (out, std::fs::read_to_string(&log).unwrap_or_default())
}

#[test]
fn the_json_log_is_what_containerd_reads() {
    case(|t| {
        let (out, log) = failing(t, &["--log-format", "json"]);
        assert_ne!(out.code(), 0);
        let lines: Vec<Value> = log
            .lines()
            .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
            .collect();
        let last = lines
            .iter()
            .rev()
            .find(|l| l["level"] == "error")
            .expect("an error");
        let message = last["msg"].as_str().expect("a message");
        assert!(message.contains("missing"), "{message}");
        assert!(!message.contains('\n'));
        let time = last["time"].as_str().expect("a time");
        assert!(
            time.len() >= 20 && time.as_bytes()[10] == b'T',
            "RFC 3339: {time}"
        );
    });
}

#[test]
fn standard_error_has_the_error_too() {
    case(|t| {
        let (out, _) = failing(t, &["--log-format", "json"]);
        assert!(out.stderr.contains("missing"), "{out}");
        let (out, log) = failing(t, &[]);
        assert!(out.stderr.contains("missing"), "{out}");
        assert!(log.contains("missing"), "{log}");
    });
}

#[test]
fn a_log_is_appended_to() {
    case(|t| {
        let log = t.new_file("log", "{\"level\":\"info\",\"msg\":\"before\"}\n");
        let (_, text) = failing(t, &["--log-format", "json"]);
        assert!(
            text.starts_with("{\"level\":\"info\",\"msg\":\"before\"}\n"),
            "{text}"
        );
        assert!(text.lines().count() >= 2 && log.exists());
    });
}

#[test]
fn success_says_nothing() {
    case(|t| {
        let out = t.run(|_| {}).ok();
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("", ""));
        let out = t.create(|c| args(c, &["/bin/sleep", "1000"])).ok();
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("", ""));
        for out in [t.start(), t.kill("KILL")] {
            let out = out.ok();
            assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("", ""));
        }
    });
}

#[test]
fn debugging_says_more_and_works() {
    case(|t| {
        t.write(|c| args(c, &["/bin/echo", "works"]));
        let bundle = t.bundle().to_str().expect("UTF-8");
        let log = t.dir().join("log");
        let log_arg = log.to_str().expect("UTF-8");
        let out = t
            .runtime(&[
                "--debug",
                "--log",
                log_arg,
                "--log-format",
                "json",
                "run",
                "--bundle",
                bundle,
                t.id(),
            ])
            .run()
            .ok();
        assert_eq!(out.text(), "works");
        let text = std::fs::read_to_string(&log).expect("read the log");
        for line in text.lines() {
            let _: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        }
        assert!(text.contains("\"debug\""), "{text}");
    });
}

#[test]
fn a_log_that_cannot_be_written_is_an_error() {
    case(|t| {
        t.write(|_| {});
        let bundle = t.bundle().to_str().expect("UTF-8");
        let args = [
            "--log",
            "/nonexistent/dir/log",
            "run",
            "--bundle",
            bundle,
            t.id(),
        ];
        assert_ne!(t.runtime(&args).run().code(), 0);
    });
}

#[test]
fn an_unknown_log_format_is_refused() {
    case(|t| {
        t.write(|_| {});
        let bundle = t.bundle().to_str().expect("UTF-8");
        let args = ["--log-format", "xml", "run", "--bundle", bundle, t.id()];
        assert_ne!(t.runtime(&args).run().code(), 0);
    });
}

#[test]
fn control_characters_of_names_do_not_reach_the_terminal() {
    case(|t| {
        let out = t.run(|c| args(c, &["/bin/\u{1b}[31mred\nsecond line"]));
        assert_ne!(out.code(), 0);
        assert!(!out.stderr.contains('\u{1b}'), "{out}");
        assert_eq!(out.stderr.trim_end().lines().count(), 1, "{out}");
    });
}

#[test]
fn the_state_root_is_private() {
    case(|t| {
        std::fs::remove_dir_all(t.dir().join("state")).expect("remove");
        t.up(|_| {});
        for dir in [t.dir().join("state"), t.state_dir(t.id())] {
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &std::fs::metadata(&dir).expect("stat").permissions(),
            );
            // Others must not list or enter it; runc's is 0711 so that mapped users can pass.
            assert_eq!(mode & 0o066, 0, "{}: {mode:o}", dir.display());
        }
    });
}

//! From `args` to a running program: lookup, execve, and the reason when it fails.

mod why;

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;
use sys::ErrnoText;

use crate::{Error, Result};

/// Where execvp(3) looks when there is no PATH (confstr(3), _CS_PATH).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A program that was found, and its arguments, ready for execve(2).
#[derive(Debug)]
pub struct Program {
    path: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
}

impl Program {
    /// Looks `args[0]` up as execvp(3) does, with the PATH of `env`.
    ///
    /// Must be called where the program will run: in its root, its working directory, and as its
    /// user.
    ///
    /// # Errors
    /// [`Error::Program`] in the words that callers of OCI runtimes match.
    pub fn find(args: &[String], env: &[String]) -> Result<Self> {
        let Some(name) = args.first() else {
            return Err(Error::Invalid("process: args must not be empty".to_owned()));
        };
        let path = if name.contains('/') {
            check_executable(name)?;
            name.clone()
        } else {
            search(name, path_of(env).unwrap_or(DEFAULT_PATH))?
        };
        Ok(Self {
            path: c_string("process.args", &path)?,
            argv: c_strings("process.args", args)?,
            envp: c_strings("process.env", env)?,
        })
    }

    /// execve(2). Returns only on failure, with the reason that the errno alone does not tell.
    ///
    /// Blocked signals and the disposition of SIGPIPE are put back before.
    #[must_use]
    pub fn exec(&self) -> Error {
        if let Err(e) = sys::signal::reset_for_exec() {
            return e.into();
        }
        let argv: Vec<&CStr> = self.argv.iter().map(CString::as_c_str).collect();
        let envp: Vec<&CStr> = self.envp.iter().map(CString::as_c_str).collect();
        let error = sys::process::execve(&self.path, &argv, &envp);
        let path = self.path.to_string_lossy();
        let reason = why::why(
            Path::new(std::ffi::OsStr::from_bytes(self.path.as_bytes())),
            error.errno,
        );
        Error::Program(format!("exec {path}: {}{reason}", ErrnoText(error.errno)))
    }
}

/// The last PATH, as a C library's getenv(3) on a list without duplicates would find it.
fn path_of(env: &[String]) -> Option<&str> {
    env.iter().rev().find_map(|e| e.strip_prefix("PATH="))
}

/// A name without a slash: the first executable in PATH. As in execvp(3), a file that may not be
/// executed does not end the search, but is the error if nothing better is found.
fn search(name: &str, path: &str) -> Result<String> {
    let mut forbidden = None;
    if !name.is_empty() {
        for directory in path.split(':') {
            // An empty element is the working directory.
            let directory = if directory.is_empty() { "." } else { directory };
            let candidate = format!("{directory}/{name}");
            match executable(&candidate) {
                Ok(()) => return Ok(candidate),
                Err(Errno::ACCESS) => {
                    forbidden.get_or_insert(candidate);
                }
                Err(_) => {}
            }
        }
    }
    let Some(candidate) = forbidden else {
        let text = format!("exec: {name:?}: executable file not found in $PATH");
        return Err(Error::Program(text));
    };
    let reason = why::why(Path::new(&candidate), Errno::ACCESS);
    let text = format!("exec: {name:?}: {candidate}: permission denied{reason}");
    Err(Error::Program(text))
}

fn check_executable(name: &str) -> Result<()> {
    executable(name).map_err(|errno| {
        let reason = why::why(Path::new(name), errno);
        let text = ErrnoText(errno);
        Error::Program(match errno {
            Errno::ACCESS => format!("exec: {name:?}: {text}{reason}"),
            _ => format!("exec: {name:?}: stat {name}: {text}{reason}"),
        })
    })
}

/// What execve(2) would say of the file itself; it may still refuse what is in it.
fn executable(path: &str) -> std::result::Result<(), Errno> {
    let found = stat(path)?;
    if !FileType::from_raw_mode(found.st_mode).is_file() {
        return Err(Errno::ACCESS);
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // faccessat2(2) is of Linux 5.8, and system-call filters written before it answer EPERM.
        // execve(2) itself decides then.
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        other => other,
    }
}

fn c_string(what: &str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Invalid(format!("{what}: {text:?} has a NUL byte")))
}

fn c_strings(what: &str, words: &[String]) -> Result<Vec<CString>> {
    words.iter().map(|w| c_string(what, w)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&s| s.to_owned()).collect()
    }

    fn find(args: &[&str], env: &[&str]) -> std::result::Result<String, String> {
        let program = Program::find(&words(args), &words(env)).map_err(|e| e.to_string())?;
        Ok(program.path.into_string().unwrap())
    }

    #[test]
    fn looks_where_execvp_looks() {
        let dir = std::env::temp_dir().join(format!("hull-path-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a/tool")).unwrap();
        std::fs::create_dir_all(dir.join("b")).unwrap();
        std::fs::write(dir.join("b/plain"), "x").unwrap();
        std::fs::write(dir.join("b/tool"), "x").unwrap();
        std::fs::set_permissions(dir.join("b/tool"), PermissionsExt::from_mode(0o755)).unwrap();
        let d = dir.to_str().unwrap();
        let path = format!("PATH={d}/none:{d}/a:{d}/b");
        assert_eq!(find(&["tool"], &[&path]).unwrap(), format!("{d}/b/tool"));
        let twice = find(&["tool"], &[&path, "PATH=/none"]).unwrap_err();
        assert_eq!(twice, "exec: \"tool\": executable file not found in $PATH");
        let plain = find(&["plain"], &[&path]).unwrap_err();
        assert!(plain.contains("permission denied: "), "{plain}");
        assert_eq!(find(&["sh"], &[]).unwrap(), "/bin/sh");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_words_callers_match() {
        let cases = [
            (
                "nosuch",
                "exec: \"nosuch\": executable file not found in $PATH",
            ),
            ("", "exec: \"\": executable file not found in $PATH"),
            (
                "/no/such",
                "exec: \"/no/such\": stat /no/such: no such file or directory",
            ),
            (
                "/etc",
                "exec: \"/etc\": permission denied: it is a directory",
            ),
        ];
        for (name, text) in cases {
            assert_eq!(find(&[name], &["PATH=/usr/bin"]).unwrap_err(), text);
        }
        assert_eq!(
            find(&["/bin/sh", "a\0b"], &[]).unwrap_err(),
            "process.args: \"a\\0b\" has a NUL byte"
        );
        assert!(find(&[], &[]).is_err());
    }
}

//! One test case: its directory, its containers, its verdict.

use std::any::type_name;
use std::cell::RefCell;
use std::io::Write as _;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::container::Container;
use crate::ground::ground;
use crate::host;
use crate::leaks;
use crate::program::{Program, program};
use crate::table::{self, Verdict};

/// What the containers of one case share.
pub(crate) struct Shared {
    /// Part of every name that the case makes.
    pub(crate) token: String,
    /// Holds everything that the case makes.
    pub(crate) dir: PathBuf,
    /// All containers that may exist.
    pub(crate) ids: RefCell<Vec<String>>,
    undo: RefCell<Vec<Box<dyn FnOnce()>>>,
}

/// A test case under way; by itself, its first container.
pub struct Case {
    shared: Rc<Shared>,
    first: Container,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Case").field(&self.shared.token).finish()
    }
}

impl Deref for Case {
    type Target = Container;
    fn deref(&self) -> &Container {
        &self.first
    }
}

/// A reason not to run a test here.
struct Skip(String);

/// Runs a test case: its body, the removal of its containers, the search for leaks; and compares
/// the outcome with the table of deviations.
///
/// The case is named after the function that `body` was written in.
///
/// # Panics
/// Where the outcome is not what the table says.
pub fn case<F: Fn(&Case)>(body: F) {
    let name = type_name::<F>().trim_end_matches("::{{closure}}");
    let name = name.split_once("::").map_or(name, |(_, rest)| rest);
    let program = program();
    let mut outcome = attempt(&body);
    let entry = table::lookup(name, &program.label(), ground());
    // A peer's races are not ours to find: what it does once in two tries, it can do.
    if entry.is_none() && program.kind != "hull" && matches!(outcome, Err(Failure::Panicked(_))) {
        outcome = attempt(&body);
    }
    if let Err(Failure::Skipped(why)) = &outcome {
        eprintln!("{name}: skipped: {why}");
        return record("skip", name, why);
    }
    let verdict = entry.map_or(Verdict::Passes, |e| e.verdict);
    match (verdict, outcome) {
        (Verdict::Passes, Err(Failure::Panicked(what))) => {
            record("FAIL", name, &what);
            resume_unwind(Box::new(what))
        }
        (Verdict::Fails, Ok(())) => {
            record(
                "FAIL",
                name,
                "passed, but deviations.tsv says that it fails",
            );
            panic!(
                "passed on {}@{}, but deviations.tsv says that it fails",
                program.label(),
                ground().name()
            )
        }
        (_, Err(Failure::Panicked(what))) => record("known", name, &what),
        _ => record("pass", name, ""),
    }
}

/// Appends one line to the file that `SUITE_LOG` names, if it does.
fn record(outcome: &str, name: &str, detail: &str) {
    let Some(path) = std::env::var_os("SUITE_LOG") else {
        return;
    };
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path);
    let mut file = file.expect("open SUITE_LOG");
    let line = format!("{outcome}\t{name}\t{}\n", detail.replace('\n', " | "));
    file.write_all(line.as_bytes()).expect("write SUITE_LOG");
}

enum Failure {
    Skipped(String),
    Panicked(String),
}

fn attempt(body: impl FnOnce(&Case)) -> Result<(), Failure> {
    leaks::sweep();
    let case = Case::new();
    let result = catch_unwind(AssertUnwindSafe(|| body(&case)));
    let result = match result {
        Ok(()) => catch_unwind(AssertUnwindSafe(|| case.finish())),
        Err(e) => Err(e),
    };
    // Where the body panicked, this has not been done yet; a second failure adds nothing.
    let _ = catch_unwind(AssertUnwindSafe(|| case.undo_all()));
    leaks::scavenge(&case.shared.token, &case.shared.dir);
    result.map_err(|payload| match payload.downcast::<Skip>() {
        Ok(skip) => Failure::Skipped(skip.0),
        Err(payload) => Failure::Panicked(text(payload.as_ref())),
    })
}

fn text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "panicked without a text".to_owned())
}

impl Case {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let token = format!("rs{}x{n}", std::process::id());
        let dir = std::env::temp_dir().join(&token);
        for sub in ["state", "io", "tmp"] {
            std::fs::create_dir_all(dir.join(sub)).expect("make the case's directory");
        }
        let shared = Rc::new(Shared {
            token,
            dir,
            ids: RefCell::new(Vec::new()),
            undo: RefCell::new(Vec::new()),
        });
        let first = Container::new(&shared, "a", Path::new("a"));
        Self { shared, first }
    }

    /// Another container of this case.
    #[must_use]
    pub fn container(&self, name: &str) -> Container {
        Container::new(&self.shared, name, Path::new(name))
    }

    /// Another container, with its bundle at this place below the case's directory.
    #[must_use]
    pub fn container_in(&self, place: &str) -> Container {
        let name = place.replace('/', "-");
        Container::new(&self.shared, &name, Path::new(place))
    }

    /// The program under test.
    #[must_use]
    pub fn program(&self) -> &'static Program {
        program()
    }

    /// The case's own directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The word that is part of every name of this case.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.shared.token
    }

    /// A new directory of the case, open to all users.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[must_use]
    pub fn new_dir(&self, name: &str) -> PathBuf {
        let dir = self.shared.dir.join(name);
        std::fs::create_dir_all(&dir).expect("make a directory");
        dir
    }

    /// A new file of the case.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[must_use]
    pub fn new_file(&self, name: &str, content: &str) -> PathBuf {
        let file = self.shared.dir.join(name);
        std::fs::write(&file, content).expect("write a file");
        file
    }

    /// Ends the case here, without a verdict, unless the machine has what it needs.
    pub fn needs(&self, there: bool, what: &str) {
        if !there {
            resume_unwind(Box::new(Skip(format!("needs {what}"))));
        }
    }

    /// Ends the case here, without a verdict, unless the version 2 tree alone is there and has
    /// this controller.
    pub fn needs_v2(&self, controller: &str) {
        self.needs(host::cgroup_v2_only(), "cgroup v2 alone");
        let there = host::cgroup_v2(controller);
        self.needs(there, &format!("the {controller} controller of cgroup v2"));
    }

    /// Ends the case here, without a verdict, where we are not the machine's root.
    pub fn needs_root(&self, what_for: &str) {
        self.needs(
            rustix::process::geteuid().is_root(),
            &format!("root: {what_for}"),
        );
    }

    /// Does this when the case ends, before leaks are looked for; the last one first.
    pub fn at_end(&self, undo: impl FnOnce() + 'static) {
        self.shared.undo.borrow_mut().push(Box::new(undo));
    }

    /// Mounts a tmpfs on a new directory of the case, with a propagation type.
    ///
    /// # Panics
    /// Where that fails.
    #[must_use]
    pub fn tmpfs(&self, name: &str, propagation: MountPropagationFlags) -> PathBuf {
        self.needs_root("a mount on the host");
        let dir = self.new_dir(name);
        rustix::mount::mount(self.token(), &dir, "tmpfs", MountFlags::empty(), None)
            .expect("mount a tmpfs");
        let point = dir.clone();
        self.at_end(move || {
            // Gone already: a test may have unmounted it.
            let _ = rustix::mount::unmount(&point, UnmountFlags::DETACH);
        });
        rustix::mount::mount_change(&dir, propagation).expect("change the propagation");
        dir
    }

    fn finish(&self) {
        let ids = self.shared.ids.borrow().clone();
        for id in ids.iter().filter(|id| self.first.state_dir(id).exists()) {
            let out = self.first.runtime(&["delete", "--force", id]).run();
            assert!(
                out.status.success() || !self.first.state_dir(id).exists(),
                "cleaning up: {out}"
            );
        }
        self.undo_all();
        let left = leaks::find(&self.shared.token, &self.shared.dir);
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }

    fn undo_all(&self) {
        loop {
            // Not borrowed while it runs: it may use the case.
            let undo = self.shared.undo.borrow_mut().pop();
            match undo {
                Some(undo) => undo(),
                None => break,
            }
        }
    }
}

//! Creating and starting a container in one go, and staying with it.

use crate::create::{Request, Start, create};
use crate::foreground::Foreground;
use crate::root::StateRoot;
use crate::{Doing as _, Error, Result, Warn, start, teardown};

/// What to do besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Do not become the reaper of orphans.
    pub no_subreaper: bool,
    /// Leave the container, stopped, when it has ended.
    pub keep: bool,
}

/// Runs a container; the exit code of its program, or 128 and the number of the signal that
/// ended it. With [`Start::Detached`] returns 0 once the program has been executed.
///
/// # Errors
/// As for [`create`] and [`start::start`]; the container is undone then.
pub fn run(root: &StateRoot, request: &Request, options: Options, warn: Warn<'_>) -> Result<i32> {
    let mut foreground = match request.start {
        Start::Attached => Some(Foreground::begin(!options.no_subreaper)?),
        _ => None,
    };
    let mut created = create(root, request, warn)?;
    let container = &created.container;
    let init = container.record.init.ok_or(Error::NotRunning)?;
    let profile = || Ok(created.plan.seccomp.clone());
    let started = start::attend(container, init, &created.child.channel, profile, warn);
    drop(created.together.take());
    if let Err(e) = started {
        let mut errors = vec![e];
        errors.extend(created.child.kill().doing(|| "undo").err());
        let undone = teardown::teardown(root, container, true, warn);
        errors.extend(undone.doing(|| "undo").err());
        return Err(Error::from_several(errors).unwrap_or(Error::NotRunning));
    }
    match (&mut foreground, created.listening.take()) {
        (Some(foreground), Some(listening)) => foreground.announce(listening),
        (None, Some(listening)) => listening.wait(init, init.pid)?,
        (_, None) => {}
    }
    let Some(foreground) = foreground else {
        return Ok(0);
    };
    let code = foreground.attend(created.child.pid, created.console.take())?;
    crate::verdict::note(&created.container, "exit", &code.to_string());
    if !options.keep
        && let Err(e) = teardown::teardown(root, &created.container, true, warn)
    {
        // The program's exit code is what the caller asked for.
        warn(&e.to_string());
    }
    Ok(code)
}

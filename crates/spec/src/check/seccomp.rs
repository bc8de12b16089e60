//! `linux.seccomp`: the words exist and fit together. System-call names are not judged: the
//! specification lets those pass that a runtime does not know.

use super::text;
use crate::error::{At, Result};
use crate::oci::{Seccomp, SyscallRule};
use crate::words::{self, ACTIONS, ARCHITECTURES, FLAGS, OPERATORS};

/// A system call has at most six arguments.
const ARGUMENTS_MAX: u32 = 6;

pub(super) fn profile(given: Option<&Seccomp>, at: &At) -> Result<Option<Seccomp>> {
    let Some(given) = given else {
        return Ok(None);
    };
    text::required(&given.default_action, &at.field("defaultAction"))?;
    let default = Place {
        action: "defaultAction",
        errno: "defaultErrnoRet",
    };
    if action(&given.default_action, given.default_errno_ret, &default, at)? {
        return Err(at.field("defaultAction").unsupported(
            "SCMP_ACT_NOTIFY as the default would stop the runtime itself, which hands the listener over",
        ));
    }
    for (i, word) in given.architectures.iter().enumerate() {
        let at = at.field("architectures");
        words::require(ARCHITECTURES, word, "architecture", &at.index(i))?;
    }
    for (i, word) in given.flags.iter().flatten().enumerate() {
        let at = at.field("flags");
        words::require(FLAGS, word, "flag", &at.index(i))?;
    }
    let mut notify = false;
    let rules = at.field("syscalls");
    for (i, given) in given.syscalls.iter().enumerate() {
        notify |= rule(given, &rules.index(i))?;
    }
    listener(given, notify, at)?;
    Ok(Some(given.clone()))
}

/// The names of the fields of one action.
struct Place {
    action: &'static str,
    errno: &'static str,
}

/// Checks an action and its errno; tells whether it notifies.
fn action(word: &str, errno: Option<u32>, place: &Place, at: &At) -> Result<bool> {
    let action = words::require(ACTIONS, word, "action", &at.field(place.action))?;
    if let Some(errno) = errno {
        let at = at.field(place.errno);
        match action.errno_max {
            None => return Err(at.invalid(errno, format!("{word} takes no errno"))),
            Some(max) if errno > max => {
                return Err(at.invalid(errno, format!("must be at most {max}")));
            }
            Some(_) => {}
        }
    }
    Ok(action.notify)
}

fn rule(given: &SyscallRule, at: &At) -> Result<bool> {
    let names = at.field("names");
    if given.names.is_empty() {
        return Err(names.missing("at least one name is required"));
    }
    for (i, name) in given.names.iter().enumerate() {
        text::required(name, &names.index(i))?;
    }
    let place = Place {
        action: "action",
        errno: "errnoRet",
    };
    let notify = action(&given.action, given.errno_ret, &place, at)?;
    // The runtime writes after the filter is in place and before anybody listens.
    if notify && given.names.iter().any(|name| name == "write") {
        return Err(at
            .field("action")
            .unsupported("SCMP_ACT_NOTIFY cannot be used for write"));
    }
    let args = at.field("args");
    for (i, arg) in given.args.iter().enumerate() {
        let at = args.index(i);
        if arg.index >= ARGUMENTS_MAX {
            return Err(at.field("index").invalid(arg.index, "must be at most 5"));
        }
        words::require(OPERATORS, &arg.op, "operator", &at.field("op"))?;
    }
    Ok(notify)
}

fn listener(given: &Seccomp, notify: bool, at: &At) -> Result<()> {
    let path = at.field("listenerPath");
    text::no_nul(&given.listener_path, &path)?;
    if given.listener_path.is_empty() {
        if !given.listener_metadata.is_empty() {
            return Err(at
                .field("listenerMetadata")
                .conflict("must not be set without listenerPath"));
        }
        if notify {
            return Err(path.missing("required with SCMP_ACT_NOTIFY"));
        }
    }
    Ok(())
}

//! A stop that comes before its listener. The kernel drops a signal to the first process of a pid
//! namespace that has no handler for it yet: a program that was started a moment ago would never
//! hear that it is to end. It is told again once it listens.

use std::time::{Duration, Instant};

use super::Supervisor;
use super::container::Container;

/// Between looks; each is twice as long as the one before.
const PAUSE: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

/// A signal that was dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    signal: i32,
    pub at: Instant,
    pause: Duration,
}

impl Container {
    /// Whether the first process would not notice the signal, or end of it at once.
    fn is_deaf(&self, signal: i32) -> bool {
        let path = format!("/proc/{}/status", self.status.pid);
        std::fs::read_to_string(path).is_ok_and(|status| drops(&status, signal))
    }
}

impl Supervisor {
    /// Sends a stop signal, and again if nobody listens yet.
    pub(super) fn send_until_heard(&mut self, key: u64, signal: i32, by: &str) {
        let is_deaf = self.containers.get(&key).is_some_and(|c| c.is_deaf(signal));
        // It may have ended meanwhile, which is what is wanted.
        let _ = self.send_signal(key, signal, by);
        if is_deaf && let Some(container) = self.containers.get_mut(&key) {
            container.again = Some(Again {
                signal,
                at: Instant::now() + PAUSE[0],
                pause: PAUSE[0],
            });
        }
    }

    /// Looks whether it listens by now.
    pub(super) fn tell_again(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(again) = container.again else {
            return;
        };
        if container.is_deaf(again.signal) {
            let pause = (again.pause * 2).min(PAUSE[1]);
            container.again = Some(Again {
                at: Instant::now() + pause,
                pause,
                ..again
            });
            return;
        }
        container.again = None;
        let by = container.killer.clone();
        // As above.
        let _ = self.send_signal(key, again.signal, &by);
    }
}

/// Whether a first process with that `/proc/PID/status` has a signal neither caught nor blocked
/// nor ignored on purpose.
fn drops(status: &str, signal: i32) -> bool {
    let Some(bit) = signal
        .checked_sub(1)
        .and_then(|n| 1_u64.checked_shl(n.cast_unsigned()))
    else {
        return false;
    };
    let has = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name));
        let mask = line.and_then(|l| u64::from_str_radix(l.trim(), 16).ok());
        // What cannot be read is not sent twice.
        mask.is_none_or(|mask| mask & bit != 0)
    };
    !["SigBlk:", "SigIgn:", "SigCgt:"].into_iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::drops;

    #[test]
    fn who_does_not_listen() {
        let status = "SigBlk:\t0000000000000200\nSigIgn:\t0000000000001000\n\
                      SigCgt:\t0000000000004000\n";
        // SIGTERM is caught, SIGUSR1 blocked, SIGPIPE ignored; nobody has SIGQUIT.
        let table = [(15, false), (10, false), (13, false), (3, true), (0, false)];
        for (signal, dropped) in table {
            assert_eq!(drops(status, signal), dropped, "{signal}");
        }
        assert!(!drops("", 15));
    }
}

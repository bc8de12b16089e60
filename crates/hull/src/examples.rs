//! What each `--help` ends with: command lines to begin with.

/// The examples of a command; of the program itself for an empty name.
pub fn of(command: &str) -> &'static str {
    match command {
        "" => PROGRAM,
        "checkpoint" => CHECKPOINT,
        "create" => CREATE,
        "delete" => DELETE,
        "events" => EVENTS,
        "exec" => EXEC,
        "features" => FEATURES,
        "kill" => KILL,
        "list" => LIST,
        "pause" | "resume" => PAUSE,
        "ps" => PS,
        "recvtty" => RECVTTY,
        "restore" => RESTORE,
        "run" => RUN,
        "selftest" => SELFTEST,
        "spec" => SPEC,
        "start" => START,
        "state" => STATE,
        "update" => UPDATE,
        _ => "",
    }
}

const PROGRAM: &str = "\
Examples:
  hull spec --bundle /srv/web
      a config.json for the root file system in /srv/web/rootfs
  hull run --bundle /srv/web web
      a container of that
  hull list
      all containers
  hull exec -t web sh
      a shell in one";
const CHECKPOINT: &str = "\
Examples:
  hull checkpoint --image-path /var/tmp/web web
      write it down, and end it
  hull checkpoint --leave-running --image-path /var/tmp/web web
      write it down, and let it run on";
const CREATE: &str = "\
Examples:
  hull create --bundle /srv/web web
      everything but the program, which waits for `hull start web`
  hull create --console-socket /run/tty.sock --pid-file web.pid web
      its terminal to a socket, its process id to a file";
const DELETE: &str = "\
Examples:
  hull delete web
      one that has ended
  hull delete --force web
      kill it before if it runs; no error if there is none";
const EVENTS: &str = "\
Examples:
  hull events --stats web
      the figures of one moment, as JSON
  hull events --interval 1s web
      every second, and each kill for lack of memory";
const EXEC: &str = "\
Examples:
  hull exec -t web sh
      a shell with a terminal
  hull exec --user 1000:1000 --cwd /srv --env DEBUG=1 web ./check
      as another user, elsewhere";
const FEATURES: &str = "\
Examples:
  hull features
      namespaces, capabilities, mount options, … that this build knows, as JSON";
const KILL: &str = "\
Examples:
  hull kill web
      SIGTERM to its first process
  hull kill web KILL
      SIGKILL
  hull kill --all web HUP
      SIGHUP to all of its processes";
const LIST: &str = "\
Examples:
  hull list
      a table
  hull list --quiet
      only the ids
  hull --root /run/user/1000/hull list --format json
      those of another state root, for programs";
const PAUSE: &str = "\
Examples:
  hull pause web
      freeze all of its processes
  hull resume web
      and thaw them";
const PS: &str = "\
Examples:
  hull ps web
      as ps(1) shows them
  hull ps --format json web
      only the process ids";
const RECVTTY: &str = "\
Examples:
  hull recvtty /run/tty.sock
      be the terminal of a container created with --console-socket /run/tty.sock";
const RESTORE: &str = "\
Examples:
  hull restore --image-path /var/tmp/web --bundle /srv/web web
      go on where `hull checkpoint` stopped it
  hull restore --detach --image-path /var/tmp/web --bundle /srv/web web
      in the background";
const RUN: &str = "\
Examples:
  hull run web
      the bundle in this directory; its exit code is ours
  hull run --bundle /srv/web --detach --pid-file web.pid web
      in the background";
const SELFTEST: &str = "\
Examples:
  hull selftest --escape
      a table of ways out of a container, and whether they are held";
const SPEC: &str = "\
Examples:
  hull spec
      a config.json in this directory
  hull spec --rootless --bundle /srv/web
      for a user without privileges, elsewhere";
const START: &str = "\
Examples:
  hull start web
      run the program of a created container";
const STATE: &str = "\
Examples:
  hull state web
      its status, process id and bundle, as JSON";
const UPDATE: &str = "\
Examples:
  hull update --memory 512M --pids-limit 100 web
      other limits
  hull update --resources limits.json web
      those of a file in the form of the specification's linux.resources";

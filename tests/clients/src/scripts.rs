//! What the containers run.

/// A process that says when it has started and ends when it is told to.
pub const PATIENT: &str = "echo started; trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done";

/// Prints the memory limit as the container sees it, on cgroup v1 or v2.
pub const SHOW_MEMORY_LIMIT: &str = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null \
     || cat /sys/fs/cgroup/memory.max";

/// Takes memory without end: a string that doubles.
pub const HOG: &str = "awk 'BEGIN { s = \"0123456789abcdef\"; while (1) s = s s }'";

/// Runs more processes than a limit of ten tasks lets it.
pub const TWENTY_TASKS: &str = "for i in $(seq 20); do sleep 30 & done; echo all; kill $(jobs -p)";

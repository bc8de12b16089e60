//! A small valid configuration to change.

#![allow(dead_code, reason = "no test uses all of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by it"
)]

use std::path::Path;

use serde_json::{Value, json};
use spec::Plan;

/// The smallest configuration that uses most sections.
pub fn config() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}
    })
}

/// Makes a plan of any JSON value.
pub fn plan_of(config: &Value) -> Result<(Plan, Vec<String>), spec::Error> {
    let bytes = serde_json::to_vec(config).unwrap();
    Plan::new(&spec::parse_config(&bytes)?, Path::new("/bundle"))
}

/// The plan of the configuration after a change.
pub fn plan(change: impl FnOnce(&mut Value)) -> (Plan, Vec<String>) {
    let mut config = config();
    change(&mut config);
    plan_of(&config).unwrap_or_else(|e| panic!("{e}\n{config:#}"))
}

/// Why the configuration is refused after a change.
pub fn refusal(change: impl FnOnce(&mut Value)) -> String {
    let mut config = config();
    change(&mut config);
    let message = plan_of(&config).expect_err("accepted").to_string();
    assert!(!message.contains('\n'), "one line: {message:?}");
    message
}

/// Merges `change` into `config`: objects by key, anything else replaces.
pub fn merge(config: &mut Value, change: &Value) {
    match (config, change) {
        (Value::Object(to), Value::Object(from)) => {
            for (key, value) in from {
                merge(to.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (to, from) => *to = from.clone(),
    }
}

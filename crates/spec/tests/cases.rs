//! `tests/cases/config.txt`: changes to a valid configuration, and what is said of them.

mod common;

use common::{config, merge, plan_of, refusal};
use serde_json::{Value, json};

const CASES: &str = include_str!("cases/config.txt");

#[test]
fn every_case_has_the_outcome_that_stands_beside_it() {
    let mut wrong = Vec::new();
    for (number, line) in CASES.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (change, want) = match line.rsplit_once(" => ") {
            Some((change, want)) => (change, Some(want)),
            None => (line, None),
        };
        let mut config = config();
        merge(&mut config, &serde_json::from_str(change).unwrap());
        let got = plan_of(&config).err().map(|e| e.to_string());
        let right = match (&got, want) {
            (Some(got), Some(want)) => got.starts_with(want) && !got.contains('\n'),
            (got, want) => got.is_none() && want.is_none(),
        };
        if !right {
            let got = got.unwrap_or_else(|| "accepted".to_owned());
            wrong.push(format!("line {}: {change}\n  got {got}", number + 1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_map_has_at_most_as_many_lines_as_the_kernel_takes() {
    let map = |lines: u32| -> Value {
        let line = |i| json!({"containerID": i, "hostID": i, "size": 1});
        (0..lines).map(line).collect()
    };
    let change = |lines| {
        json!({"linux": {
            "namespaces": [{"type": "mount"}, {"type": "user"}],
            "uidMappings": map(lines), "gidMappings": map(1)
        }})
    };
    let message = refusal(|config| merge(config, &change(341)));
    assert_eq!(message, "linux.uidMappings 341: at most 340 lines");
    common::plan(|config| merge(config, &change(340)));
}

#[test]
fn a_process_has_at_most_as_many_groups_as_the_kernel_takes() {
    let gids: Vec<u32> = (0..65_537).collect();
    let message = refusal(|config| config["process"]["user"]["additionalGids"] = json!(gids));
    assert_eq!(
        message,
        "process.user.additionalGids 65537: at most 65536 groups"
    );
}

//! Any JSON-shaped change to a valid document is taken or refused with one line; it never
//! panics, and what is taken is sound.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "../../../fuzz/checks.rs"]
mod checks;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

const CONFIG: &str = include_str!("../../../fuzz/corpus/config/full.json");

/// Values at the edges of what fields take, and words of other fields.
fn leaf() -> impl Strategy<Value = Value> {
    let numbers = select(vec![
        json!(0),
        json!(-1),
        json!(1),
        json!(7),
        json!(65_536),
        json!(u32::MAX),
        json!(u32::MAX - 1),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1.5),
        json!(1e300),
    ]);
    let words = select(vec![
        "",
        "/",
        "..",
        "/..",
        "a/../..",
        "\0",
        "a\nb",
        "=",
        "=x",
        "-1",
        "0-",
        "@",
        "%d",
        "user",
        "mount",
        "bind",
        "rbind",
        "idmap",
        "idmap=",
        "idmap=uids=@4294967295-4294967295-2",
        "ro",
        "ratime",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_ALLOW",
        "CAP_SYS_ADMIN",
        "RLIMIT_AS",
        "MPOL_DEFAULT",
        "SCHED_ISO",
        "cgroup2",
        "tmpfs",
        "c",
        "a",
        "kernel.core_pattern",
        "é",
        "\u{202e}",
    ]);
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        numbers,
        any::<i64>().prop_map(Value::from),
        words.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(2, 12, 4, |inner| {
        let key = select(vec!["type", "path", "size", "limit", "net.a", "", "x\ny"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.prop_map(str::to_owned), inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// One change at one place.
#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Remove,
    Insert(Value),
    Double,
}

fn change() -> impl Strategy<Value = (Index, Change)> {
    let change = prop_oneof![
        4 => value().prop_map(Change::Replace),
        2 => Just(Change::Remove),
        1 => value().prop_map(Change::Insert),
        1 => Just(Change::Double),
    ];
    (any::<Index>(), change)
}

/// JSON pointers of everything in a document.
fn places(value: &Value, here: &str, out: &mut Vec<String>) {
    out.push(here.to_owned());
    match value {
        Value::Array(list) => {
            for (i, value) in list.iter().enumerate() {
                places(value, &format!("{here}/{i}"), out);
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{here}/{key}"), out);
            }
        }
        _ => {}
    }
}

fn apply(document: &mut Value, at: Index, change: Change) {
    let mut all = Vec::new();
    places(document, "", &mut all);
    let place = at.get(&all);
    let target = document.pointer_mut(place).unwrap();
    match (change, target) {
        (Change::Replace(value), target) => *target = value,
        (Change::Insert(value), Value::Array(list)) => list.push(value),
        (Change::Double, Value::Array(list)) => list.extend(list.clone()),
        (Change::Insert(value), Value::Object(map)) => {
            map.insert("net.b".to_owned(), value);
        }
        (Change::Remove, _) => {
            let Some((parent, last)) = place.rsplit_once('/') else {
                return;
            };
            match document.pointer_mut(parent).unwrap() {
                Value::Array(list) => {
                    list.remove(last.parse().unwrap());
                }
                Value::Object(map) => {
                    map.remove(&last.replace("~1", "/").replace("~0", "~"));
                }
                _ => {}
            }
        }
        _ => {}
    }
}

fn mutated(mut document: Value, changes: Vec<(Index, Change)>) -> Vec<u8> {
    for (at, change) in changes {
        apply(&mut document, at, change);
    }
    serde_json::to_vec(&document).unwrap()
}

fn config() -> Value {
    serde_json::from_str(CONFIG).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn configurations(changes in prop::collection::vec(change(), 1..5)) {
        checks::config(&mutated(config(), changes));
    }

    #[test]
    fn processes(changes in prop::collection::vec(change(), 1..4)) {
        checks::process(&mutated(config()["process"].take(), changes));
    }

    #[test]
    fn resources(changes in prop::collection::vec(change(), 1..4)) {
        checks::resources(&mutated(config()["linux"]["resources"].take(), changes));
    }

    #[test]
    fn damaged_text(at in any::<Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = CONFIG.as_bytes().to_vec();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        checks::config(&bytes);
    }
}

#[test]
fn removing_any_one_thing_leaves_a_document_that_is_taken_or_refused() {
    let mut all = Vec::new();
    places(&config(), "", &mut all);
    let mut taken = 0;
    for place in &all {
        let mut document = config();
        *document.pointer_mut(place).unwrap() = Value::Null;
        taken += usize::from(checks::config(&serde_json::to_vec(&document).unwrap()).is_some());
    }
    // Most fields are optional: the test would show nothing if nearly all were refused.
    assert!(taken * 2 > all.len(), "{taken} of {}", all.len());
}

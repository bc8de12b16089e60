use cri_api::v1;
use serde_json::{Value, json};

use super::{from_json, json_schema, to_json};

fn container(json: &Value) -> (v1::ContainerConfig, Vec<String>) {
    from_json("ContainerConfig", json).expect("a container")
}

/// Both spellings, numbers and names, as files in the field have them.
#[test]
fn files_as_people_write_them() {
    let (snake, remarks) = container(&json!({
        "metadata": {"name": "web", "attempt": 1},
        "image": {"image": "nginx"},
        "command": ["sh"],
        "log_path": "web.log",
        "envs": [{"key": "A", "value": "b"}],
        "mounts": [{"container_path": "/x", "host_path": "/y", "propagation": 2, "readonly": true}],
        "labels": {"a": "b", "n": 1},
        "stop_signal": "SIGINT",
        "CDI_devices": [{"name": "v/d=1"}],
        "linux": {
            "resources": {"memory_limit_in_bytes": 1_048_576, "cpu_quota": -1, "unified": {"x": "y"}},
            "security_context": {
                "namespace_options": {"pid": "CONTAINER", "network": 2},
                "run_as_user": {"value": 1000},
                "supplemental_groups": [1, 2_147_483_648_u64],
                "seccomp": {"profile_type": "Localhost", "localhost_ref": "/p"}
            }
        }
    }));
    assert!(remarks.is_empty(), "{remarks:?}");
    let (camel, _) = container(&json!({
        "metadata": {"name": "web", "attempt": 1},
        "image": {"image": "nginx"},
        "command": ["sh"],
        "logPath": "web.log",
        "envs": [{"key": "A", "value": "b"}],
        "mounts": [{"containerPath": "/x", "hostPath": "/y",
            "propagation": "PROPAGATION_BIDIRECTIONAL", "readonly": true}],
        "labels": {"a": "b", "n": "1"},
        "stopSignal": 10,
        "CDIDevices": [{"name": "v/d=1"}],
        "linux": {
            "resources": {"memoryLimitInBytes": "1048576", "cpuQuota": "-1", "unified": {"x": "y"}},
            "securityContext": {
                "namespaceOptions": {"pid": 1, "network": "NODE"},
                "runAsUser": {"value": "1000"},
                "supplementalGroups": ["1", "2147483648"],
                "seccomp": {"profileType": 2, "localhostRef": "/p"}
            }
        }
    }));
    assert_eq!(snake, camel);
    assert_eq!(snake.stop_signal(), v1::Signal::Sigint);
    let linux = snake.linux.expect("linux");
    assert_eq!(linux.resources.expect("resources").cpu_quota, -1);
    let security = linux.security_context.expect("security");
    assert_eq!(security.supplemental_groups, [1, 2_147_483_648]);
}

/// What is written is read back as the same message.
#[test]
fn survives_json() {
    let status = v1::ContainerStatus {
        id: "abc".to_owned(),
        state: v1::ContainerState::ContainerExited.into(),
        created_at: -5,
        exit_code: -1,
        labels: [("a".to_owned(), "b".to_owned())].into(),
        mounts: vec![v1::Mount::default(), v1::Mount::default()],
        user: Some(v1::ContainerUser {
            linux: Some(v1::LinuxContainerUser {
                uid: 7,
                gid: i64::MAX,
                supplemental_groups: vec![1, -2, 3],
            }),
        }),
        ..v1::ContainerStatus::default()
    };
    let json = to_json("ContainerStatus", &status).expect("json");
    assert_eq!(json["state"], "CONTAINER_EXITED");
    assert_eq!(json["createdAt"], "-5");
    assert_eq!(json["exitCode"], -1);
    assert_eq!(json["mounts"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["stopSignal"], "RUNTIME_DEFAULT");
    assert_eq!(json.get("image"), None);
    assert_eq!(json["annotations"], json!({}));
    let (back, remarks) = from_json::<v1::ContainerStatus>("ContainerStatus", &json).expect("read");
    assert_eq!((back, remarks.len()), (status, 0));

    let psi = v1::PsiData {
        avg10: 1.5,
        total: u64::MAX,
        ..v1::PsiData::default()
    };
    let json = to_json("PsiData", &psi).expect("json");
    assert_eq!(json["Avg10"], 1.5);
    assert_eq!(json["Total"], u64::MAX.to_string());
    let (back, _) = from_json::<v1::PsiData>("PsiData", &json).expect("read");
    assert_eq!(back, psi);
}

/// Every mistake names its place.
#[test]
fn mistakes() {
    let table = [
        (json!([]), "document: no object but []"),
        (
            json!({"metadata": {"attempt": -1}}),
            "metadata.attempt: -1 does not fit",
        ),
        (
            json!({"mounts": [{}, {"propagation": "SHARED"}]}),
            "mounts.1.propagation: SHARED is none of PROPAGATION_PRIVATE, \
             PROPAGATION_HOST_TO_CONTAINER, PROPAGATION_BIDIRECTIONAL",
        ),
        (json!({"command": "sh"}), "command: no list but \"sh\""),
        (json!({"tty": "yes"}), "tty: \"yes\" does not fit"),
        (json!({"labels": {"a": []}}), "labels.a: no text but []"),
    ];
    for (json, message) in table {
        let error = from_json::<v1::ContainerConfig>("ContainerConfig", &json);
        assert_eq!(error.expect_err("a mistake").to_string(), message);
    }
    let (_, remarks) = container(&json!({"metadata": {"nam": "x"}}));
    assert_eq!(remarks, ["metadata.nam: no such field; ignored"]);
}

/// The schema knows what it points to.
#[test]
fn schema_is_closed() {
    for name in ["PodSandboxConfig", "ContainerConfig"] {
        let schema = json_schema(name);
        let text = schema.to_string();
        for reference in text.split("\"$ref\":\"#/$defs/").skip(1) {
            let target = reference.split('"').next().expect("a name");
            assert!(
                schema["$defs"][target]["properties"].is_object(),
                "{target}"
            );
        }
        assert!(!schema["$defs"][name]["properties"]["metadata"].is_null());
    }
}

use super::*;

#[test]
fn command_lines_are_sound() {
    crictl().debug_assert();
    crate::command().debug_assert();
}

/// Which `run` is meant.
#[test]
fn two_programs_named_run() {
    let table = [
        ("hullctl run host -- true", false),
        ("hullctl run ./bundle", false),
        ("hullctl run host -- cat a.json", false),
        ("hullctl run debian diff a.json b.json", false),
        ("hullctl run -r runc --creds a:b c.json p.json", true),
        ("hullctl container run a.json b.json", false),
        ("hullctl run c.json p.json", true),
        ("hullctl -r /s run --no-pull c.yaml p.yml", true),
        ("hullctl run jsonschema --pod", true),
        ("hullctl cri run c.json p.json", false),
    ];
    for (line, redirected) in table {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let after = redirect_run(words.clone());
        assert_eq!(after.len() > words.len(), redirected, "{line}");
    }
}

/// Command lines as crictl's users type them.
#[test]
fn crictl_lines() {
    let lines = [
        "crictl -r unix:///s -i /t -t 5s -D ps -a --name x -p pod -s running --label a=b -q -o json",
        "crictl ps -aq",
        "crictl ps -l --no-trunc -r --namespace n -v -n 3",
        "crictl pods -s ready --label a=b -l -n 2 --no-trunc -v -q -o yaml --name a --namespace b --id c",
        "crictl images -q --digests --no-trunc --pinned -f dangling=true -v -o json nginx",
        "crictl img",
        "crictl exec -it abc sh -c ls",
        "crictl exec -s --timeout 5 abc ls -la",
        "crictl exec -i -t -r websocket --tls-sni x --tls-ca a --tls-cert b --tls-key c abc sh",
        "crictl exec --name web -e -x -q date",
        "crictl attach -it -r spdy abc",
        "crictl logs -f --tail 5 --since 10m -t -s stderr -p --limit-bytes 100 -r abc",
        "crictl port-forward -r websocket pod 8080:80 9090",
        "crictl pull --creds a:b --pod-config p.json --annotation a=b --pull-timeout 5s nginx:latest",
        "crictl pull -u me nginx",
        "crictl rmi -a",
        "crictl rmi -q",
        "crictl run --no-pull -r runc --cancel-timeout 5s c.json p.json",
        "crictl create --with-pull --auth x pod c.json p.json",
        "crictl runp -r runc -T 5s p.json",
        "crictl stop -t 5 a b",
        "crictl stop -a",
        "crictl rm -fak",
        "crictl rmp -fa",
        "crictl inspect -o go-template --template {{.status.id}} abc",
        "crictl inspectp -q --latest",
        "crictl inspecti -o table --name x",
        "crictl update --cpu-period 1 --cpu-quota -1 --cpu-share 2 --memory 3 --cpuset-cpus 0 \
         --cpuset-mems 0 --oom-score-adj -5 abc",
        "crictl stats -a --id x -p y --label a=b -o json -s 2 -w abc",
        "crictl statsp --label a=b -w",
        "crictl metricsp -o yaml -w",
        "crictl metricdescs",
        "crictl checkpoint -e /x.tar abc",
        "crictl events -o json",
        "crictl info -o yaml -q",
        "crictl imagefsinfo -o table",
        "crictl config --set timeout=5",
        "crictl config --get timeout",
        "crictl config timeout 5",
        "crictl config --list",
        "crictl runtime-config",
        "crictl update-runtime-config --pod-cidr 10.0.0.0/8",
        "crictl completion bash",
        "crictl version",
    ];
    for line in lines {
        let parsed = crictl().try_get_matches_from(line.split_whitespace());
        assert!(parsed.is_ok(), "{line}: {}", parsed.expect_err("refused"));
    }
}

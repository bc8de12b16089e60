//! CNI 1.1.0 from the runtime's side: ADD, DEL, CHECK, STATUS, GC, VERSION.

mod answer;
mod conf;
mod exec;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::{Map, Value, json};

pub(crate) use answer::{refusal, setup};
pub(crate) use conf::{NetworkList, load};

use crate::attachment::{Attachment, Setup};
use crate::error::Doing as _;
use crate::{CniConfig, Error, Result};
use conf::{VERSIONS, kind_of, place};

/// The first version with CHECK and with a result for DEL.
const WITH_CHECK: usize = 4;
/// The first version with GC and STATUS.
const WITH_GC: usize = 6;

/// Runs plugins.
#[derive(Debug)]
pub(crate) struct Client {
    config: CniConfig,
    /// Versions that programs speak, as they said.
    spoken: Mutex<Vec<(PathBuf, std::time::SystemTime, Vec<usize>)>>,
}

/// What goes to a plugin besides its configuration.
#[derive(Clone, Copy, Debug)]
struct Call<'a> {
    command: &'a str,
    attachment: Option<&'a Attachment>,
    /// Whether the namespace is there to be worked on.
    netns: bool,
}

impl Client {
    pub(crate) fn new(config: CniConfig) -> Self {
        Self {
            config,
            spoken: Mutex::default(),
        }
    }

    /// Attaches a pod: each plugin gets the result of the one before. Returns the last result.
    pub(crate) fn add(&self, list: &NetworkList, attachment: &Attachment) -> Result<Value> {
        let version = self.version(list)?;
        let call = Call {
            command: "ADD",
            attachment: Some(attachment),
            netns: true,
        };
        let mut result = None;
        for plugin in &list.plugins {
            let input = self.input(list, plugin, version, attachment, result.as_ref())?;
            let out = self.call(list, plugin, call, &input)?;
            let value: Value = serde_json::from_slice(&out).map_err(|source| {
                let out = answer::one_line(&String::from_utf8_lossy(&out));
                Error::Json {
                    what: format!("the result of CNI plugin {}: {out:?}", name_of(plugin)),
                    source,
                }
            })?;
            result = Some(value);
        }
        result.ok_or_else(|| Error::Invalid("no plugins".into()))
    }

    /// What a pod got by a result.
    pub(crate) fn setup(&self, result: &Value, interface: &str) -> Result<Setup> {
        setup(result, interface).map_err(|reason| Error::Cni {
            code: 0,
            message: format!("CNI: {reason}"),
        })
    }

    /// Detaches a pod: plugins in reverse order, all of them, whatever one of them says.
    pub(crate) fn del(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        result: Option<&Value>,
        netns: bool,
    ) -> Vec<Error> {
        let version = match self.version(list) {
            Ok(version) => version,
            Err(error) => return vec![error],
        };
        let result = result.filter(|_| version >= WITH_CHECK);
        let call = Call {
            command: "DEL",
            attachment: Some(attachment),
            netns,
        };
        let one = |plugin: &Map<String, Value>| {
            let input = self.input(list, plugin, version, attachment, result)?;
            self.call(list, plugin, call, &input)
        };
        let plugins = list.plugins.iter().rev();
        plugins.filter_map(|plugin| one(plugin).err()).collect()
    }

    /// Asks the plugins whether an attachment is as they made it.
    pub(crate) fn check(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        result: Option<&Value>,
    ) -> Result<()> {
        let version = self.version(list)?;
        if list.disable_check || version < WITH_CHECK {
            return Ok(());
        }
        let call = Call {
            command: "CHECK",
            attachment: Some(attachment),
            netns: true,
        };
        for plugin in &list.plugins {
            let input = self.input(list, plugin, version, attachment, result)?;
            self.call(list, plugin, call, &input)?;
        }
        Ok(())
    }

    /// Asks the plugins whether they can take pods; before CNI 1.1, whether they are there.
    pub(crate) fn status(&self, list: &NetworkList) -> Result<()> {
        let version = self.version(list)?;
        if version < WITH_GC {
            return Ok(());
        }
        let call = Call {
            command: "STATUS",
            attachment: None,
            netns: false,
        };
        for plugin in &list.plugins {
            let input = base(list, plugin, version);
            self.call(list, plugin, call, &input)?;
        }
        Ok(())
    }

    /// Tells the plugins which attachments there are: the rest is theirs to clean up.
    pub(crate) fn gc(&self, list: &NetworkList, valid: &[(String, String)]) -> Vec<Error> {
        let version = match self.version(list) {
            Ok(version) => version,
            Err(error) => return vec![error],
        };
        if list.disable_gc || version < WITH_GC {
            return Vec::new();
        }
        let call = Call {
            command: "GC",
            attachment: None,
            netns: false,
        };
        let valid: Vec<Value> = valid
            .iter()
            .map(|(id, interface)| json!({"containerID": id, "ifname": interface}))
            .collect();
        let mut errors = Vec::new();
        for plugin in &list.plugins {
            let mut input = base(list, plugin, version);
            input.insert("cni.dev/valid-attachments".into(), json!(valid));
            errors.extend(self.call(list, plugin, call, &input).err());
        }
        errors
    }

    /// The newest version that the list and all its plugins speak.
    fn version(&self, list: &NetworkList) -> Result<usize> {
        if let [only] = list.versions.as_slice() {
            for plugin in &list.plugins {
                self.program(plugin)?;
            }
            return Ok(*only);
        }
        let mut common = list.versions.clone();
        for plugin in &list.plugins {
            let spoken = self.spoken_by(plugin)?;
            common.retain(|version| spoken.contains(version));
        }
        common.pop().ok_or_else(|| Error::Cni {
            code: 1,
            message: format!(
                "CNI network {}: its plugins speak none of the versions that it offers in common",
                list.name
            ),
        })
    }

    /// Asks a program for its versions, once.
    fn spoken_by(&self, plugin: &Map<String, Value>) -> Result<Vec<usize>> {
        let program = self.program(plugin)?;
        let changed = std::fs::metadata(&program).and_then(|m| m.modified()).ok();
        let changed = changed.unwrap_or(std::time::UNIX_EPOCH);
        let mut known = self
            .spoken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let same = known
            .iter()
            .find(|(p, c, _)| *p == program && *c == changed);
        if let Some((_, _, versions)) = same {
            return Ok(versions.clone());
        }
        let list = NetworkList {
            name: "version".into(),
            versions: Vec::new(),
            disable_check: true,
            disable_gc: true,
            plugins: Vec::new(),
        };
        let call = Call {
            command: "VERSION",
            attachment: None,
            netns: false,
        };
        let newest = VERSIONS.last().copied().unwrap_or_default();
        let input = [("cniVersion".to_owned(), json!(newest))]
            .into_iter()
            .collect();
        let out = self.call(&list, plugin, call, &input)?;
        let answer: Value = serde_json::from_slice(&out).map_err(|source| Error::Json {
            what: format!("the versions of CNI plugin {}", name_of(plugin)),
            source,
        })?;
        let texts = answer.get("supportedVersions").and_then(Value::as_array);
        let texts = texts.into_iter().flatten().filter_map(Value::as_str);
        let versions: Vec<usize> = texts.filter_map(place).collect();
        known.retain(|(p, _, _)| *p != program);
        known.push((program, changed, versions.clone()));
        Ok(versions)
    }

    /// A plugin's configuration for a pod.
    fn input(
        &self,
        list: &NetworkList,
        plugin: &Map<String, Value>,
        version: usize,
        attachment: &Attachment,
        result: Option<&Value>,
    ) -> Result<Map<String, Value>> {
        let mut input = base(list, plugin, version);
        let runtime = self.runtime_config(plugin, attachment);
        if !runtime.is_empty() {
            input.insert("runtimeConfig".into(), Value::Object(runtime));
        }
        if let Some(result) = result {
            input.insert("prevResult".into(), result.clone());
        }
        Ok(input)
    }

    /// What a plugin says that it can take, of what we have.
    fn runtime_config(&self, plugin: &Map<String, Value>, a: &Attachment) -> Map<String, Value> {
        let wanted = |key: &str| {
            let capabilities = plugin.get("capabilities");
            capabilities.and_then(|list| list.get(key)) == Some(&Value::Bool(true))
        };
        let mut values: Vec<(&str, Value)> = Vec::new();
        if !a.ports.is_empty() {
            values.push(("portMappings", port_mappings(a)));
        }
        if a.bandwidth != crate::Bandwidth::default() {
            values.push(("bandwidth", bandwidth(a)));
        }
        if a.dns != crate::Dns::default() {
            let dns = json!({"servers": a.dns.servers, "searches": a.dns.searches, "options": a.dns.options});
            values.push(("dns", dns));
        }
        if !a.ips.is_empty() {
            values.push(("ips", json!(a.ips)));
        }
        if let Some(mac) = a.mac {
            values.push(("mac", json!(mac.to_string())));
        }
        if let Some(cgroup) = &a.cgroup {
            values.push(("cgroupPath", json!(cgroup)));
        }
        if !self.config.ip_ranges.is_empty() {
            let range = |net| json!([{"subnet": net}]);
            let ranges: Vec<Value> = self.config.ip_ranges.iter().map(range).collect();
            values.push(("ipRanges", json!(ranges)));
        }
        let values = values.into_iter().filter(|(key, _)| wanted(key));
        values.map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn program(&self, plugin: &Map<String, Value>) -> Result<PathBuf> {
        let kind = kind_of(plugin).map_err(Error::Invalid)?;
        let mut places = self.config.bin_dirs.iter().map(|dir| dir.join(kind));
        places.find(|path| path.is_file()).ok_or_else(|| {
            let dirs: Vec<String> = self
                .config
                .bin_dirs
                .iter()
                .map(|d| d.display().to_string())
                .collect();
            Error::Cni {
                code: 0,
                message: format!("CNI plugin {kind} is not in {}", dirs.join(", ")),
            }
        })
    }

    /// Runs a plugin and returns what it printed.
    fn call(
        &self,
        list: &NetworkList,
        plugin: &Map<String, Value>,
        call: Call<'_>,
        input: &Map<String, Value>,
    ) -> Result<Vec<u8>> {
        let program = self.program(plugin)?;
        let environment = self.environment(call)?;
        let input = serde_json::to_vec(input).map_err(|source| Error::Json {
            what: format!("the configuration of CNI plugin {}", name_of(plugin)),
            source,
        })?;
        let doing = || format!("CNI {} in network {}", call.command, list.name);
        let output =
            exec::run(&program, &environment, &input, self.config.timeout()).doing(doing)?;
        if output.status.success() {
            return Ok(output.out);
        }
        Err(failure(&program, &output)).doing(doing)
    }

    fn environment(&self, call: Call<'_>) -> Result<Vec<(&'static str, OsString)>> {
        let path = std::env::join_paths(&self.config.bin_dirs)
            .map_err(|error| Error::Invalid(format!("CNI's bin-dirs: {error}")))?;
        let mut list = vec![("CNI_COMMAND", call.command.into()), ("CNI_PATH", path)];
        if let Some(attachment) = call.attachment {
            let netns = call.netns.then(|| attachment.netns.clone());
            list.extend([
                ("CNI_CONTAINERID", attachment.id.clone().into()),
                ("CNI_NETNS", netns.unwrap_or_default().into()),
                ("CNI_IFNAME", attachment.interface.clone().into()),
                ("CNI_ARGS", arguments(attachment)?.into()),
            ]);
        }
        Ok(list)
    }
}

/// A plugin's configuration as the specification derives it from the list's.
fn base(list: &NetworkList, plugin: &Map<String, Value>, version: usize) -> Map<String, Value> {
    let mut input = plugin.clone();
    // What is for the runtime alone.
    for key in [
        "capabilities",
        "runtimeConfig",
        "prevResult",
        "cniVersions",
        "plugins",
    ] {
        input.remove(key);
    }
    input.insert("name".into(), json!(list.name));
    input.insert("cniVersion".into(), json!(VERSIONS.get(version)));
    input
}

fn name_of(plugin: &Map<String, Value>) -> &str {
    let name = plugin.get("type").and_then(Value::as_str);
    name.unwrap_or_default()
}

/// `CNI_ARGS`: pairs with semicolons between, so that no value may hold one.
fn arguments(attachment: &Attachment) -> Result<String> {
    let pod = &attachment.pod;
    if pod.name.is_empty() && pod.namespace.is_empty() {
        return Ok(String::new());
    }
    let pairs = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &pod.namespace),
        ("K8S_POD_NAME", &pod.name),
        ("K8S_POD_INFRA_CONTAINER_ID", &attachment.id),
        ("K8S_POD_UID", &pod.uid),
    ];
    let bad = |c: char| c == ';' || c == '=' || c.is_control();
    if let Some((key, value)) = pairs.iter().find(|(_, value)| value.contains(bad)) {
        return Err(Error::Invalid(format!(
            "{key} {value:?}: ';' and '=' cannot be said to a CNI plugin"
        )));
    }
    let pairs = pairs.iter().map(|(key, value)| format!("{key}={value}"));
    Ok(pairs.collect::<Vec<_>>().join(";"))
}

fn port_mappings(attachment: &Attachment) -> Value {
    let one = |mapping: &crate::PortMapping| {
        let host_ip = mapping.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
        let protocol = mapping.protocol.to_string();
        let pairs = mapping.pairs();
        pairs
            .map(|(host, pod)| {
                json!({"hostPort": host, "containerPort": pod, "protocol": protocol, "hostIP": host_ip})
            })
            .collect::<Vec<_>>()
    };
    attachment.ports.iter().flat_map(one).collect()
}

/// Rates in bits a second, bursts in bits: as much as the plugin can take.
fn bandwidth(attachment: &Attachment) -> Value {
    const BURST: u64 = i32::MAX as u64;
    let mut map = Map::new();
    for (rate, name) in [
        (attachment.bandwidth.ingress, "ingress"),
        (attachment.bandwidth.egress, "egress"),
    ] {
        if let Some(rate) = rate {
            map.insert(format!("{name}Rate"), json!(rate));
            map.insert(format!("{name}Burst"), json!(BURST));
        }
    }
    Value::Object(map)
}

/// Why a plugin failed: in its own words if it has some.
fn failure(program: &Path, output: &exec::Output) -> Error {
    let program = program.display();
    if let Some((code, words)) = refusal(&output.out) {
        return Error::Cni {
            code,
            message: format!("CNI plugin {program}: {words} (code {code})"),
        };
    }
    let said = [output.log.as_slice(), &output.out].concat();
    let said = answer::one_line(&String::from_utf8_lossy(&said));
    Error::Cni {
        code: 0,
        message: format!("CNI plugin {program}: {}: {said:?}", output.ending()),
    }
}

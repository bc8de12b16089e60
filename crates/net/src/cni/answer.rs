//! What plugins answer: results and errors.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::attachment::{Dns, Setup};

/// What of a plugin's message is shown.
const LONGEST: usize = 500;

/// Reads the final result of a list of plugins.
pub(crate) fn setup(result: &Value, interface: &str) -> Result<Setup, String> {
    let list = |key: &str| result.get(key).and_then(Value::as_array);
    let interfaces: Vec<&Value> = list("interfaces").into_iter().flatten().collect();
    let text = |value: &Value, key: &str| {
        let text = value.get(key).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let in_pod = |value: &&&Value| !text(value, "sandbox").is_empty();
    let link = interfaces
        .iter()
        .filter(in_pod)
        .find(|value| text(value, "name") == interface);
    // The bridge comes before the link that leads to the pod.
    let host = interfaces
        .iter()
        .rfind(|value| text(value, "sandbox").is_empty());
    let mut setup = Setup {
        interface: interface.to_owned(),
        host_interface: host.map(|value| text(value, "name")),
        mac: link.and_then(|value| text(value, "mac").parse().ok()),
        mtu: link.and_then(|value| value.get("mtu")?.as_u64()?.try_into().ok()),
        ips: Vec::new(),
        gateways: Vec::new(),
        dns: dns(result),
    };
    for entry in list("ips").into_iter().flatten() {
        let index = entry.get("interface").and_then(Value::as_u64);
        let index = index.and_then(|index| usize::try_from(index).ok());
        let elsewhere = index.and_then(|index| interfaces.get(index));
        if elsewhere.is_some_and(|value| text(value, "sandbox").is_empty()) {
            continue;
        }
        add(&mut setup, entry, "address")?;
    }
    // Before version 0.3.0 there was one of each kind.
    for entry in ["ip4", "ip6"].iter().filter_map(|key| result.get(key)) {
        add(&mut setup, entry, "ip")?;
    }
    Ok(setup)
}

fn add(setup: &mut Setup, entry: &Value, key: &str) -> Result<(), String> {
    let text = entry.get(key).and_then(Value::as_str).unwrap_or_default();
    let net: IpNet = text
        .parse()
        .map_err(|_| format!("address {} in its result", quoted(text)))?;
    setup.ips.push(net);
    let gateway = entry.get("gateway").and_then(Value::as_str);
    let gateway = gateway.and_then(|text| text.parse::<IpAddr>().ok());
    setup.gateways.extend(gateway);
    Ok(())
}

fn dns(result: &Value) -> Dns {
    let strings = |key: &str| {
        let list = result.get("dns").and_then(|dns| dns.get(key));
        let list = list.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|item| Some(item.as_str()?.to_owned()))
            .collect()
    };
    Dns {
        servers: strings("nameservers"),
        searches: strings("search"),
        options: strings("options"),
    }
}

/// The code and the words of an error; none if it is no error of CNI's.
pub(crate) fn refusal(out: &[u8]) -> Option<(u32, String)> {
    let value: Value = serde_json::from_slice(out).ok()?;
    let code = value.get("code")?.as_u64()?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let details = match text("details") {
        "" => String::new(),
        details => format!(" ({details})"),
    };
    let words = one_line(&format!("{}{details}", text("msg")));
    Some((u32::try_from(code).unwrap_or(u32::MAX), words))
}

/// Foreign text as part of a line of ours.
pub(super) fn one_line(text: &str) -> String {
    let words: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect();
    words.trim().to_owned()
}

fn quoted(text: &str) -> String {
    format!("{:?}", one_line(text))
}

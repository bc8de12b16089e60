//! What a container's seccomp profile says of a system call.

use spec::oci::{Spec, SyscallArg, SyscallRule};

/// The rules for it in words, with the arguments that they look at; none where only the default
/// speaks of it.
pub fn rules(config: &Spec, call: &str) -> Option<String> {
    let profile = config.linux.as_ref()?.seccomp.as_ref()?;
    let of_it = profile
        .syscalls
        .iter()
        .filter(|r| r.names.iter().any(|n| n == call));
    let rules: Vec<String> = of_it.map(rule).collect();
    if rules.is_empty() {
        return Some(format!(
            "{} for want of a rule",
            action(&profile.default_action)
        ));
    }
    Some(rules.join(", or "))
}

fn rule(rule: &SyscallRule) -> String {
    let conditions: Vec<String> = rule.args.iter().map(condition).collect();
    match conditions.is_empty() {
        true => action(&rule.action),
        false => format!("{} if {}", action(&rule.action), conditions.join(" and ")),
    }
}

fn action(word: &str) -> String {
    word.trim_start_matches("SCMP_ACT_")
        .to_ascii_lowercase()
        .replace('_', " ")
}

fn condition(arg: &SyscallArg) -> String {
    let (index, value) = (arg.index, arg.value);
    let sign = match arg.op.as_str() {
        "SCMP_CMP_EQ" => "=",
        "SCMP_CMP_NE" => "≠",
        "SCMP_CMP_LT" => "<",
        "SCMP_CMP_LE" => "≤",
        "SCMP_CMP_GT" => ">",
        "SCMP_CMP_GE" => "≥",
        _ => {
            let masked = arg.value_two;
            return format!("argument {index} & {value:#x} = {masked:#x}");
        }
    };
    format!("argument {index} {sign} {value:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_in_words() {
        let profile = r#"{"ociVersion":"1.2.0","linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},
            {"names":["personality","clone"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":0,"value":255,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}]},
            {"names":["mount"],"action":"SCMP_ACT_TRAP"}]}}}"#;
        let config = spec::parse_config(profile.as_bytes()).unwrap();
        for (call, want) in [
            (
                "personality",
                "allow if argument 0 = 0x8, or kill process if argument 0 & 0xff = 0x1",
            ),
            ("clone", "kill process if argument 0 & 0xff = 0x1"),
            ("mount", "trap"),
            ("reboot", "errno for want of a rule"),
        ] {
            assert_eq!(rules(&config, call).unwrap(), want);
        }
    }
}

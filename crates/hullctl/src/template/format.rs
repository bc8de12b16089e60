//! `printf`: Go's verbs for the values that a document has.

use serde_json::Value;

use super::value::{integer, number, print};

/// No wider or more precise than this: a width is input like any other.
const WIDEST: usize = 4096;

#[derive(Default)]
struct Flags {
    left: bool,
    zero: bool,
    plus: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

/// The text of a format and its arguments; a mistake shows in the text as Go shows it.
pub fn printf(format: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut rest = format;
    while let Some(i) = rest.find('%') {
        out.push_str(&rest[..i]);
        let (flags, verb, used) = directive(&rest[i + 1..]);
        rest = &rest[i + 1 + used..];
        match verb {
            Some('%') => out.push('%'),
            None => out.push_str("%!(NOVERB)"),
            Some(verb) => match args.next() {
                Some(arg) => out.push_str(&padded(&one(verb, &flags, arg), &flags, verb)),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
    }
    out.push_str(rest);
    let extra: Vec<String> = args.map(print).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn directive(text: &str) -> (Flags, Option<char>, usize) {
    let mut flags = Flags::default();
    let mut in_precision = false;
    for (i, c) in text.char_indices() {
        match c {
            '-' => flags.left = true,
            '+' => flags.plus = true,
            '#' => flags.sharp = true,
            ' ' => {}
            '0' if flags.width == 0 && !in_precision => flags.zero = true,
            '.' => {
                in_precision = true;
                flags.precision = Some(0);
            }
            '0'..='9' => {
                let digit = usize::from(u8::try_from(c).unwrap_or_default().wrapping_sub(b'0'));
                let target = match &mut flags.precision {
                    Some(precision) if in_precision => precision,
                    _ => &mut flags.width,
                };
                *target = (*target * 10 + digit).min(WIDEST);
            }
            verb => return (flags, Some(verb), i + verb.len_utf8()),
        }
    }
    (flags, None, text.len())
}

fn one(verb: char, flags: &Flags, arg: &Value) -> String {
    let signed = |text: String| {
        if flags.plus && !text.starts_with('-') {
            format!("+{text}")
        } else {
            text
        }
    };
    let wrong = || format!("%!{verb}({})", print(arg));
    match verb {
        'v' | 's' => {
            let text = print(arg);
            match flags.precision {
                Some(n) => text.chars().take(n).collect(),
                None => text,
            }
        }
        'q' => format!("{:?}", print(arg)),
        't' if arg.is_boolean() => print(arg),
        'd' => integer(arg).map_or_else(wrong, |n| signed(n.to_string())),
        'x' | 'X' => {
            let text = match (integer(arg), arg) {
                (Some(n), Value::Number(_)) => format!("{n:x}"),
                _ => print(arg).bytes().map(|b| format!("{b:02x}")).collect(),
            };
            let text = if flags.sharp {
                format!("0x{text}")
            } else {
                text
            };
            if verb == 'X' {
                text.to_uppercase()
            } else {
                text
            }
        }
        'o' => integer(arg).map_or_else(wrong, |n| format!("{n:o}")),
        'b' => integer(arg).map_or_else(wrong, |n| format!("{n:b}")),
        'f' | 'F' => number(arg).map_or_else(wrong, |n| {
            signed(format!("{n:.*}", flags.precision.unwrap_or(6)))
        }),
        'e' => number(arg).map_or_else(wrong, |n| format!("{n:e}")),
        'g' => number(arg).map_or_else(wrong, |n| signed(n.to_string())),
        'c' => integer(arg)
            .and_then(|n| u32::try_from(n).ok())
            .and_then(char::from_u32)
            .map_or_else(wrong, String::from),
        _ => wrong(),
    }
}

fn padded(text: &str, flags: &Flags, verb: char) -> String {
    let width = flags.width;
    if flags.left {
        return format!("{text:<width$}");
    }
    if flags.zero && matches!(verb, 'd' | 'f' | 'x' | 'X') {
        let (sign, digits) = match text.strip_prefix(['-', '+']) {
            Some(digits) => text.split_at(text.len() - digits.len()),
            None => ("", text),
        };
        let width = width.saturating_sub(sign.len());
        return format!("{sign}{digits:0>width$}");
    }
    format!("{text:>width$}")
}

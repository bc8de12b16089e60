//! The text form of values, as annotations `org.systemd.property.*` have it
//! (GVariant Text Format, GLib documentation). Pure.

use super::value::Value;
use super::wire::split;

/// Why a text is not a value.
pub(crate) type Unreadable = &'static str;

/// Deepest nesting of containers in a text.
const MAX_DEPTH: u32 = 16;

/// Reads one value.
pub(crate) fn parse(text: &str) -> Result<Value, Unreadable> {
    let mut p = Parser { left: text.trim() };
    let value = p.value(None, MAX_DEPTH)?;
    p.skip_space();
    if p.left.is_empty() {
        Ok(value)
    } else {
        Err("something follows the value")
    }
}

struct Parser<'a> {
    left: &'a str,
}

/// Words that say which type follows.
const KEYWORDS: [(&str, &str); 13] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("handle", "i"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

impl<'a> Parser<'a> {
    fn skip_space(&mut self) {
        self.left = self.left.trim_start();
    }

    fn eat(&mut self, c: char) -> bool {
        self.skip_space();
        match self.left.strip_prefix(c) {
            Some(rest) => {
                self.left = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char, otherwise: Unreadable) -> Result<(), Unreadable> {
        if self.eat(c) { Ok(()) } else { Err(otherwise) }
    }

    /// Takes as long as the test holds.
    fn word(&mut self, test: impl Fn(char) -> bool) -> &'a str {
        let end = self.left.find(|c| !test(c)).unwrap_or(self.left.len());
        let (word, rest) = self.left.split_at(end);
        self.left = rest;
        word
    }

    /// One value; `wanted` is its type where something has said so before.
    fn value(&mut self, wanted: Option<&str>, depth: u32) -> Result<Value, Unreadable> {
        let depth = depth.checked_sub(1).ok_or("nested too deeply")?;
        self.skip_space();
        match self.left.chars().next().ok_or("a value is missing")? {
            '@' => {
                self.eat('@');
                let (signature, _) = split(self.left, MAX_DEPTH)?;
                self.left = self.left.get(signature.len()..).unwrap_or_default();
                self.value(Some(signature), depth)
            }
            '\'' | '"' => text_as(self.string()?, wanted),
            '[' => self.array(wanted, depth),
            '(' => self.tuple(wanted, depth),
            '{' => self.dictionary(wanted, depth),
            '<' => {
                self.eat('<');
                let inner = self.value(None, depth)?;
                self.expect('>', "a variant does not end with >")?;
                Ok(Value::Variant(Box::new(inner)))
            }
            c if c.is_ascii_alphabetic() => self.keyword(wanted, depth),
            _ => {
                let digits = self.word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                number_as(digits, wanted)
            }
        }
    }

    fn keyword(&mut self, wanted: Option<&str>, depth: u32) -> Result<Value, Unreadable> {
        let word = self.word(|c| c.is_ascii_alphanumeric());
        match word {
            "true" | "false" => match wanted {
                None | Some("b") => Ok(Value::Bool(word == "true")),
                Some(_) => Err("a boolean where another type is due"),
            },
            _ => {
                let known = KEYWORDS.iter().find(|(k, _)| *k == word);
                let (_, signature) = known.ok_or("an unknown word")?;
                self.value(Some(signature), depth)
            }
        }
    }

    fn string(&mut self) -> Result<String, Unreadable> {
        let mut chars = self.left.chars();
        let quote = chars.next().ok_or("a string is missing")?;
        let mut text = String::new();
        loop {
            match chars.next().ok_or("a string does not end")? {
                c if c == quote => break,
                '\\' => text.push(match chars.next().ok_or("a string does not end")? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'v' => '\u{b}',
                    'u' => escaped(&mut chars, 4)?,
                    'U' => escaped(&mut chars, 8)?,
                    other => other,
                }),
                c => text.push(c),
            }
        }
        self.left = chars.as_str();
        Ok(text)
    }

    /// Elements have one type: that which is due, or the first element's.
    fn array(&mut self, wanted: Option<&str>, depth: u32) -> Result<Value, Unreadable> {
        self.eat('[');
        let mut element = match wanted {
            None => None,
            Some(s) => Some(
                s.strip_prefix('a')
                    .ok_or("an array where another type is due")?
                    .to_owned(),
            ),
        };
        let mut items = Vec::new();
        while !self.eat(']') {
            if !items.is_empty() {
                self.expect(',', "a comma is missing")?;
            }
            let item = self.value(element.as_deref(), depth)?;
            element.get_or_insert_with(|| item.signature());
            items.push(item);
        }
        let element = element.ok_or("an empty array needs a type")?;
        Ok(Value::Array(element, items))
    }

    fn tuple(&mut self, wanted: Option<&str>, depth: u32) -> Result<Value, Unreadable> {
        self.eat('(');
        let mut left = match wanted {
            None => None,
            Some(s) => {
                let inside = s.strip_prefix('(').and_then(|s| s.strip_suffix(')'));
                Some(inside.ok_or("a tuple where another type is due")?)
            }
        };
        let mut fields = Vec::new();
        while !self.eat(')') {
            if !fields.is_empty() {
                self.expect(',', "a comma is missing")?;
                if self.eat(')') {
                    break;
                }
            }
            let wanted = match left {
                None => None,
                Some(s) => {
                    let (one, rest) = split(s, MAX_DEPTH)?;
                    left = Some(rest);
                    Some(one)
                }
            };
            fields.push(self.value(wanted, depth)?);
        }
        if fields.is_empty() || left.is_some_and(|l| !l.is_empty()) {
            return Err("a tuple has too few values");
        }
        Ok(Value::Struct(fields))
    }

    fn dictionary(&mut self, wanted: Option<&str>, depth: u32) -> Result<Value, Unreadable> {
        self.eat('{');
        let (mut key, mut value) = (None, None);
        if let Some(s) = wanted {
            let pair = s.strip_prefix("a{").and_then(|s| s.strip_suffix('}'));
            let pair = pair.ok_or("a dictionary where another type is due")?;
            let (k, v) = split(pair, MAX_DEPTH)?;
            (key, value) = (Some(k.to_owned()), Some(v.to_owned()));
        }
        let mut items = Vec::new();
        while !self.eat('}') {
            if !items.is_empty() {
                self.expect(',', "a comma is missing")?;
            }
            let k = self.value(key.as_deref(), depth)?;
            self.expect(':', "a colon is missing")?;
            let v = self.value(value.as_deref(), depth)?;
            key.get_or_insert_with(|| k.signature());
            value.get_or_insert_with(|| v.signature());
            items.push(Value::Entry(Box::new((k, v))));
        }
        let (key, value) = key.zip(value).ok_or("an empty dictionary needs a type")?;
        Ok(Value::Array(format!("{{{key}{value}}}"), items))
    }
}

fn escaped(chars: &mut std::str::Chars<'_>, digits: usize) -> Result<char, Unreadable> {
    let mut code = 0;
    for _ in 0..digits {
        let digit = chars.next().and_then(|c| c.to_digit(16));
        code = code << 4 | digit.ok_or("a character's code is incomplete")?;
    }
    char::from_u32(code).ok_or("no such character")
}

fn text_as(text: String, wanted: Option<&str>) -> Result<Value, Unreadable> {
    match wanted {
        None | Some("s") => Ok(Value::Str(text)),
        Some("o") if text.starts_with('/') => Ok(Value::Path(text)),
        Some("g") => {
            let mut left = text.as_str();
            while !left.is_empty() {
                left = split(left, MAX_DEPTH)?.1;
            }
            Ok(Value::Signature(text))
        }
        Some(_) => Err("a string where another type is due"),
    }
}

fn number_as(digits: &str, wanted: Option<&str>) -> Result<Value, Unreadable> {
    let lower = digits.to_ascii_lowercase();
    let hex = lower.trim_start_matches(['+', '-']).starts_with("0x");
    let float = !hex && lower.contains(['.', 'e', 'n']);
    match wanted {
        Some("d") => return lower.parse().map(Value::F64).map_err(|_| "not a number"),
        None if float => return lower.parse().map(Value::F64).map_err(|_| "not a number"),
        _ => {}
    }
    let n = integer(&lower)?;
    let range = |_| "a number is out of its type's range";
    Ok(match wanted {
        Some("y") => Value::Byte(n.try_into().map_err(range)?),
        Some("n") => Value::I16(n.try_into().map_err(range)?),
        Some("q") => Value::U16(n.try_into().map_err(range)?),
        None | Some("i") => Value::I32(n.try_into().map_err(range)?),
        Some("u") => Value::U32(n.try_into().map_err(range)?),
        Some("x") => Value::I64(n.try_into().map_err(range)?),
        Some("t") => Value::U64(n.try_into().map_err(range)?),
        Some(_) => return Err("a number where another type is due"),
    })
}

/// Decimal, `0x` hexadecimal, or octal by a leading 0.
fn integer(text: &str) -> Result<i128, Unreadable> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    let n = u64::from_str_radix(digits, radix).map_err(|_| "not a number")?;
    Ok(if negative { -i128::from(n) } else { n.into() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values() {
        let s = |text: &str| Value::from(text);
        for (text, want) in [
            ("true", Value::Bool(true)),
            ("'inactive-or-failed'", s("inactive-or-failed")),
            ("\"it's\"", s("it's")),
            ("'a\\'b\\n\\u00e9'", s("a'b\né")),
            ("5", Value::I32(5)),
            ("-0x10", Value::I32(-16)),
            ("010", Value::I32(8)),
            ("1.5", Value::F64(1.5)),
            ("uint64 123456789", Value::U64(123_456_789)),
            ("@t 7", Value::U64(7)),
            ("byte 0xff", Value::Byte(255)),
            ("double 2", Value::F64(2.0)),
            ("objectpath '/a'", Value::Path("/a".into())),
            ("['a', 'b']", Value::Array("s".into(), vec![s("a"), s("b")])),
            ("@as []", Value::Array("s".into(), vec![])),
            (
                "[uint32 1, 2]",
                Value::Array("u".into(), vec![Value::U32(1), Value::U32(2)]),
            ),
            (
                "('a', uint32 5)",
                Value::Struct(vec![s("a"), Value::U32(5)]),
            ),
            ("(1,)", Value::Struct(vec![Value::I32(1)])),
            (
                "@(sb) ('a', true)",
                Value::Struct(vec![s("a"), Value::Bool(true)]),
            ),
            ("<'x'>", Value::Variant(Box::new(s("x")))),
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&want), "{text}");
        }
        let dict = parse("{'k': <1>}").unwrap();
        assert_eq!(dict.signature(), "a{sv}");
        assert_eq!(parse("@a{su} {}").unwrap().signature(), "a{su}");
    }

    #[test]
    fn unreadable() {
        for text in [
            "",
            "x",
            "5 5",
            "'a",
            "[",
            "[]",
            "[1, 'a']",
            "(",
            "()",
            "{}",
            "<1",
            "byte 256",
            "uint32 -1",
            "@t 'a'",
            "@q",
            "@( 5",
            "2147483648",
            "{'a'}",
            "'\\u12'",
            "1e",
            "--1",
            "boolean 1",
            "byte true",
            "@(ss) ('a',)",
            "objectpath 'a'",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
        assert!(parse(&"[".repeat(100)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[@a-z0-9'\"<>(){}\\[\\],: \\\\.+-]{0,24}") {
            let _ = parse(&text);
        }
    }
}

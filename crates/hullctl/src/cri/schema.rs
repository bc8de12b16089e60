//! What messages consist of, read from the interface's own .proto: JSON and YAML go to and from
//! any message by it, and the JSON schema of configuration files comes from it.

use std::collections::HashMap;
use std::sync::OnceLock;

/// A field's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Bytes; base64 in JSON.
    Bytes,
    /// A truth value.
    Bool,
    /// int32, uint32: a number in JSON.
    Int32,
    /// int64, uint64: a string in JSON.
    Int64,
    /// uint32, as [`Kind::Int32`].
    Uint32,
    /// uint64, as [`Kind::Int64`].
    Uint64,
    /// A floating-point number.
    Double,
    /// A named enumeration.
    Enum(String),
    /// A named message.
    Message(String),
}

/// How often a field occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// Once or not at all.
    One,
    /// A list.
    Many,
    /// From text to text.
    Map,
}

/// A field of a message.
#[derive(Debug, Clone)]
pub struct Field {
    /// As in the .proto.
    pub name: String,
    /// As in JSON.
    pub json: String,
    /// On the wire.
    pub number: u32,
    /// Its type.
    pub kind: Kind,
    /// How often.
    pub label: Label,
}

impl Field {
    /// Whether a document means this field: by either name, in any case, as Go reads JSON.
    pub fn is_called(&self, key: &str) -> bool {
        self.name.eq_ignore_ascii_case(key) || self.json.eq_ignore_ascii_case(key)
    }
}

/// All messages and enumerations.
#[derive(Debug, Default)]
pub struct Schema {
    messages: HashMap<String, Vec<Field>>,
    enums: HashMap<String, Vec<(String, i32)>>,
}

impl Schema {
    /// The CRI's.
    pub fn cri() -> &'static Schema {
        static CRI: OnceLock<Schema> = OnceLock::new();
        CRI.get_or_init(|| Schema::parse(cri_api::PROTO))
    }

    /// The fields of a message; none for a name that is not in the interface.
    pub fn fields(&self, message: &str) -> &[Field] {
        self.messages.get(message).map_or(&[], Vec::as_slice)
    }

    /// The names of an enumeration, in the order of the .proto.
    pub fn names(&self, enumeration: &str) -> &[(String, i32)] {
        self.enums.get(enumeration).map_or(&[], Vec::as_slice)
    }

    /// Reads the part of the language that the interface uses.
    fn parse(text: &str) -> Self {
        let mut schema = Schema::default();
        let mut scopes: Vec<String> = Vec::new();
        for line in text.lines() {
            let line = line.split("//").next().unwrap_or_default().trim();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["message" | "enum", name, rest @ ..] => {
                    let full = match scopes.last() {
                        Some(scope) => format!("{scope}.{name}"),
                        None => (*name).to_owned(),
                    };
                    if words[0] == "enum" {
                        schema.enums.insert(full.clone(), Vec::new());
                    } else {
                        schema.messages.insert(full.clone(), Vec::new());
                    }
                    if rest != ["{}"] {
                        scopes.push(full);
                    }
                }
                ["service", ..] => scopes.push(String::new()),
                ["}"] => {
                    scopes.pop();
                }
                _ => schema.member(scopes.last().map_or("", String::as_str), line),
            }
        }
        schema.resolve();
        schema
    }

    fn member(&mut self, scope: &str, line: &str) {
        let Some((left, right)) = line.split_once('=') else {
            return;
        };
        let number = right.trim_start().split([';', ' ', '[']).next();
        let number = number.unwrap_or_default();
        if let Some(values) = self.enums.get_mut(scope) {
            if let Ok(number) = number.parse() {
                values.push((left.trim().to_owned(), number));
            }
            return;
        }
        let (Some(fields), Ok(number)) = (self.messages.get_mut(scope), number.parse()) else {
            return;
        };
        let Some((kind, name)) = left.trim().rsplit_once(' ') else {
            return;
        };
        let (label, kind) = match kind.trim() {
            kind if kind.starts_with("map<") => (Label::Map, "string"),
            kind => match kind.split_once(' ') {
                Some(("repeated", kind)) => (Label::Many, kind.trim()),
                Some((_, kind)) => (Label::One, kind.trim()),
                None => (Label::One, kind),
            },
        };
        fields.push(Field {
            name: name.to_owned(),
            json: json_name(name),
            number,
            kind: scalar(kind).unwrap_or_else(|| Kind::Message(kind.to_owned())),
            label,
        });
    }

    /// Finds out which named types are enumerations, and which are nested.
    fn resolve(&mut self) {
        let enums = &self.enums;
        for (message, fields) in &mut self.messages {
            for field in fields {
                if let Kind::Message(name) = &field.kind {
                    let nested = format!("{message}.{name}");
                    let found = [&nested, name].into_iter().find(|n| enums.contains_key(*n));
                    if let Some(found) = found {
                        field.kind = Kind::Enum(found.clone());
                    }
                }
            }
        }
    }
}

fn scalar(name: &str) -> Option<Kind> {
    Some(match name {
        "string" => Kind::Text,
        "bytes" => Kind::Bytes,
        "bool" => Kind::Bool,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "uint32" => Kind::Uint32,
        "uint64" => Kind::Uint64,
        "double" => Kind::Double,
        _ => return None,
    })
}

/// The name in JSON: underscores go, and the letter behind each is large.
fn json_name(name: &str) -> String {
    let mut large = false;
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '_' => large = true,
            c if large => {
                out.push(c.to_ascii_uppercase());
                large = false;
            }
            c => out.push(c),
        }
    }
    out
}

//! From JSON to the wire.

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::cri::schema::{Field, Kind, Label, Schema};

/// Reads documents; remembers where it is and what it did not understand.
#[derive(Debug, Default)]
pub struct Reader {
    path: Vec<String>,
    /// One line each.
    pub remarks: Vec<String>,
}

impl Reader {
    /// A document as a message's bytes.
    pub fn message(&mut self, name: &str, json: &Value) -> Result<Vec<u8>> {
        let object = json.as_object();
        let object = object.ok_or_else(|| anyhow!("{}: no object but {json}", self.place()))?;
        let mut out = Vec::new();
        for (key, value) in object {
            self.path.push(key.clone());
            let field = Schema::cri().fields(name).iter().find(|f| f.is_called(key));
            match field {
                None => self
                    .remarks
                    .push(format!("{}: no such field; ignored", self.place())),
                Some(_) if value.is_null() => {}
                Some(field) => self.field(&mut out, field, value)?,
            }
            self.path.pop();
        }
        Ok(out)
    }

    fn place(&self) -> String {
        match self.path.is_empty() {
            true => "document".to_owned(),
            false => self.path.join("."),
        }
    }

    fn field(&mut self, out: &mut Vec<u8>, field: &Field, json: &Value) -> Result<()> {
        match field.label {
            Label::One => self.value(out, field, json),
            Label::Many => {
                let list = json.as_array();
                let list = list.ok_or_else(|| anyhow!("{}: no list but {json}", self.place()))?;
                for (i, item) in list.iter().enumerate() {
                    self.path.push(i.to_string());
                    self.value(out, field, item)?;
                    self.path.pop();
                }
                Ok(())
            }
            Label::Map => {
                let map = json.as_object();
                let map = map.ok_or_else(|| anyhow!("{}: no object but {json}", self.place()))?;
                for (key, value) in map {
                    self.path.push(key.clone());
                    let value = self.text(value)?;
                    let mut entry = Vec::new();
                    bytes(&mut entry, 1, key.as_bytes());
                    bytes(&mut entry, 2, value.as_bytes());
                    bytes(out, field.number, &entry);
                    self.path.pop();
                }
                Ok(())
            }
        }
    }

    fn value(&mut self, out: &mut Vec<u8>, field: &Field, json: &Value) -> Result<()> {
        let number = field.number;
        match &field.kind {
            Kind::Text => bytes(out, number, self.text(json)?.as_bytes()),
            Kind::Bytes => {
                let decoded = STANDARD.decode(self.text(json)?);
                let decoded = decoded.with_context(|| format!("{}: base64", self.place()))?;
                bytes(out, number, &decoded);
            }
            Kind::Message(name) => {
                let inner = self.message(name, json)?;
                bytes(out, number, &inner);
            }
            Kind::Double => {
                let value = json.as_f64();
                let value = value.ok_or_else(|| anyhow!("{}: no number", self.place()))?;
                varint(out, u64::from(number) << 3 | 1);
                out.extend_from_slice(&value.to_le_bytes());
            }
            kind => {
                let value = self.integer(kind, json)?;
                varint(out, u64::from(number) << 3);
                varint(out, value);
            }
        }
        Ok(())
    }

    /// A text; YAML makes numbers and truth values of what was meant as one.
    fn text(&self, json: &Value) -> Result<String> {
        match json {
            Value::String(s) => Ok(s.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(json.to_string()),
            _ => bail!("{}: no text but {json}", self.place()),
        }
    }

    fn integer(&self, kind: &Kind, json: &Value) -> Result<u64> {
        let wrong = || anyhow!("{}: {json} does not fit", self.place());
        if let (Kind::Bool, Value::Bool(b)) = (kind, json) {
            return Ok(u64::from(*b));
        }
        if let (Kind::Enum(name), Value::String(text)) = (kind, json) {
            let names = Schema::cri().names(name);
            if let Some((_, n)) = names.iter().find(|(n, _)| n.eq_ignore_ascii_case(text)) {
                return Ok(unsigned(i64::from(*n)));
            }
            let known: Vec<&str> = names.iter().map(|(n, _)| n.as_str()).collect();
            bail!("{}: {text} is none of {}", self.place(), known.join(", "));
        }
        let number: i128 = match json {
            Value::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(n), _) => n.into(),
                (_, Some(n)) => n.into(),
                _ => return Err(wrong()),
            },
            Value::String(text) => text.parse().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        let range: std::ops::RangeInclusive<i128> = match kind {
            Kind::Int32 | Kind::Enum(_) => i32::MIN.into()..=i32::MAX.into(),
            Kind::Uint32 => 0..=u32::MAX.into(),
            Kind::Uint64 => 0..=u64::MAX.into(),
            Kind::Int64 => i64::MIN.into()..=i64::MAX.into(),
            _ => return Err(wrong()),
        };
        if !range.contains(&number) {
            return Err(wrong());
        }
        u64::try_from(number)
            .or_else(|_| i64::try_from(number).map(unsigned))
            .map_err(|_| wrong())
    }
}

fn unsigned(n: i64) -> u64 {
    u64::from_le_bytes(n.to_le_bytes())
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    loop {
        let [low, ..] = n.to_le_bytes();
        n >>= 7;
        if n == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

fn bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, u64::try_from(content.len()).unwrap_or(0));
    out.extend_from_slice(content);
}

/// See [`super::json_schema`].
pub fn json_schema(name: &str) -> Value {
    let mut definitions = Map::new();
    define(name, &mut definitions);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": format!("#/$defs/{name}"),
        "$defs": definitions,
    })
}

fn define(name: &str, definitions: &mut Map<String, Value>) {
    if definitions.contains_key(name) {
        return;
    }
    definitions.insert(name.to_owned(), Value::Null);
    let mut properties = Map::new();
    for field in Schema::cri().fields(name) {
        let one = match &field.kind {
            Kind::Text => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Double => json!({"type": "number"}),
            Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 => json!({"type": "integer"}),
            Kind::Enum(name) => {
                let names = Schema::cri().names(name).iter();
                let values: Vec<Value> = names
                    .flat_map(|(name, n)| [json!(name), json!(n)])
                    .collect();
                json!({"enum": values})
            }
            Kind::Message(name) => {
                define(name, definitions);
                json!({"$ref": format!("#/$defs/{name}")})
            }
        };
        let property = match field.label {
            Label::One => one,
            Label::Many => json!({"type": "array", "items": one}),
            Label::Map => json!({"type": "object", "additionalProperties": one}),
        };
        properties.insert(field.name.clone(), property);
    }
    let schema = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    definitions.insert(name.to_owned(), schema);
}

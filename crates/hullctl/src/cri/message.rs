//! Messages to and from JSON, by protobuf's rules for JSON.

mod read;
mod write;

use anyhow::{Result, anyhow};
use prost::Message;
use serde_json::Value;

/// A message as JSON, defaults included.
pub fn to_json<M: Message>(name: &str, message: &M) -> Result<Value> {
    write::message(name, &message.encode_to_vec())
        .ok_or_else(|| anyhow!("{name}: the message is not what the interface says"))
}

/// A message from JSON, and remarks on what was not understood.
pub fn from_json<M: Message + Default>(name: &str, json: &Value) -> Result<(M, Vec<String>)> {
    let mut reader = read::Reader::default();
    let bytes = reader.message(name, json)?;
    let message = M::decode(bytes.as_slice())?;
    Ok((message, reader.remarks))
}

/// The JSON schema of a message, for editors and checkers of configuration files.
pub fn json_schema(name: &str) -> Value {
    read::json_schema(name)
}

#[cfg(test)]
mod tests;

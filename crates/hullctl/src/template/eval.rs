//! From nodes and a document to text.

use std::cmp::Ordering;

use serde_json::Value;

use super::Error;
use super::format::printf;
use super::parse::{Branch, Command, Expr, Node, Pipeline};
use super::value::{compare, integer, print, truth};

/// What a template can produce: beyond it there is a mistake in the template.
const LONGEST: usize = 64 << 20;

const FUNCTIONS: &[&str] = &[
    "and", "eq", "ge", "gt", "html", "index", "join", "json", "le", "len", "lower", "lt", "ne",
    "not", "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate",
    "upper", "urlquery",
];

pub fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

pub fn render(nodes: &[Node], data: &Value) -> Result<String, Error> {
    let mut state = State {
        out: String::new(),
        vars: vec![(String::new(), data.clone())],
    };
    state.walk(nodes, data)?;
    Ok(state.out)
}

/// Why a body ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct State {
    out: String,
    /// Innermost last; `$` itself has the empty name.
    vars: Vec<(String, Value)>,
}

impl State {
    fn walk(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Error> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Action(pipe) => {
                    let value = self.pipeline(pipe, dot)?;
                    if pipe.vars.is_empty() {
                        self.out.push_str(&print(&value));
                    }
                }
                Node::If(branch) | Node::With(branch) => {
                    let flow = self.choose(branch, dot, matches!(node, Node::With(_)))?;
                    if flow != Flow::On {
                        return Ok(flow);
                    }
                }
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
            }
            if self.out.len() > LONGEST {
                return Err(Error::new(
                    0,
                    format!("the result is longer than {LONGEST} bytes"),
                ));
            }
        }
        Ok(Flow::On)
    }

    fn choose(&mut self, branch: &Branch, dot: &Value, with: bool) -> Result<Flow, Error> {
        let mark = self.vars.len();
        let value = self.pipeline(&branch.pipe, dot)?;
        let flow = if truth(&value) {
            self.walk(&branch.body, if with { &value } else { dot })
        } else {
            self.walk(&branch.otherwise, dot)
        };
        self.vars.truncate(mark);
        flow
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<(), Error> {
        let mark = self.vars.len();
        let plain = Pipeline {
            vars: Vec::new(),
            ..branch.pipe.clone()
        };
        let items = elements(self.pipeline(&plain, dot)?, &branch.pipe)?;
        if items.is_empty() {
            self.walk(&branch.otherwise, dot)?;
        }
        for (key, value) in items {
            let bound = match branch.pipe.vars.as_slice() {
                [one] => vec![(one.clone(), value.clone())],
                [first, second] => vec![(first.clone(), key), (second.clone(), value.clone())],
                _ => Vec::new(),
            };
            self.vars.extend(bound);
            let flow = self.walk(&branch.body, &value)?;
            self.vars.truncate(mark);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    fn pipeline(&mut self, pipe: &Pipeline, dot: &Value) -> Result<Value, Error> {
        let mut result = None;
        for command in &pipe.commands {
            result = Some(self.command(command, dot, result)?);
        }
        let value = result.unwrap_or_default();
        if let Some(name) = pipe.vars.first() {
            if pipe.declares {
                self.vars.push((name.clone(), value.clone()));
            } else {
                let at = pipe.commands.first().map_or(0, |c| c.at);
                *self.variable(name, at)? = value.clone();
            }
        }
        Ok(value)
    }

    fn variable(&mut self, name: &str, at: usize) -> Result<&mut Value, Error> {
        let found = self.vars.iter_mut().rev().find(|(n, _)| n == name);
        found
            .map(|(_, value)| value)
            .ok_or_else(|| Error::new(at, format!("no variable ${name}")))
    }

    fn command(&mut self, c: &Command, dot: &Value, piped: Option<Value>) -> Result<Value, Error> {
        let Expr::Function(name) = &c.head else {
            return self.value(&c.head, c.at, dot);
        };
        if (name == "and" || name == "or") && !c.args.is_empty() {
            return self.short_circuit(c, name == "and", dot, piped);
        }
        let mut args = Vec::with_capacity(c.args.len() + 1);
        for arg in &c.args {
            args.push(self.value(arg, c.at, dot)?);
        }
        args.extend(piped);
        call(name, &args).map_err(|reason| Error::new(c.at, format!("{name}: {reason}")))
    }

    fn short_circuit(
        &mut self,
        c: &Command,
        and: bool,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, Error> {
        let mut last = Value::Null;
        for arg in &c.args {
            last = self.value(arg, c.at, dot)?;
            if truth(&last) != and {
                return Ok(last);
            }
        }
        Ok(piped.unwrap_or(last))
    }

    fn value(&mut self, expr: &Expr, at: usize, dot: &Value) -> Result<Value, Error> {
        Ok(match expr {
            Expr::Literal(value) => value.clone(),
            Expr::Field(names) => fields(dot, names).clone(),
            Expr::Var(name, names) => fields(self.variable(name, at)?, names).clone(),
            Expr::Group(pipe, names) => fields(&self.pipeline(pipe, dot)?, names).clone(),
            Expr::Function(name) => {
                call(name, &[]).map_err(|reason| Error::new(at, format!("{name}: {reason}")))?
            }
        })
    }
}

/// A document's field; absent ones are null, as a Go map gives them.
fn fields<'v>(value: &'v Value, names: &[String]) -> &'v Value {
    names
        .iter()
        .fold(value, |value, name| value.get(name).unwrap_or(&Value::Null))
}

/// Key and value of each element; objects by their sorted names, a number counts up to itself.
fn elements(value: Value, pipe: &Pipeline) -> Result<Vec<(Value, Value)>, Error> {
    Ok(match value {
        Value::Null => Vec::new(),
        Value::Array(items) => (0_u64..).map(Value::from).zip(items).collect(),
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> = fields.into_iter().collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            let keyed = fields.into_iter().map(|(k, v)| (Value::from(k), v));
            keyed.collect()
        }
        Value::Number(n) if n.as_u64().is_some_and(|n| n <= 1 << 20) => {
            let count = n.as_u64().unwrap_or_default();
            let numbers = (0..count).map(|i| (Value::from(i), Value::from(i)));
            numbers.collect()
        }
        other => {
            let at = pipe.commands.first().map_or(0, |c| c.at);
            let shown: String = print(&other).chars().take(40).collect();
            return Err(Error::new(at, format!("range cannot walk {shown}")));
        }
    })
}

fn call(name: &str, args: &[Value]) -> Result<Value, String> {
    match name {
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => relation(name, args),
        "print" => Ok(concatenated(args).into()),
        "println" => {
            let words: Vec<String> = args.iter().map(print).collect();
            Ok(format!("{}\n", words.join(" ")).into())
        }
        "printf" => match args {
            [Value::String(format), rest @ ..] => Ok(printf(format, rest).into()),
            _ => Err("a format is needed".to_owned()),
        },
        "index" => index(args),
        "slice" => slice(args),
        "join" => match args {
            [Value::Array(items), Value::String(by)] => {
                let items: Vec<String> = items.iter().map(print).collect();
                Ok(items.join(by).into())
            }
            _ => Err("a list and a separator are needed".to_owned()),
        },
        "split" => match args {
            [Value::String(text), Value::String(by)] => Ok(text.split(by.as_str()).collect()),
            _ => Err("a text and a separator are needed".to_owned()),
        },
        "truncate" => match args {
            [Value::String(text), n] => {
                let n = integer(n).and_then(|n| usize::try_from(n).ok());
                let n = n.ok_or("a length is needed")?;
                Ok(text.chars().take(n).collect::<String>().into())
            }
            _ => Err("a text and a length are needed".to_owned()),
        },
        "pad" => match args {
            [Value::String(text), before, after] => Ok(pad(text, before, after)?.into()),
            _ => Err("a text and two counts are needed".to_owned()),
        },
        _ => match args {
            [one] => unary(name, one),
            _ => Err(format!("{} arguments given, 1 needed", args.len())),
        },
    }
}

fn pad(text: &str, before: &Value, after: &Value) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let count = |v: &Value| {
        let n = integer(v).and_then(|n| usize::try_from(n).ok());
        n.filter(|n| *n <= 4096)
            .ok_or("a count up to 4096 is needed")
    };
    Ok(format!(
        "{}{text}{}",
        " ".repeat(count(before)?),
        " ".repeat(count(after)?)
    ))
}

fn unary(name: &str, arg: &Value) -> Result<Value, String> {
    let text = || print(arg);
    Ok(match name {
        "not" => Value::Bool(!truth(arg)),
        "json" => serde_json::to_string(arg)
            .map_err(|e| e.to_string())?
            .into(),
        "lower" => text().to_lowercase().into(),
        "upper" => text().to_uppercase().into(),
        "title" => titled(&text()).into(),
        "html" => escaped_html(&text()).into(),
        "urlquery" => escaped_query(&text()).into(),
        "len" => match arg {
            Value::String(s) => s.len().into(),
            Value::Array(a) => a.len().into(),
            Value::Object(o) => o.len().into(),
            other => return Err(format!("{} has no length", print(other))),
        },
        // and, or of one value.
        _ => arg.clone(),
    })
}

fn titled(text: &str) -> String {
    let mut start = true;
    let up = |c: char| {
        let first = std::mem::replace(&mut start, c.is_whitespace());
        if first {
            c.to_uppercase().next().unwrap_or(c)
        } else {
            c
        }
    };
    text.chars().map(up).collect()
}

fn escaped_html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

fn escaped_query(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(b).to_string()
            }
            b' ' => "+".to_owned(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

/// Go's `print`: a space between two operands when neither is a text.
fn concatenated(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| args.get(i));
        if before.is_some_and(|b| !b.is_string() && !arg.is_string()) {
            out.push(' ');
        }
        out.push_str(&print(arg));
    }
    out
}

fn relation(name: &str, args: &[Value]) -> Result<Value, String> {
    let [first, rest @ ..] = args else {
        return Err("two values are needed".to_owned());
    };
    if rest.is_empty() || (name != "eq" && rest.len() > 1) {
        return Err("two values are needed".to_owned());
    }
    let order = |other: &Value| {
        compare(first, other)
            .ok_or_else(|| format!("{} and {} do not compare", print(first), print(other)))
    };
    Ok(Value::Bool(match name {
        "eq" => rest.iter().any(|other| same(first, other)),
        "ne" => !same(first, &rest[0]),
        "lt" => order(&rest[0])? == Ordering::Less,
        "le" => order(&rest[0])? != Ordering::Greater,
        "gt" => order(&rest[0])? == Ordering::Greater,
        _ => order(&rest[0])? != Ordering::Less,
    }))
}

fn same(a: &Value, b: &Value) -> bool {
    compare(a, b) == Some(Ordering::Equal)
}

fn index(args: &[Value]) -> Result<Value, String> {
    let [first, keys @ ..] = args else {
        return Err("a value is needed".to_owned());
    };
    let mut value = first;
    for key in keys {
        value = match (value, key) {
            (Value::Array(items), key) => {
                let i = integer(key).and_then(|i| usize::try_from(i).ok());
                i.and_then(|i| items.get(i))
                    .ok_or_else(|| format!("{} is not in a list of {}", print(key), items.len()))?
            }
            (Value::Object(fields), Value::String(name)) => {
                fields.get(name).unwrap_or(&Value::Null)
            }
            (Value::Null, _) => &Value::Null,
            (other, _) => return Err(format!("{} has no elements", print(other))),
        };
    }
    Ok(value.clone())
}

fn slice(args: &[Value]) -> Result<Value, String> {
    let [value, bounds @ ..] = args else {
        return Err("a value is needed".to_owned());
    };
    let len = match value {
        Value::String(s) => s.len(),
        Value::Array(a) => a.len(),
        other => return Err(format!("{} cannot be cut", print(other))),
    };
    let bound = |i: usize, default: usize| match bounds.get(i) {
        None => Some(default),
        Some(v) => integer(v).and_then(|n| usize::try_from(n).ok()),
    };
    let range = bound(0, 0).zip(bound(1, len));
    let range = range.map(|(from, to)| from..to);
    let outside = || format!("out of range; the length is {len}");
    let range = range.ok_or_else(outside)?;
    match value {
        Value::Array(items) => {
            let items = items.get(range).ok_or_else(outside)?;
            Ok(Value::Array(items.to_vec()))
        }
        other => {
            let text = other.as_str().and_then(|s| s.get(range));
            Ok(text.ok_or_else(outside)?.into())
        }
    }
}

//! From text to nodes.

use serde_json::{Number, Value};

use super::Error;

/// Nesting of blocks and parentheses; far above any use, far below the stack.
const DEPTH: usize = 64;

/// A piece of a template.
#[derive(Debug, Clone)]
pub enum Node {
    /// As it stands.
    Text(String),
    /// `{{pipeline}}`.
    Action(Pipeline),
    /// `{{if}}`.
    If(Branch),
    /// `{{with}}`.
    With(Branch),
    /// `{{range}}`.
    Range(Branch),
    /// `{{break}}`.
    Break,
    /// `{{continue}}`.
    Continue,
}

/// A condition and its two bodies.
#[derive(Debug, Clone)]
pub struct Branch {
    /// What is asked or walked.
    pub pipe: Pipeline,
    /// When it is true; for each element.
    pub body: Vec<Node>,
    /// When it is false or empty.
    pub otherwise: Vec<Node>,
}

/// Commands, each given the result of the one before as last argument.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Variables that take the result.
    pub vars: Vec<String>,
    /// `:=` (else `=`).
    pub declares: bool,
    /// At least one.
    pub commands: Vec<Command>,
}

/// One command of a pipeline.
#[derive(Debug, Clone)]
pub struct Command {
    /// Where in the text.
    pub at: usize,
    /// The value or function.
    pub head: Expr,
    /// What the function is given.
    pub args: Vec<Expr>,
}

/// A value in the text.
#[derive(Debug, Clone)]
pub enum Expr {
    /// A constant.
    Literal(Value),
    /// `.a.b`; `.` has no names.
    Field(Vec<String>),
    /// `$x.a.b`.
    Var(String, Vec<String>),
    /// A function's name.
    Function(String),
    /// `(pipeline).a.b`.
    Group(Box<Pipeline>, Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Literal(Value),
    Field(String),
    Dot,
    Var(String),
    Word(String),
    Pipe,
    Open,
    Close,
    Declare,
    Assign,
    Comma,
}

/// A token, where it begins, and whether it touches the one before it.
type Placed = (Token, usize, bool);

pub fn parse(text: &str) -> Result<Vec<Node>, Error> {
    let pieces = split(text)?;
    let mut parser = Parser {
        pieces,
        next: 0,
        loops: 0,
        depth: 0,
    };
    let (nodes, end) = parser.list()?;
    match end {
        None => Ok(nodes),
        Some((word, at, _)) => Err(Error::new(at, format!("{{{{{word}}}}} without a block"))),
    }
}

enum Piece {
    Text(String),
    Action(Vec<Placed>, usize),
}

/// Cuts the text at `{{` and `}}`, with comments gone and trim markers done.
fn split(text: &str) -> Result<Vec<Piece>, Error> {
    let mut pieces = Vec::new();
    let (mut at, mut trim) = (0, false);
    while let Some(open) = text[at..].find("{{").map(|i| at + i) {
        let body = open + 2;
        let trims_left = text[body..].starts_with("- ");
        let mut before = &text[at..open];
        if trim {
            before = before.trim_start();
        }
        if trims_left {
            before = before.trim_end();
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let start = if trims_left { body + 2 } else { body };
        let close = close_of(text, start)?;
        let mut inside = &text[start..close];
        trim = inside.ends_with(" -");
        if trim {
            inside = &inside[..inside.len() - 2];
        }
        let comment = inside.trim().starts_with("/*") && inside.trim().ends_with("*/");
        if !comment {
            pieces.push(Piece::Action(tokens(inside, start)?, open));
        }
        at = close + 2;
    }
    let rest = if trim {
        text[at..].trim_start()
    } else {
        &text[at..]
    };
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// Where the `}}` of an action that begins at `start` is; those within strings do not count.
fn close_of(text: &str, start: usize) -> Result<usize, Error> {
    let missing = || Error::new(start, "an action is not closed by }}");
    if text[start..].trim_start().starts_with("/*") {
        let end = text[start..].find("*/").ok_or_else(missing)? + start;
        return text[end..].find("}}").map(|i| end + i).ok_or_else(missing);
    }
    let bytes = text.as_bytes();
    let mut quote = None;
    let mut at = start;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(b'"'), b'\\') => at += 1,
            (Some(q), b) if q == b => quote = None,
            (None, b @ (b'"' | b'`')) => quote = Some(b),
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Ok(at),
            _ => {}
        }
        at += 1;
    }
    Err(missing())
}

fn tokens(text: &str, base: usize) -> Result<Vec<Placed>, Error> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start();
        let touches = trimmed.len() == rest.len() && !out.is_empty();
        rest = trimmed;
        let at = base + text.len() - rest.len();
        if rest.is_empty() {
            return Ok(out);
        }
        let (token, used) = token(rest, at)?;
        out.push((token, at, touches));
        rest = &rest[used..];
    }
}

fn token(rest: &str, at: usize) -> Result<(Token, usize), Error> {
    let simple = [
        (":=", Token::Declare),
        ("=", Token::Assign),
        ("|", Token::Pipe),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
    ];
    if let Some((text, token)) = simple.into_iter().find(|(text, _)| rest.starts_with(text)) {
        return Ok((token, text.len()));
    }
    let first = rest.chars().next().unwrap_or_default();
    let name = |from: usize| {
        let end = rest[from..].find(|c: char| !(c.is_alphanumeric() || c == '_'));
        &rest[from..end.map_or(rest.len(), |i| from + i)]
    };
    match first {
        '"' => quoted(rest, at),
        '`' => match rest[1..].find('`') {
            Some(end) => Ok((literal(rest[1..=end].to_owned()), end + 2)),
            None => Err(Error::new(at, "a raw string is not closed by `")),
        },
        '.' => Ok(match name(1) {
            "" => (Token::Dot, 1),
            field => (Token::Field(field.to_owned()), 1 + field.len()),
        }),
        '$' => Ok((Token::Var(name(1).to_owned()), 1 + name(1).len())),
        '0'..='9' | '-' | '+' => number(rest, at),
        c if c.is_alphabetic() || c == '_' => {
            let word = name(0);
            let token = match word {
                "true" => Token::Literal(Value::Bool(true)),
                "false" => Token::Literal(Value::Bool(false)),
                "nil" => Token::Literal(Value::Null),
                _ => Token::Word(word.to_owned()),
            };
            Ok((token, word.len()))
        }
        c => Err(Error::new(at, format!("unexpected {c:?}"))),
    }
}

fn literal(text: String) -> Token {
    Token::Literal(Value::String(text))
}

/// A string in double quotes with Go's escapes.
fn quoted(rest: &str, at: usize) -> Result<(Token, usize), Error> {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((literal(out), i + 1)),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('0') => out.push('\0'),
                Some(c @ ('\\' | '"' | '\'')) => out.push(c),
                Some(c) => return Err(Error::new(at + i, format!("unknown escape \\{c}"))),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err(Error::new(at, "a string is not closed by \""))
}

fn number(rest: &str, at: usize) -> Result<(Token, usize), Error> {
    let end = rest[1..]
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
        .map_or(rest.len(), |i| i + 1);
    let text = rest[..end].trim_start_matches('+');
    let number = match text.parse::<i64>() {
        Ok(n) => Some(Number::from(n)),
        Err(_) => text.parse::<f64>().ok().and_then(Number::from_f64),
    };
    let number = number.ok_or_else(|| Error::new(at, format!("{text} is no number")))?;
    Ok((Token::Literal(Value::Number(number)), end))
}

/// What ended a list: the word, its place, the tokens after it.
type End = Option<(String, usize, Vec<Placed>)>;

struct Parser {
    pieces: Vec<Piece>,
    next: usize,
    loops: usize,
    depth: usize,
}

impl Parser {
    fn piece(&mut self) -> Option<Piece> {
        let piece = self.pieces.get_mut(self.next)?;
        self.next += 1;
        Some(std::mem::replace(piece, Piece::Text(String::new())))
    }

    /// Nodes up to `end`, `else` or the end of the text.
    fn list(&mut self) -> Result<(Vec<Node>, End), Error> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.piece() {
            let (tokens, at) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens, at) => (tokens, at),
            };
            let word = match tokens.first() {
                Some((Token::Word(word), ..)) => word.clone(),
                Some(_) => String::new(),
                None => return Err(Error::new(at, "an action is empty")),
            };
            let rest = || tokens[1..].to_vec();
            match word.as_str() {
                "end" | "else" => return Ok((nodes, Some((word, at, rest())))),
                "if" | "with" | "range" => {
                    let node = self.block(&word, rest(), at)?;
                    nodes.push(node);
                }
                "break" if self.loops > 0 => nodes.push(Node::Break),
                "continue" if self.loops > 0 => nodes.push(Node::Continue),
                "break" | "continue" => {
                    return Err(Error::new(at, format!("{word} outside of range")));
                }
                "define" | "template" | "block" => {
                    return Err(Error::new(at, format!("{word} is not supported")));
                }
                _ => nodes.push(Node::Action(pipeline(tokens, at)?)),
            }
        }
        Ok((nodes, None))
    }

    fn block(&mut self, word: &str, tokens: Vec<Placed>, at: usize) -> Result<Node, Error> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Error::new(
                at,
                format!("blocks are nested deeper than {DEPTH}"),
            ));
        }
        let pipe = pipeline(tokens, at)?;
        let is_loop = word == "range";
        self.loops += usize::from(is_loop);
        let (body, end) = self.list()?;
        self.loops -= usize::from(is_loop);
        let missing = || Error::new(at, format!("{{{{{word}}}}} has no {{{{end}}}}"));
        let (end, end_at, rest) = end.ok_or_else(missing)?;
        let otherwise = match (end.as_str(), rest.first()) {
            ("end", _) => Vec::new(),
            (_, None) => match self.list()? {
                (nodes, Some((end, ..))) if end == "end" => nodes,
                (_, Some((_, at, _))) => return Err(Error::new(at, "a second else")),
                (_, None) => return Err(missing()),
            },
            (_, Some((Token::Word(next), ..))) if next == word && !is_loop => {
                vec![self.block(word, rest[1..].to_vec(), end_at)?]
            }
            _ => return Err(Error::new(end_at, "unexpected words after else")),
        };
        self.depth -= 1;
        let branch = Branch {
            pipe,
            body,
            otherwise,
        };
        Ok(match word {
            "if" => Node::If(branch),
            "with" => Node::With(branch),
            _ => Node::Range(branch),
        })
    }
}

fn pipeline(tokens: Vec<Placed>, at: usize) -> Result<Pipeline, Error> {
    let mut words = Words {
        tokens: tokens.into_iter().peekable(),
        at,
    };
    let pipe = words.pipeline(0)?;
    match words.tokens.next() {
        None => Ok(pipe),
        Some((_, at, _)) => Err(Error::new(at, "unexpected )")),
    }
}

struct Words {
    tokens: std::iter::Peekable<std::vec::IntoIter<Placed>>,
    at: usize,
}

impl Words {
    fn take(&mut self, wanted: &Token) -> bool {
        self.tokens.next_if(|(token, ..)| token == wanted).is_some()
    }

    fn pipeline(&mut self, depth: usize) -> Result<Pipeline, Error> {
        if depth > DEPTH {
            return Err(Error::new(
                self.at,
                format!("parentheses deeper than {DEPTH}"),
            ));
        }
        let (vars, declares) = self.variables();
        let mut commands = vec![self.command(depth)?];
        while self.take(&Token::Pipe) {
            commands.push(self.command(depth)?);
        }
        for command in &commands[1..] {
            if !matches!(command.head, Expr::Function(_)) {
                return Err(Error::new(command.at, "only a function can follow |"));
            }
        }
        Ok(Pipeline {
            vars,
            declares,
            commands,
        })
    }

    /// `$x :=`, `$i, $x :=`, `$x =`; nothing is taken when it is none of them.
    fn variables(&mut self) -> (Vec<String>, bool) {
        let ahead: Vec<Token> = self.tokens.clone().take(4).map(|(t, ..)| t).collect();
        let (names, operator) = match ahead.as_slice() {
            [Token::Var(a), Token::Comma, Token::Var(b), op, ..] => {
                (vec![a.clone(), b.clone()], op)
            }
            [Token::Var(a), op, ..] => (vec![a.clone()], op),
            _ => return (Vec::new(), false),
        };
        if !matches!(operator, Token::Declare | Token::Assign) {
            return (Vec::new(), false);
        }
        let declares = *operator == Token::Declare;
        for _ in 0..names.len() * 2 {
            self.tokens.next();
        }
        (names, declares)
    }

    fn command(&mut self, depth: usize) -> Result<Command, Error> {
        let at = self.tokens.peek().map_or(self.at, |(_, at, _)| *at);
        let head = self.operand(depth)?;
        let head = head.ok_or_else(|| Error::new(at, "a value is missing"))?;
        let mut args = Vec::new();
        while let Some(arg) = self.operand(depth)? {
            args.push(arg);
        }
        if !args.is_empty() && !matches!(head, Expr::Function(_)) {
            return Err(Error::new(at, "only a function takes arguments"));
        }
        Ok(Command { at, head, args })
    }

    fn operand(&mut self, depth: usize) -> Result<Option<Expr>, Error> {
        let Some((token, at, _)) = self
            .tokens
            .next_if(|(token, ..)| !matches!(token, Token::Pipe | Token::Close))
        else {
            return Ok(None);
        };
        let expr = match token {
            Token::Literal(value) => Expr::Literal(value),
            Token::Dot => Expr::Field(Vec::new()),
            Token::Field(name) => {
                let mut names = vec![name];
                names.extend(self.fields());
                Expr::Field(names)
            }
            Token::Var(name) => Expr::Var(name, self.fields()),
            Token::Word(name) if super::eval::is_function(&name) => Expr::Function(name),
            Token::Word(name) => return Err(Error::new(at, format!("no function {name}"))),
            Token::Open => {
                let inner = self.pipeline(depth + 1)?;
                if !self.take(&Token::Close) {
                    return Err(Error::new(at, "( is not closed"));
                }
                Expr::Group(Box::new(inner), self.fields())
            }
            _ => return Err(Error::new(at, "a value is missing")),
        };
        Ok(Some(expr))
    }

    /// The `.a.b` that touches what came before.
    fn fields(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Some((Token::Field(name), ..)) = self
            .tokens
            .next_if(|(token, _, touches)| *touches && matches!(token, Token::Field(_)))
        {
            names.push(name);
        }
        names
    }
}

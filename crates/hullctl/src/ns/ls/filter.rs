//! Filter expressions, in the language of util-linux' `--filter`.
//!
//! `NPROCS > 3 && (TYPE == "net" || !NSFS)`; also `and`, `or`, `not`, `eq`, `ne`, `lt`, `le`, `gt`,
//! `ge`, and `=~`, `!~` with a regular expression. A column alone holds where it is neither empty
//! nor 0. Two numbers are compared as numbers, anything else as text.

use std::iter::Peekable;
use std::vec::IntoIter;

use anyhow::{Context as _, Result, bail};
use regex::Regex;

/// An expression.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Both.
    And(Box<Self>, Box<Self>),
    /// One of them.
    Or(Box<Self>, Box<Self>),
    /// Not it.
    Not(Box<Self>),
    /// A column or a literal alone.
    Is(Operand),
    /// A comparison.
    Compare(Operand, Comparison, Operand),
    /// A match; `false` turns it round.
    Match(Operand, Regex, bool),
}

/// One side of a comparison.
#[derive(Clone, Debug)]
pub enum Operand {
    /// A column, by name.
    Column(String),
    /// A text or number.
    Literal(String),
}

/// How two sides are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// Tells a column's text; `None` where there is no such column.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<Option<String>>;

impl Filter {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self> {
        let mut tokens = tokens(text)?.into_iter().peekable();
        let filter = any(&mut tokens)?;
        match tokens.next() {
            None => Ok(filter),
            Some(token) => bail!("{text}: {token:?} was not expected there"),
        }
    }

    /// Whether it holds for a row.
    pub fn holds(&self, row: Lookup<'_>) -> Result<bool> {
        Ok(match self {
            Self::And(a, b) => a.holds(row)? && b.holds(row)?,
            Self::Or(a, b) => a.holds(row)? || b.holds(row)?,
            Self::Not(a) => !a.holds(row)?,
            Self::Is(a) => !matches!(a.value(row)?.as_str(), "" | "0"),
            Self::Compare(a, how, b) => how.holds(&a.value(row)?, &b.value(row)?),
            Self::Match(a, regex, positive) => regex.is_match(&a.value(row)?) == *positive,
        })
    }
}

impl Operand {
    fn value(&self, row: Lookup<'_>) -> Result<String> {
        match self {
            Self::Literal(text) => Ok(text.clone()),
            Self::Column(name) => {
                let cell = row(name);
                let cell = cell.with_context(|| format!("--filter: {name}: no such column"))?;
                Ok(cell.unwrap_or_default())
            }
        }
    }
}

impl Comparison {
    fn holds(self, a: &str, b: &str) -> bool {
        let order = match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => a.partial_cmp(&b),
            _ => Some(a.cmp(b)),
        };
        let Some(order) = order else {
            return false;
        };
        match self {
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }

    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "==" | "eq" | "EQ" => Self::Equal,
            "!=" | "ne" | "NE" => Self::Unequal,
            "<" | "lt" | "LT" => Self::Less,
            "<=" | "le" | "LE" => Self::LessOrEqual,
            ">" | "gt" | "GT" => Self::Greater,
            ">=" | "ge" | "GE" => Self::GreaterOrEqual,
            _ => return None,
        })
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(String),
}

type Tokens = Peekable<IntoIter<Token>>;

const SIGNS: [&str; 12] = [
    "&&", "||", "==", "!=", "<=", ">=", "=~", "!~", "<", ">", "!", "(",
];

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut rest = text.trim_start();
    let mut found = Vec::new();
    while let Some(first) = rest.chars().next() {
        let sign = SIGNS.iter().chain(&[")"]).find(|s| rest.starts_with(**s));
        let (token, used) = if let Some(sign) = sign {
            (Token::Sign((*sign).to_owned()), sign.len())
        } else if first == '"' || first == '\'' {
            let end = rest[1..].find(first);
            let end = end.with_context(|| format!("{text}: a quote is not closed"))?;
            (Token::Text(rest[1..=end].to_owned()), end + 2)
        } else {
            let part = |c: char| c.is_alphanumeric() || "_.-".contains(c);
            let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
            if end == 0 {
                bail!("{text}: {first:?} was not expected there");
            }
            (Token::Word(rest[..end].to_owned()), end)
        };
        found.push(token);
        rest = rest[used..].trim_start();
    }
    Ok(found)
}

fn next_is(tokens: &mut Tokens, words: &[&str]) -> bool {
    let is = |token: &Token| match token {
        Token::Word(w) | Token::Sign(w) => words.contains(&w.as_str()),
        Token::Text(_) => false,
    };
    tokens.next_if(is).is_some()
}

fn any(tokens: &mut Tokens) -> Result<Filter> {
    let mut left = every(tokens)?;
    while next_is(tokens, &["||", "or", "OR"]) {
        left = Filter::Or(Box::new(left), Box::new(every(tokens)?));
    }
    Ok(left)
}

fn every(tokens: &mut Tokens) -> Result<Filter> {
    let mut left = one(tokens)?;
    while next_is(tokens, &["&&", "and", "AND"]) {
        left = Filter::And(Box::new(left), Box::new(one(tokens)?));
    }
    Ok(left)
}

fn one(tokens: &mut Tokens) -> Result<Filter> {
    if next_is(tokens, &["!", "not", "NOT"]) {
        return Ok(Filter::Not(Box::new(one(tokens)?)));
    }
    if next_is(tokens, &["("]) {
        let inner = any(tokens)?;
        if !next_is(tokens, &[")"]) {
            bail!("a parenthesis is not closed");
        }
        return Ok(inner);
    }
    let left = operand(tokens)?;
    for (sign, positive) in [("=~", true), ("!~", false)] {
        if next_is(tokens, &[sign]) {
            let Operand::Literal(pattern) = operand(tokens)? else {
                bail!("{sign} wants a regular expression in quotes");
            };
            return Ok(Filter::Match(left, Regex::new(&pattern)?, positive));
        }
    }
    let how = tokens.peek().and_then(|token| match token {
        Token::Word(w) | Token::Sign(w) => Comparison::of(w),
        Token::Text(_) => None,
    });
    let Some(how) = how else {
        return Ok(Filter::Is(left));
    };
    tokens.next();
    Ok(Filter::Compare(left, how, operand(tokens)?))
}

fn operand(tokens: &mut Tokens) -> Result<Operand> {
    match tokens.next() {
        Some(Token::Text(text)) => Ok(Operand::Literal(text)),
        Some(Token::Word(word)) if word.parse::<f64>().is_ok() => Ok(Operand::Literal(word)),
        Some(Token::Word(word)) => Ok(Operand::Column(word)),
        Some(Token::Sign(sign)) => bail!("{sign} was not expected there"),
        None => bail!("something is missing at the end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Option<Option<String>> {
        match name {
            "TYPE" => Some(Some("net".to_owned())),
            "NPROCS" => Some(Some("12".to_owned())),
            "NSFS" => Some(None),
            _ => None,
        }
    }

    #[test]
    fn expressions() {
        for (text, expected) in [
            ("NPROCS > 9", true),
            ("NPROCS lt 9", false),
            ("TYPE == \"net\" && NPROCS == 12", true),
            ("TYPE == 'pid' || not NSFS", true),
            ("!(TYPE =~ \"^n\")", false),
            ("TYPE !~ \"x\" and NSFS", false),
            ("NPROCS", true),
            ("TYPE >= \"m\"", true),
        ] {
            let filter = Filter::parse(text).unwrap();
            assert_eq!(filter.holds(&row).unwrap(), expected, "{text}");
        }
        for bad in [
            "",
            "NPROCS >",
            "(TYPE",
            "TYPE =~ \"(\"",
            "TYPE ==",
            "'a",
            "a b",
            "$",
        ] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
        assert!(Filter::parse("COLOUR").unwrap().holds(&row).is_err());
    }
}

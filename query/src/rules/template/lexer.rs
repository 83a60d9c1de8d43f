//! Splits a template into text and actions, and actions into tokens.

use super::{TemplateError, value::Value};

/// Longer templates are refused.
const MAX_TEMPLATE_BYTES: usize = 256 << 10;

/// Text, or the tokens between `{{` and `}}`, with the line where it starts.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Action { line: usize, tokens: Vec<Token> },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `if`, `humanize`, `true`
    Word(String),
    /// `$value`; `$` alone is empty.
    Variable(String),
    /// `.Labels`; directly behind something it is a member of that.
    Field(String),
    Dot,
    Literal(Value),
    /// One of `| ( ) , := =`.
    Symbol(&'static str),
    /// Blanks matter between terms: `f .x` is not `f.x`.
    Blank,
}

pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    if text.len() > MAX_TEMPLATE_BYTES {
        let message = format!("the template is longer than {MAX_TEMPLATE_BYTES} bytes");
        return Err(TemplateError { line: 1, message });
    }
    let mut pieces = Vec::new();
    let (mut rest, mut line, mut trim_next) = (text, 1, false);
    loop {
        let (before, action) = match rest.split_once("{{") {
            Some((before, action)) => (before, Some(action)),
            None => (rest, None),
        };
        let lines_before = newlines(before);
        let mut shown = if trim_next { before.trim_start() } else { before };
        let Some(action) = action else {
            push_text(&mut pieces, shown);
            return Ok(pieces);
        };
        let (action, trims_before) = match action.strip_prefix('-') {
            Some(inner) if inner.starts_with(char::is_whitespace) => (inner, true),
            _ => (action, false),
        };
        if trims_before {
            shown = shown.trim_end();
        }
        push_text(&mut pieces, shown);
        line += lines_before;
        let error = |line: usize, message: &str| TemplateError { line, message: message.into() };
        let after = if let Some(comment) = action.trim_start().strip_prefix("/*") {
            let (comment, after) = comment.split_once("*/").ok_or_else(|| error(line, "unclosed comment"))?;
            line += newlines(comment);
            let after = after.trim_start();
            trim_next = after.starts_with("-}}");
            after
                .strip_prefix("-}}")
                .or_else(|| after.strip_prefix("}}"))
                .ok_or_else(|| error(line, "comment ends before closing delimiter"))?
        } else {
            let mut lexer = Lexer { rest: action, line, tokens: Vec::new() };
            trim_next = lexer.run()?;
            let after = lexer.rest;
            pieces.push(Piece::Action { line, tokens: lexer.tokens });
            line = lexer.line;
            after
        };
        rest = after;
    }
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_string()));
    }
}

struct Lexer<'t> {
    rest: &'t str,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    /// Reads up to and with `}}`; tells whether that trims what follows.
    fn run(&mut self) -> Result<bool, TemplateError> {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            if blank > 0 {
                let (blanks, rest) = self.rest.split_at(blank);
                self.line += newlines(blanks);
                self.rest = rest;
                if let Some(rest) = rest.strip_prefix("-}}") {
                    self.rest = rest;
                    return Ok(true);
                }
                self.tokens.push(Token::Blank);
            }
            if let Some(rest) = self.rest.strip_prefix("}}") {
                self.rest = rest;
                return Ok(false);
            }
            let token = self.token()?;
            self.tokens.push(token);
        }
    }

    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError { line: self.line, message: message.into() }
    }

    fn token(&mut self) -> Result<Token, TemplateError> {
        for symbol in ["|", "(", ")", ",", ":=", "="] {
            if let Some(rest) = self.rest.strip_prefix(symbol) {
                self.rest = rest;
                return Ok(Token::Symbol(symbol));
            }
        }
        let mut chars = self.rest.chars();
        match (chars.next(), chars.next()) {
            (None, _) => Err(self.error("unclosed action")),
            (Some('"'), _) => self.quoted(),
            (Some('`'), _) => {
                let (raw, rest) = self
                    .rest
                    .get(1..)
                    .and_then(|rest| rest.split_once('`'))
                    .ok_or_else(|| self.error("unterminated raw quoted string"))?;
                self.line += newlines(raw);
                self.rest = rest;
                Ok(Token::Literal(Value::Text(raw.to_string())))
            }
            (Some('$'), _) => {
                self.skip(1);
                Ok(Token::Variable(self.name()))
            }
            (Some('.'), Some(next)) if is_name(next) && !next.is_ascii_digit() => {
                self.skip(1);
                Ok(Token::Field(self.name()))
            }
            (Some('.'), next) if !next.is_some_and(|next| next.is_ascii_digit()) => {
                self.skip(1);
                Ok(Token::Dot)
            }
            (Some(first), next)
                if first.is_ascii_digit()
                    || first == '.'
                    || (matches!(first, '-' | '+') && next.is_some_and(|next| next.is_ascii_digit())) =>
            {
                self.number()
            }
            (Some(first), _) if is_name(first) => Ok(Token::Word(self.name())),
            (Some(other), _) => Err(self.error(format!("unexpected {other:?} in action"))),
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn name(&mut self) -> String {
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name.to_string()
    }

    fn number(&mut self) -> Result<Token, TemplateError> {
        let is_part = |(at, c): (usize, char)| {
            let after_exponent = at > 0 && self.rest[..at].ends_with(['e', 'E']);
            c.is_ascii_alphanumeric()
                || c == '.'
                || c == '_'
                || (matches!(c, '+' | '-') && (at == 0 || after_exponent))
        };
        let end = self.rest.char_indices().find(|part| !is_part(*part)).map_or(self.rest.len(), |(at, _)| at);
        let (literal, rest) = self.rest.split_at(end);
        let plain = literal.replace('_', "");
        let value = plain.parse().map(Value::Int).or_else(|_| plain.parse().map(Value::Float));
        let value = value.map_err(|_| self.error(format!("bad number syntax: {literal:?}")))?;
        self.rest = rest;
        Ok(Token::Literal(value))
    }

    fn quoted(&mut self) -> Result<Token, TemplateError> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.skip(at + 1);
                    return Ok(Token::Literal(Value::Text(text)));
                }
                '\n' => break,
                '\\' => {
                    let Some((_, escaped)) = chars.next() else { break };
                    let digits = match escaped {
                        'x' => 2,
                        'u' => 4,
                        'U' => 8,
                        _ => 0,
                    };
                    match escaped {
                        'n' => text.push('\n'),
                        't' => text.push('\t'),
                        'r' => text.push('\r'),
                        '\\' | '"' | '\'' => text.push(escaped),
                        _ if digits > 0 => {
                            let hex: String = chars.by_ref().take(digits).map(|(_, digit)| digit).collect();
                            let code = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32);
                            text.push(
                                code.ok_or_else(|| self.error(format!("bad escape \\{escaped}{hex}")))?,
                            );
                        }
                        _ => return Err(self.error(format!("bad escape \\{escaped}"))),
                    }
                }
                c => text.push(c),
            }
        }
        Err(self.error("unterminated quoted string"))
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

//! Query text to tokens.

use pharos_model::{ParseDurationError, parse_duration_ms};

use crate::parser::{ParseError, Position};
use crate::text::{quote, string_from_bytes};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A word: keyword, function, metric or label name.
    Word(String),
    Number(f64),
    /// A duration literal, in milliseconds.
    Duration(i64),
    Str(String),
    /// Operators, brackets and punctuation, by their text.
    Symbol(&'static str),
    End,
    /// What cannot be read. It counts only if all before it is well-formed.
    Broken(ParseError),
}

#[derive(Debug, Clone)]
pub(super) struct Spanned {
    pub token: Token,
    pub start: Position,
    /// In bytes from the beginning of the query.
    pub end: usize,
}

/// Longest first, so that `=~` is not read as `=`.
const SYMBOLS: [&str; 26] = [
    "=~", "!~", "==", "!=", "<=", ">=", "</", ">/", "+", "-", "*", "/", "%", "^", "<", ">", "=", "(", ")",
    "{", "}", "[", "]", ",", ":", "@",
];

/// The tokens, of which the last is [`Token::End`] or [`Token::Broken`].
pub(super) fn tokenize(text: &str) -> Vec<Spanned> {
    let mut lexer = Lexer {
        text,
        at: 0,
        line: 1,
        line_start: 0,
        in_brackets: false,
        open_brace: None,
        open_parens: Vec::new(),
    };
    let mut tokens = Vec::new();
    loop {
        let spanned = lexer.next();
        let done = matches!(spanned.token, Token::End | Token::Broken(_));
        tokens.push(spanned);
        if done {
            return tokens;
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    line: u32,
    line_start: usize,
    /// Between `[` and `]` a colon separates range and step and is not part of a name.
    in_brackets: bool,
    open_brace: Option<Position>,
    open_parens: Vec<Position>,
}

impl<'t> Lexer<'t> {
    fn position(&self) -> Position {
        Position { offset: self.at, line: self.line, column: (self.at - self.line_start + 1) as u32 }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.rest().as_bytes().first() {
                Some(b'\n') => {
                    self.at += 1;
                    self.line += 1;
                    self.line_start = self.at;
                }
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                Some(b'#') => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                _ => return,
            }
        }
    }

    fn next(&mut self) -> Spanned {
        self.skip_blanks();
        let start = self.position();
        let token = self.token(start).unwrap_or_else(Token::Broken);
        Spanned { token, start, end: self.at }
    }

    fn token(&mut self, start: Position) -> Result<Token, ParseError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            if self.open_brace.is_some() {
                return Err(ParseError::new(start, "unexpected end of input inside braces"));
            }
            if self.in_brackets {
                return Err(ParseError::new(start, "unexpected end of input in range or subquery selector"));
            }
            if !self.open_parens.is_empty() {
                return Err(ParseError::new(start, "unclosed left parenthesis"));
            }
            return Ok(Token::End);
        };
        let second_is_digit = rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        match first {
            '"' | '\'' | '`' => return self.string(start, first),
            '0'..='9' => return self.number_or_duration(start),
            '.' if second_is_digit => return self.number_or_duration(start),
            c if c.is_ascii_alphabetic() || c == '_' || (c == ':' && !self.in_brackets) => {
                return self.word(start);
            }
            _ => {}
        }
        let Some(&symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) else {
            let place = if first == '!' { " after '!'" } else { "" };
            let found = if first == '!' { rest.chars().nth(1) } else { Some(first) };
            let found = found.map_or_else(|| "end of input".to_owned(), quote_char);
            return Err(ParseError::new(start, format!("unexpected character{place}: {found}")));
        };
        self.nest(symbol, start)?;
        self.at += symbol.len();
        Ok(Token::Symbol(symbol))
    }

    fn nest(&mut self, symbol: &str, start: Position) -> Result<(), ParseError> {
        match symbol {
            "(" => self.open_parens.push(start),
            ")" if self.open_parens.pop().is_none() => {
                let behind = Position { offset: start.offset + 1, column: start.column + 1, ..start };
                return Err(ParseError::new(behind, "unexpected right parenthesis ')'"));
            }
            "{" if self.open_brace.replace(start).is_some() => {
                return Err(ParseError::new(start, "unexpected left brace '{'"));
            }
            "}" if self.open_brace.take().is_none() => {
                return Err(ParseError::new(start, "unexpected character: '}'"));
            }
            "[" if std::mem::replace(&mut self.in_brackets, true) => {
                return Err(ParseError::new(start, "unexpected left bracket '['"));
            }
            "]" if !std::mem::take(&mut self.in_brackets) => {
                return Err(ParseError::new(start, "unexpected right bracket ']'"));
            }
            _ => {}
        }
        Ok(())
    }

    fn word(&mut self, start: Position) -> Result<Token, ParseError> {
        let colons = !self.in_brackets && self.open_brace.is_none();
        let rest = self.rest();
        let length = rest
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_' || (*b == b':' && colons))
            .count();
        let word = rest.get(..length).unwrap_or_default().to_owned();
        if word.is_empty() {
            // A colon inside braces.
            return Err(ParseError::new(start, "unexpected character inside braces: ':'"));
        }
        self.at += length;
        Ok(Token::Word(word))
    }

    fn number_or_duration(&mut self, start: Position) -> Result<Token, ParseError> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut length = number_length(bytes);
        let word_goes_on = |at: usize| bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        if !word_goes_on(length) {
            let literal = rest.get(..length).unwrap_or_default();
            let value = parse_number(literal)
                .ok_or_else(|| ParseError::new(start, format!("error parsing number: {}", quote(literal))))?;
            self.at += length;
            return Ok(Token::Number(value));
        }
        while word_goes_on(length) {
            length += 1;
        }
        let literal = rest.get(..length).unwrap_or_default();
        let looks_like_duration = literal.bytes().all(|b| b.is_ascii_digit() || b"ywdhms".contains(&b));
        if !looks_like_duration {
            let message = format!("bad number or duration syntax: {}", quote(literal));
            return Err(ParseError::new(start, message));
        }
        let duration = parse_duration_ms(literal).map_err(|error| {
            let message = match error {
                ParseDurationError::Invalid(text) => {
                    format!("bad number or duration syntax: {}", quote(&text))
                }
                error => error.to_string(),
            };
            ParseError::new(start, message)
        })?;
        self.at += length;
        Ok(Token::Duration(duration))
    }

    fn string(&mut self, start: Position, delimiter: char) -> Result<Token, ParseError> {
        let rest = self.rest();
        let body = rest.get(1..).unwrap_or_default();
        let mut bytes = Vec::new();
        let mut chars = body.char_indices();
        while let Some((at, c)) = chars.next() {
            if c == delimiter {
                self.line += body.get(..at).unwrap_or_default().matches('\n').count() as u32;
                if let Some(newline) = body.get(..at).unwrap_or_default().rfind('\n') {
                    self.line_start = self.at + 1 + newline + 1;
                }
                self.at += at + 2;
                return Ok(Token::Str(string_from_bytes(&bytes)));
            }
            match c {
                '\n' if delimiter != '`' => break,
                '\\' if delimiter != '`' => {
                    let tail = body.get(at + 1..).unwrap_or_default();
                    let (escaped, length) = unescape(tail, delimiter)
                        .ok_or_else(|| ParseError::new(start, "unknown escape sequence in string literal"))?;
                    bytes.extend_from_slice(&escaped);
                    for _ in tail.get(..length).unwrap_or_default().chars() {
                        chars.next();
                    }
                }
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        let kind = if delimiter == '`' { "unterminated raw string" } else { "unterminated quoted string" };
        Err(ParseError::new(start, kind))
    }
}

fn quote_char(c: char) -> String {
    if c == '\'' { "'\\''".into() } else { format!("'{c}'") }
}

/// The escape behind a backslash: what it stands for and how many bytes of `tail` it took.
fn unescape(tail: &str, delimiter: char) -> Option<(Vec<u8>, usize)> {
    let code = tail.chars().next()?;
    let one = |byte: u8| Some((vec![byte], 1));
    let by_number = |digits: std::ops::Range<usize>, radix: u32| {
        u32::from_str_radix(tail.get(digits.clone())?, radix).ok().map(|number| (number, digits.end))
    };
    match code {
        'a' => one(7),
        'b' => one(8),
        'f' => one(12),
        'n' => one(b'\n'),
        'r' => one(b'\r'),
        't' => one(b'\t'),
        'v' => one(11),
        '\\' => one(b'\\'),
        c if c == delimiter => one(c as u8),
        'x' => by_number(1..3, 16).map(|(number, used)| (vec![number as u8], used)),
        '0'..='7' => {
            let (number, used) = by_number(0..3, 8)?;
            Some((vec![u8::try_from(number).ok()?], used))
        }
        'u' | 'U' => {
            let (number, used) = by_number(if code == 'u' { 1..5 } else { 1..9 }, 16)?;
            Some((char::from_u32(number)?.to_string().into_bytes(), used))
        }
        _ => None,
    }
}

/// How many bytes belong to the number that starts here: `0x1f`, `12`, `1.5e-3`, with `_` between digits.
fn number_length(bytes: &[u8]) -> usize {
    let digits_from = |start: usize, hex: bool| {
        let digit = |b: u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
        let mut at = start;
        while let Some(&b) = bytes.get(at) {
            let separator = b == b'_' && at > start && bytes.get(at + 1).is_some_and(|b| digit(*b));
            if !digit(b) && !separator {
                break;
            }
            at += 1;
        }
        at
    };
    if matches!(bytes, [b'0', b'x' | b'X', ..]) {
        return digits_from(2, true);
    }
    let mut at = digits_from(0, false);
    if bytes.get(at) == Some(&b'.') {
        at = digits_from(at + 1, false);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        if bytes.get(at + 1 + sign).is_some_and(u8::is_ascii_digit) {
            at = digits_from(at + 1 + sign, false);
        }
    }
    at
}

/// Reads a number literal without sign: decimal, hexadecimal, `Inf` or `NaN` in any case.
pub(crate) fn parse_number(literal: &str) -> Option<f64> {
    let plain = literal.replace('_', "");
    if let Some(hex) = plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok().map(|number| number as f64);
    }
    match plain.to_ascii_lowercase().as_str() {
        "inf" => Some(f64::INFINITY),
        "nan" => Some(f64::NAN),
        _ => {
            // Go reads a leading zero as octal where it can.
            let octal = plain.len() > 1
                && plain.starts_with('0')
                && plain.bytes().all(|b| (b'0'..=b'7').contains(&b));
            if octal {
                return i64::from_str_radix(&plain, 8).ok().map(|number| number as f64);
            }
            plain.parse().ok()
        }
    }
}

/// Reads the bound of a classic bucket from its `le` label, with its sign.
pub(crate) fn parse_bound(text: &str) -> Option<f64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => f64::INFINITY,
        _ => digits
            .parse::<f64>()
            .ok()
            .filter(|_| digits.starts_with(|c: char| c.is_ascii_digit() || c == '.'))?,
    };
    Some(if negative { -value } else { value })
}

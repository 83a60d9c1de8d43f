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
        awaits_duration: false,
        had_duration: false,
        had_colon: false,
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
    /// Behind `[`, an operator or a colon: nothing but a duration may follow, and words are none but its functions.
    awaits_duration: bool,
    had_duration: bool,
    had_colon: bool,
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
                Some(b'#') if !self.awaits_duration => {
                    self.at += self.rest().find('\n').unwrap_or(self.rest().len())
                }
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
            let fault = match () {
                () if self.open_brace.is_some() => "unexpected end of input inside braces",
                () if self.awaits_duration => "unexpected end of input in duration expression",
                () if !self.open_parens.is_empty() => "unclosed left parenthesis",
                () if self.in_brackets => "unclosed left bracket",
                () => return Ok(Token::End),
            };
            return Err(ParseError::new(start, fault));
        };
        let is_letter = first.is_ascii_alphabetic() || first == '_';
        if self.open_brace.is_some() {
            return match first {
                '"' | '\'' | '`' => self.string(start, first),
                _ if is_letter => Ok(self.word()),
                '=' if rest.starts_with("==") => self.symbol("=", start),
                '=' | '!' | '{' | '}' | ',' => self.operator(start, first),
                _ => Err(unexpected_character(start, " inside braces", first)),
            };
        }
        let starts_number =
            first.is_ascii_digit() || first == '.' && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        if starts_number {
            (self.awaits_duration, self.had_duration) = (false, true);
            return self.number_or_duration(start);
        }
        if self.in_brackets && (is_letter || first == ':') {
            return self.in_duration(start, first);
        }
        match first {
            _ if self.awaits_duration && !"()+-*/%^,]".contains(first) => {
                Err(unexpected_character(start, " in duration expression", first))
            }
            '"' | '\'' | '`' => self.string(start, first),
            _ if is_letter || first == ':' => Ok(self.word()),
            _ => self.operator(start, first),
        }
    }

    /// A colon or a word between brackets.
    fn in_duration(&mut self, start: Position, first: char) -> Result<Token, ParseError> {
        let fail = |message: &str| Err(ParseError::new(start, message));
        if first == ':' {
            if self.awaits_duration && !self.had_duration {
                let behind = Position { offset: start.offset + 1, column: start.column + 1, ..start };
                return Err(ParseError::new(
                    behind,
                    "unexpected colon before duration in duration expression",
                ));
            }
            if std::mem::replace(&mut self.had_colon, true) {
                return fail("unexpected colon ':'");
            }
            return self.symbol(":", start);
        }
        let token = self.word();
        let is_function = matches!(&token, Token::Word(word) if OF_DURATIONS.iter().any(|one| word.eq_ignore_ascii_case(one)));
        match (is_function, self.awaits_duration) {
            (true, _) => Ok(token),
            (false, true) => Err(unexpected_character(start, " in duration expression", first)),
            (false, false) => fail(&format!("unexpected character: {}, expected ':'", quote_char(first))),
        }
    }

    fn symbol(&mut self, symbol: &'static str, start: Position) -> Result<Token, ParseError> {
        self.nest(symbol, start)?;
        self.at += symbol.len();
        Ok(Token::Symbol(symbol))
    }

    fn operator(&mut self, start: Position, first: char) -> Result<Token, ParseError> {
        let rest = self.rest();
        let place = if self.open_brace.is_some() { " inside braces" } else { "" };
        match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            // Regular expressions belong between braces.
            Some(&("=~" | "!~")) if place.is_empty() => {
                Err(unexpected_character(start, &format!(" after '{first}'"), '~'))
            }
            Some(symbol) => self.symbol(symbol, start),
            None if first == '!' => {
                // As Go prints the end of a text.
                let second = rest.chars().nth(1).unwrap_or(char::REPLACEMENT_CHARACTER);
                Err(unexpected_character(start, &format!(" after '!'{place}"), second))
            }
            None => Err(unexpected_character(start, "", first)),
        }
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
            "[" => (self.awaits_duration, self.had_duration, self.had_colon) = (true, false, false),
            "]" if !std::mem::take(&mut self.in_brackets) => {
                return Err(ParseError::new(start, "unexpected right bracket ']'"));
            }
            "]" => self.awaits_duration = false,
            _ => {}
        }
        Ok(())
    }

    fn word(&mut self) -> Token {
        let colons = !self.in_brackets && self.open_brace.is_none();
        let rest = self.rest();
        let length = rest
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_' || (*b == b':' && colons))
            .count();
        let word = rest.get(..length).unwrap_or_default().to_owned();
        self.at += length;
        Token::Word(word)
    }

    fn number_or_duration(&mut self, start: Position) -> Result<Token, ParseError> {
        let rest = self.rest();
        let literal = |length: usize| rest.get(..length).unwrap_or(rest);
        let read = match number_length(rest.as_bytes()) {
            Ok(length) => {
                self.at += length;
                return Ok(Token::Number(number(literal(length), start)?));
            }
            Err(read) => read,
        };
        let length = duration_length(rest.as_bytes(), read).map_err(|read| {
            let message = format!("bad number or duration syntax: {}", quote(literal(read)));
            ParseError::new(start, message)
        })?;
        let literal = literal(length);
        let duration = parse_duration_ms(literal)
            .map_err(|error| ParseError::new(start, duration_fault(literal, &error)))?;
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
                    let (escaped, length) =
                        unescape(tail, delimiter).map_err(|fault| ParseError::new(start, fault))?;
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

/// The functions of duration expressions.
const OF_DURATIONS: [&str; 4] = ["step", "range", "min_of", "max_of"];

fn unexpected_character(start: Position, place: &str, found: char) -> ParseError {
    ParseError::new(start, format!("unexpected character{place}: {}", quote_char(found)))
}

/// As Go quotes a character.
fn quote_char(c: char) -> String {
    match c {
        '\'' => "'\\''".into(),
        '"' => "'\"'".into(),
        c => quote(c.encode_utf8(&mut [0; 4])).replace('"', "'"),
    }
}

/// The escape behind a backslash: what it stands for and how many bytes of `tail` it took.
fn unescape(tail: &str, delimiter: char) -> Result<(Vec<u8>, usize), String> {
    let not_terminated = || "escape sequence not terminated".to_owned();
    let code_point = |c: char| format!("U+{:04X} {}", u32::from(c), quote_char(c));
    let code = tail.chars().next().ok_or_else(not_terminated)?;
    let by_number = |digits: std::ops::Range<usize>, radix: u32| {
        let mut number: u32 = 0;
        let mut chars = tail.chars().skip(digits.start);
        for _ in digits.clone() {
            let c = chars.next().ok_or_else(not_terminated)?;
            let digit = c
                .to_digit(radix)
                .ok_or_else(|| format!("illegal character {} in escape sequence", code_point(c)))?;
            number = number.wrapping_mul(radix).wrapping_add(digit);
        }
        Ok::<_, String>((number, digits.end))
    };
    let invalid = || "escape sequence is an invalid Unicode code point".to_owned();
    let one = |byte: u8| Ok((vec![byte], 1));
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
            Ok((vec![u8::try_from(number).map_err(|_| invalid())?], used))
        }
        'u' | 'U' => {
            let (number, used) = by_number(if code == 'u' { 1..5 } else { 1..9 }, 16)?;
            Ok((char::from_u32(number).ok_or_else(invalid)?.to_string().into_bytes(), used))
        }
        c => Err(format!("unknown escape sequence {}", code_point(c))),
    }
}

/// Reads bytes one by one.
struct Bytes<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Bytes<'_> {
    fn is(&self, set: &[u8]) -> bool {
        self.bytes.get(self.at).is_some_and(|byte| set.contains(byte))
    }

    fn take(&mut self, set: &[u8]) -> bool {
        let found = self.is(set);
        self.at += usize::from(found);
        found
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn word_goes_on(&self) -> bool {
        self.bytes.get(self.at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    }
}

/// How many bytes belong to the number that starts here: `0x1f`, `12`, `1.5e-3`, with `_` between digits. If it is
/// none, how many were looked at; they may begin a duration.
fn number_length(bytes: &[u8]) -> Result<usize, usize> {
    let mut text = Bytes { bytes, at: 0 };
    let is_hex = matches!(bytes, [b'0', b'x' | b'X', ..]);
    let digits: &[u8] = if is_hex { b"0123456789abcdefABCDEF" } else { b"0123456789" };
    if is_hex {
        text.at = 2;
        text.take(b"_");
    }
    let (mut had_dot, mut had_exponent) = (false, false);
    // As in Prometheus a point that comes first is not counted.
    let _ = (text.take(b"0"), text.take(b"."), text.take(digits));
    loop {
        if text.is(b".") {
            text.at += 1;
            if std::mem::replace(&mut had_dot, true) || text.take(b"_.") || is_hex {
                return Err(text.at);
            }
        } else if text.is(b"eE") {
            text.at += 1;
            if std::mem::replace(&mut had_exponent, true) {
                return Err(text.at);
            }
            text.take(b"+-");
            if text.take(b"._eE") || text.is_at_end() {
                return Err(text.at);
            }
        } else if text.take(b"_") {
            if text.take(b"._eE") || text.is_at_end() {
                return Err(text.at);
            }
        } else if !text.take(digits) {
            break;
        }
        while text.take(digits) {}
    }
    if text.word_goes_on() { Err(text.at) } else { Ok(text.at) }
}

/// Where the duration ends whose first number ends at `at`. If it is none, how many bytes were looked at.
fn duration_length(bytes: &[u8], at: usize) -> Result<usize, usize> {
    let mut text = Bytes { bytes, at };
    let mut units: &[u8] = b"smhdwy";
    loop {
        if !text.take(units) {
            return Err(text.at);
        }
        text.take(b"s");
        if !text.take(b"0123456789") {
            break;
        }
        while text.take(b"0123456789") {}
        // Years come first.
        units = b"smhdw";
    }
    if text.word_goes_on() { Err(text.at + 1) } else { Ok(text.at) }
}

fn number(literal: &str, start: Position) -> Result<f64, ParseError> {
    let fault = match parse_number(literal) {
        Some(value) if value.is_finite() => return Ok(value),
        Some(_) => "value out of range",
        None => "invalid syntax",
    };
    let message = format!("error parsing number: strconv.ParseFloat: parsing {}: {fault}", quote(literal));
    Err(ParseError::new(start, message))
}

fn duration_fault(literal: &str, error: &ParseDurationError) -> String {
    let units = literal.split(|c: char| c.is_ascii_digit()).filter(|unit| !unit.is_empty());
    let unknown = units.into_iter().find(|unit| !["ms", "s", "m", "h", "d", "w", "y"].contains(unit));
    match (unknown, error) {
        (Some(unit), ParseDurationError::Invalid(_)) => {
            format!("unknown unit {} in duration {}", quote(unit), quote(literal))
        }
        _ => error.to_string(),
    }
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

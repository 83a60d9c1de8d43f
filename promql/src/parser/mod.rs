//! Reads queries: a Pratt parser over the token list, then a type check.

mod check;
mod duration;
mod lexer;
mod selector;
#[cfg(test)]
mod tests;

pub(crate) use lexer::{parse_bound, parse_number};

use crate::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Cardinality, Expr, ExprKind, Extension, Matching, Position,
    Selector,
};
use crate::functions::find_function;
use crate::text::{is_valid_name, quote};
use lexer::{Spanned, Token};

/// How deep a query may nest: parentheses, calls, operators of one chain, duration expressions. Dashboards stay
/// below 20; queries that programs write join hundreds of selectors by `or`.
pub const MAX_DEPTH: u16 = 500;

/// The longest query text that is read, in bytes.
pub const MAX_QUERY_BYTES: usize = 1 << 20;

/// Which parts of the language beyond the stable ones are switched on, named as Prometheus' feature flags are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// `promql-experimental-functions`: functions and aggregations that may still change.
    pub experimental_functions: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_selectors: bool,
    /// `promql-binop-fill-modifiers`: `fill`, `fill_left`, `fill_right`.
    pub fill_modifiers: bool,
    /// `promql-delayed-name-removal`: functions mark the metric name, and it goes at the end of the query.
    pub delayed_name_removal: bool,
    /// `st-storage` and its use by `rate`, `increase`, `irate` and `resets`.
    pub start_timestamps: bool,
}

impl Features {
    /// Everything on.
    pub const ALL: Features = Features {
        experimental_functions: true,
        extended_selectors: true,
        fill_modifiers: true,
        delayed_name_removal: true,
        start_timestamps: true,
    };
}

/// Why a query text is no query, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: parse error: {message}")]
pub struct ParseError {
    pub at: Position,
    pub message: String,
}

impl ParseError {
    pub(crate) fn new(at: Position, message: impl Into<String>) -> ParseError {
        ParseError { at, message: message.into() }
    }
}

/// Reads a query of the stable language.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parse_with(text, &Features::default())
}

/// Reads a query of the stable language and of the experimental parts that `features` switches on.
pub fn parse_with(text: &str, features: &Features) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text, *features)?;
    if parser.peek() == &Token::End {
        let at = if text.is_empty() { Position::UNKNOWN } else { Position::START };
        return Err(ParseError::new(at, "no expression found in input"));
    }
    let expr = parser.expr(0)?;
    if parser.peek() != &Token::End {
        return Err(parser.unexpected(""));
    }
    check::check(&expr)?;
    Ok(expr)
}

/// Reads a series selector alone, as `match[]` parameters hold one: no `offset`, no `@`, no range.
pub fn parse_selector(text: &str) -> Result<Selector, ParseError> {
    let expr = parse(text)?;
    match expr.kind {
        ExprKind::Selector(selector) if selector.time == Default::default() => Ok(selector),
        _ => Err(ParseError::new(expr.at, "expected a series selector")),
    }
}

/// Runs a step of a recursion, on more stack if what is left is little: `MAX_DEPTH` levels may take more than
/// a thread has.
fn with_stack<T>(step: impl FnOnce() -> T) -> T {
    const ENOUGH_BYTES: usize = 128 << 10;
    const MORE_BYTES: usize = 2 << 20;
    stacker::maybe_grow(ENOUGH_BYTES, MORE_BYTES, step)
}

/// What a word is to Prometheus' lexer, which does not look at where it stands.
enum WordClass {
    Operator,
    Aggregator,
    Keyword,
    OfDuration,
    Name,
}

fn class_of(word: &str) -> WordClass {
    match word {
        "and" | "or" | "unless" | "atan2" => WordClass::Operator,
        "offset" | "smoothed" | "anchored" | "by" | "without" | "on" | "ignoring" | "group_left"
        | "group_right" | "fill" | "fill_left" | "fill_right" | "bool" => WordClass::Keyword,
        "start" | "end" | "step" | "range" | "max_of" | "min_of" => WordClass::OfDuration,
        _ if AggregateOp::by_name(word).is_some() => WordClass::Aggregator,
        _ => WordClass::Name,
    }
}

/// Whether a word is a keyword wherever it stands.
fn never_a_name(word: &str) -> bool {
    let keywords = ["bool", "on", "ignoring", "group_left", "group_right", "atan2"];
    keywords.iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Spanned>,
    next: usize,
    depth: u16,
    /// Aggregations whose arguments are being read.
    aggregations: u16,
    /// What an error in the duration that is being read says of its place.
    of_duration: &'static str,
    features: Features,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str, features: Features) -> Result<Parser<'t>, ParseError> {
        if text.len() > MAX_QUERY_BYTES {
            let message = format!("query is longer than {MAX_QUERY_BYTES} bytes");
            return Err(ParseError::new(Position::START, message));
        }
        let tokens = lexer::tokenize(text);
        Ok(Parser { text, tokens, next: 0, depth: 0, aggregations: 0, of_duration: "", features })
    }

    fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> &Token {
        self.tokens.get(self.next + ahead).map_or(&Token::End, |spanned| &spanned.token)
    }

    fn position(&self) -> Position {
        let spanned = self.tokens.get(self.next).or(self.tokens.last());
        spanned.map_or(Position::START, |spanned| spanned.start)
    }

    fn advance(&mut self) {
        self.next += 1;
    }

    fn at_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if *found == symbol)
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.at_symbol(symbol);
        self.next += usize::from(found);
        found
    }

    fn expect_symbol(&mut self, symbol: &str, context: &str) -> Result<(), ParseError> {
        if self.take_symbol(symbol) {
            return Ok(());
        }
        Err(self.unexpected(&format!("{context}, expected {}", quote(symbol))))
    }

    fn at_word(&self, keyword: &str) -> bool {
        matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn take_word(&mut self, keyword: &str) -> bool {
        let found = self.at_word(keyword);
        self.next += usize::from(found);
        found
    }

    /// An error that names the token here, as Prometheus does; `context` is empty or what was being read.
    fn unexpected(&self, context: &str) -> ParseError {
        let spanned = self.tokens.get(self.next).or(self.tokens.last());
        let text = spanned.and_then(|spanned| self.text.get(spanned.start.offset..spanned.end));
        let text = text.unwrap_or_default();
        let short = || match text.char_indices().nth(10) {
            Some((end, _)) => format!("{}...", quote(text.get(..end).unwrap_or(text))),
            None => quote(text),
        };
        let found = match self.peek() {
            // Between braces words have no meaning of their own.
            Token::Word(_) if context.starts_with("label matching") => format!("identifier {}", quote(text)),
            Token::Word(word) if parse_number(word).is_some() => format!("number {}", quote(text)),
            Token::Word(word) => match class_of(&word.to_ascii_lowercase()) {
                WordClass::Operator => format!("<op:{text}>"),
                WordClass::Aggregator => format!("<aggr:{text}>"),
                WordClass::Keyword => format!("<{text}>"),
                WordClass::OfDuration => quote(text),
                WordClass::Name if word.contains(':') => format!("metric identifier {}", quote(text)),
                WordClass::Name => format!("identifier {}", quote(text)),
            },
            Token::Number(_) => format!("number {}", short()),
            Token::Duration(_) => format!("duration {}", short()),
            Token::Str(_) => format!("string {}", short()),
            Token::Symbol("(" | ")" | "{" | "}" | "[" | "]" | "," | ":" | "=") => quote(text),
            Token::Symbol(_) => format!("<op:{text}>"),
            Token::End => "end of input".into(),
            Token::Broken(error) => return error.clone(),
        };
        let place = match context {
            "" if self.aggregations > 0 => " in aggregation".into(),
            "" => String::new(),
            context => format!(" in {context}"),
        };
        ParseError::new(self.position(), format!("unexpected {found}{place}"))
    }

    /// Runs `read` one level deeper.
    fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Parser) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.too_deep());
        }
        let result = with_stack(|| read(self));
        self.depth -= 1;
        result
    }

    fn too_deep(&self) -> ParseError {
        ParseError::new(self.position(), format!("query is nested more than {MAX_DEPTH} levels deep"))
    }

    /// Builds a node over `children`, bounded in depth.
    fn node(&self, kind: ExprKind, at: Position, child_depth: u16) -> Result<Expr, ParseError> {
        if child_depth >= MAX_DEPTH {
            return Err(self.too_deep());
        }
        Ok(Expr { kind, at, depth: child_depth + 1 })
    }

    /// An expression of operators that bind tighter than `min_precedence`.
    fn expr(&mut self, min_precedence: u8) -> Result<Expr, ParseError> {
        self.nested(|parser| {
            let mut left = parser.unary()?;
            while let Some(op) = parser.binary_op() {
                let precedence = op.precedence();
                if precedence <= min_precedence {
                    break;
                }
                let op_at = parser.position();
                parser.advance();
                let (return_bool, matching) = parser.binary_modifiers(op)?;
                let right = parser.expr(if op == BinaryOp::Pow { precedence - 1 } else { precedence })?;
                let (at, depth) = (left.at, left.depth.max(right.depth));
                let (left_side, right_side) = (Box::new(left), Box::new(right));
                let binary = Binary { op, op_at, left: left_side, right: right_side, return_bool, matching };
                left = parser.node(ExprKind::Binary(binary), at, depth)?;
            }
            Ok(left)
        })
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        use BinaryOp::*;
        match self.peek() {
            Token::Symbol(symbol) => [
                Add,
                Sub,
                Mul,
                Div,
                Mod,
                Pow,
                Equal,
                NotEqual,
                Greater,
                Less,
                GreaterOrEqual,
                LessOrEqual,
                TrimUpper,
                TrimLower,
            ]
            .into_iter()
            .find(|op| op.symbol() == *symbol),
            Token::Word(word) => {
                [And, Or, Unless, Atan2].into_iter().find(|op| op.symbol().eq_ignore_ascii_case(word))
            }
            _ => None,
        }
    }

    fn unary(&mut self) -> Result<Expr, ParseError> {
        let at = self.position();
        let negate = self.at_symbol("-");
        if !negate && !self.at_symbol("+") {
            return self.postfix();
        }
        self.advance();
        // A sign binds like `*`: looser than `^`, tighter than `+`.
        let operand = self.expr(BinaryOp::Mul.precedence())?;
        if let ExprKind::Number { value, as_duration } = operand.kind {
            let value = if negate { -value } else { value };
            return Ok(Expr::leaf(ExprKind::Number { value, as_duration }, at));
        }
        let depth = operand.depth;
        self.node(ExprKind::Unary { negate, operand: Box::new(operand) }, at, depth)
    }

    /// A primary expression with its ranges, offsets and other suffixes.
    fn postfix(&mut self) -> Result<Expr, ParseError> {
        let mut expr = self.primary()?;
        loop {
            if self.at_symbol("[") {
                expr = self.range_or_subquery(expr)?;
            } else if self.at_word("offset") {
                self.offset(&mut expr)?;
            } else if self.at_symbol("@") {
                self.at_modifier(&mut expr)?;
            } else if self.at_word("anchored") {
                self.extension(&mut expr, Extension::Anchored)?;
            } else if self.at_word("smoothed") {
                self.extension(&mut expr, Extension::Smoothed)?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, ParseError> {
        let at = self.position();
        match self.peek().clone() {
            Token::Number(value) => {
                self.advance();
                Ok(Expr::leaf(ExprKind::Number { value, as_duration: false }, at))
            }
            Token::Duration(ms) => {
                self.advance();
                Ok(Expr::leaf(ExprKind::Number { value: ms as f64 / 1000.0, as_duration: true }, at))
            }
            Token::Str(text) => {
                self.advance();
                Ok(Expr::leaf(ExprKind::Text(text), at))
            }
            Token::Symbol("(") => {
                self.advance();
                let inner = self.expr(0)?;
                if !self.take_symbol(")") {
                    return Err(self.unexpected(""));
                }
                let depth = inner.depth;
                self.node(ExprKind::Paren(Box::new(inner)), at, depth)
            }
            Token::Symbol("{") => self.selector(None, at),
            Token::Word(word) => self.word(word, at),
            Token::Symbol(_) | Token::End | Token::Broken(_) => Err(self.unexpected("")),
        }
    }

    fn word(&mut self, word: String, at: Position) -> Result<Expr, ParseError> {
        let next_opens = matches!(self.peek_at(1), Token::Symbol("("));
        if let Some(op) = AggregateOp::by_name(&word) {
            let modifier_follows = matches!(self.peek_at(1), Token::Word(next)
                if next.eq_ignore_ascii_case("by") || next.eq_ignore_ascii_case("without"));
            if next_opens || modifier_follows {
                self.advance();
                return self.aggregate(op, at);
            }
        }
        let class = class_of(&word.to_ascii_lowercase());
        if next_opens && !word.contains(':') && matches!(class, WordClass::Name | WordClass::OfDuration) {
            self.advance();
            return self.call(&word, at);
        }
        if let Some(value) =
            crate::parser::parse_number(&word).filter(|_| !word.starts_with(char::is_numeric))
        {
            self.advance();
            return Ok(Expr::leaf(ExprKind::Number { value, as_duration: false }, at));
        }
        if never_a_name(&word) {
            return Err(self.unexpected(""));
        }
        self.advance();
        self.selector(Some(word), at)
    }

    fn call(&mut self, name: &str, at: Position) -> Result<Expr, ParseError> {
        // `step` and the like are keywords of duration expressions, hence take any case.
        let folded = name.to_ascii_lowercase();
        let any_case = ["start", "end", "step", "range", "min_of", "max_of"].contains(&folded.as_str());
        let args = self.args("")?;
        let Some(function) = find_function(if any_case { &folded } else { name }) else {
            return Err(ParseError::new(at, format!("unknown function with name {}", quote(name))));
        };
        if function.experimental && !self.features.experimental_functions {
            return Err(ParseError::new(at, format!("function {} is not enabled", quote(name))));
        }
        let depth = args.iter().map(|arg| arg.depth).max().unwrap_or(0);
        self.node(ExprKind::Call { function, args }, at, depth)
    }

    /// Whether an expression may begin here, or what cannot be read.
    fn starts_expression(&self) -> bool {
        match self.peek() {
            Token::Symbol(symbol) => matches!(*symbol, "(" | "{" | "+" | "-"),
            Token::Word(word) => !never_a_name(word),
            Token::Number(_) | Token::Duration(_) | Token::Str(_) | Token::Broken(_) => true,
            Token::End => false,
        }
    }

    /// `(a, b)`
    fn args(&mut self, context: &str) -> Result<Vec<Expr>, ParseError> {
        if !self.take_symbol("(") {
            return Err(self.unexpected(context));
        }
        let mut args = Vec::new();
        while !self.take_symbol(")") {
            if !args.is_empty() {
                let comma = self.position();
                if !self.take_symbol(",") {
                    return Err(self.unexpected(context));
                }
                if !self.starts_expression() {
                    return Err(ParseError::new(comma, "trailing commas not allowed in function call args"));
                }
            }
            args.push(self.expr(0)?);
        }
        Ok(args)
    }

    fn aggregate(&mut self, op: AggregateOp, at: Position) -> Result<Expr, ParseError> {
        let mut modifier = self.grouping_modifier()?;
        self.aggregations += 1;
        let mut args = self.args("")?;
        self.aggregations -= 1;
        if modifier.is_none() {
            modifier = self.grouping_modifier()?;
        }
        let (without, grouping) = modifier.unwrap_or_default();
        let wanted = 1 + usize::from(op.param_type().is_some());
        if args.is_empty() {
            return Err(ParseError::new(at, "no arguments for aggregate expression provided"));
        }
        if op.is_experimental() && !self.features.experimental_functions {
            let message = format!(
                "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                op.name()
            );
            return Err(ParseError::new(at, message));
        }
        if args.len() != wanted {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {}",
                args.len()
            );
            return Err(ParseError::new(at, message));
        }
        let depth = args.iter().map(|arg| arg.depth).max().unwrap_or(0);
        let operand = Box::new(args.remove(wanted - 1));
        let param = args.pop().map(Box::new);
        self.node(ExprKind::Aggregate(Aggregate { op, operand, param, without, grouping }), at, depth)
    }

    /// `by (a, b)` or `without (a, b)`
    fn grouping_modifier(&mut self) -> Result<Option<(bool, Vec<String>)>, ParseError> {
        let without = self.at_word("without");
        if !without && !self.at_word("by") {
            return Ok(None);
        }
        self.advance();
        Ok(Some((without, self.labels()?)))
    }

    /// `(a, "b.c")`
    fn labels(&mut self) -> Result<Vec<String>, ParseError> {
        self.expect_symbol("(", "grouping opts")?;
        let mut labels = Vec::new();
        while !self.take_symbol(")") {
            if !labels.is_empty() {
                if !self.take_symbol(",") {
                    return Err(self.unexpected("grouping opts, expected \",\" or \")\""));
                }
                if self.take_symbol(")") {
                    break;
                }
            }
            match self.peek().clone() {
                Token::Word(word) if !word.contains(':') => labels.push(word),
                Token::Str(text) if is_valid_name(&text) => labels.push(text),
                _ => return Err(self.unexpected("grouping opts, expected label")),
            }
            self.advance();
        }
        Ok(labels)
    }

    /// `bool`, `on`, `ignoring` and what goes with them.
    fn binary_modifiers(&mut self, op: BinaryOp) -> Result<(bool, Matching), ParseError> {
        let mut matching = Matching::default();
        if op.is_set() {
            matching.cardinality = Cardinality::ManyToMany;
        }
        let return_bool = self.take_word("bool");
        matching.on = self.at_word("on");
        if matching.on || self.at_word("ignoring") {
            self.advance();
            matching.labels = self.labels()?;
            let group_left = self.at_word("group_left");
            if group_left || self.at_word("group_right") {
                self.advance();
                matching.cardinality =
                    if group_left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if self.at_symbol("(") || !self.starts_expression() {
                    matching.include = self.labels()?;
                }
            }
        }
        self.fill_modifiers(&mut matching)?;
        Ok((return_bool, matching))
    }

    /// `fill(x)`, `fill_left(x)`, `fill_right(x)`; a metric may be called so too, hence the parenthesis.
    fn fill_modifiers(&mut self, matching: &mut Matching) -> Result<(), ParseError> {
        loop {
            let (left, right) = if self.at_word("fill") {
                (true, true)
            } else if self.at_word("fill_left") {
                (true, false)
            } else if self.at_word("fill_right") {
                (false, true)
            } else {
                return Ok(());
            };
            let at = self.position();
            if !matches!(self.peek_at(1), Token::Symbol("(")) {
                return Ok(());
            }
            if !self.features.fill_modifiers {
                return Err(ParseError::new(at, "binop fill modifiers are experimental and not enabled"));
            }
            self.advance();
            self.advance();
            let value = self.signed_number("fill modifier, expected number")?;
            self.expect_symbol(")", "fill modifier")?;
            if left {
                matching.fill_left = Some(value);
            }
            if right {
                matching.fill_right = Some(value);
            }
        }
    }

    /// `1`, `-1.5`, `+Inf`
    fn signed_number(&mut self, context: &str) -> Result<f64, ParseError> {
        let negate = self.at_symbol("-");
        if negate || self.at_symbol("+") {
            self.advance();
        }
        let value = match self.peek() {
            Token::Number(value) => Some(*value),
            Token::Duration(ms) => Some(*ms as f64 / 1000.0),
            Token::Word(word) => parse_number(word),
            _ => None,
        };
        let Some(value) = value else {
            return Err(self.unexpected(context));
        };
        self.advance();
        Ok(if negate { -value } else { value })
    }
}

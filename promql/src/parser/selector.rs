//! Selectors and what may follow them: ranges, subqueries, `offset`, `@`, `anchored`, `smoothed`.

use pharos_model::{METRIC_NAME, MatchOp, Matcher};

use super::lexer::Token;
use super::{ParseError, Parser};
use crate::ast::{At, Expr, ExprKind, Extension, Position, Selector, Subquery, TimeShift};
use crate::text::format_float;

impl Parser<'_> {
    /// A selector whose name, if any, is already read.
    pub(super) fn selector(&mut self, name: Option<String>, at: Position) -> Result<Expr, ParseError> {
        let mut matchers = Vec::new();
        if self.take_symbol("{") {
            let mut first = true;
            while !self.take_symbol("}") {
                if !std::mem::take(&mut first) {
                    if !self.take_symbol(",") {
                        return Err(self.unexpected("label matching, expected \",\" or \"}\""));
                    }
                    if self.take_symbol("}") {
                        break;
                    }
                }
                matchers.push(self.matcher()?);
            }
        }
        if let Some(name) = &name {
            matchers.push(Matcher::equal(METRIC_NAME, name.clone()));
        }
        let selector = Selector { name, matchers, time: TimeShift::default(), extension: None };
        Ok(Expr::leaf(ExprKind::Selector(selector), at))
    }

    /// `label="value"`, or a metric name alone in quotes.
    fn matcher(&mut self) -> Result<Matcher, ParseError> {
        let at = self.position();
        let (label, quoted) = match self.peek().clone() {
            Token::Word(word) => (word, false),
            Token::Str(text) => (text, true),
            _ => return Err(self.unexpected("label matching, expected identifier or \"}\"")),
        };
        self.advance();
        let op = match self.peek() {
            Token::Symbol("=") => MatchOp::Equal,
            Token::Symbol("!=") => MatchOp::NotEqual,
            Token::Symbol("=~") => MatchOp::Regex,
            Token::Symbol("!~") => MatchOp::NotRegex,
            _ if quoted => return Ok(Matcher::equal(METRIC_NAME, label)),
            _ => return Err(self.unexpected("label matching, expected label matching operator")),
        };
        self.advance();
        let Token::Str(value) = self.peek().clone() else {
            return Err(self.unexpected("label matching, expected string"));
        };
        self.advance();
        Matcher::new(label, op, value).map_err(|fault| ParseError::new(at, fault.to_string()))
    }

    /// `[5m]` or `[5m:1m]` behind `operand`.
    pub(super) fn range_or_subquery(&mut self, operand: Expr) -> Result<Expr, ParseError> {
        let bracket = self.position();
        self.advance();
        let range =
            self.duration("subquery or range selector, expected number, duration, step(), or range()")?;
        let at = operand.at;
        if self.take_symbol("]") {
            let ExprKind::Selector(selector) = operand.kind else {
                return Err(ParseError::new(bracket, "ranges only allowed for vector selectors"));
            };
            if selector.time.offset.is_some() {
                return Err(ParseError::new(bracket, "no offset modifiers allowed before range"));
            }
            if selector.time.at.is_some() {
                return Err(ParseError::new(bracket, "no @ modifiers allowed before range"));
            }
            if let Some(extension) = selector.extension {
                let message = format!("no {} modifier allowed before range", extension.keyword());
                return Err(ParseError::new(bracket, message));
            }
            return Ok(Expr::leaf(ExprKind::Range { selector, range }, at));
        }
        if !self.take_symbol(":") {
            return Err(self.unexpected("subquery or range, expected \":\" or \"]\""));
        }
        let in_step = "subquery selector, expected number, duration, step(), range(), or \"]\"";
        let step = if self.at_symbol("]") { None } else { Some(self.duration(in_step)?) };
        self.expect_symbol("]", "subquery selector")?;
        let depth = operand.depth;
        let subquery = Subquery { operand: Box::new(operand), range, step, time: TimeShift::default() };
        self.node(ExprKind::Subquery(subquery), at, depth)
    }

    pub(super) fn offset(&mut self, expr: &mut Expr) -> Result<(), ParseError> {
        self.advance();
        let at = expr.at;
        let offset = self.offset_duration()?;
        let Some(time) = time_shift(expr) else {
            return Err(ParseError::new(
                at,
                "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            ));
        };
        if time.offset.replace(offset).is_some() {
            return Err(ParseError::new(at, "offset may not be set multiple times"));
        }
        Ok(())
    }

    /// `@ 1609746000`, `@ start()`, `@ end()`
    pub(super) fn at_modifier(&mut self, expr: &mut Expr) -> Result<(), ParseError> {
        self.advance();
        let at = expr.at;
        let edge = if self.at_word("start") {
            Some(At::Start)
        } else if self.at_word("end") {
            Some(At::End)
        } else {
            None
        };
        let modifier = match edge {
            Some(edge) => {
                self.advance();
                if !self.take_symbol("(") || !self.take_symbol(")") {
                    return Err(self.unexpected("@, expected timestamp"));
                }
                edge
            }
            None => {
                let seconds = self.signed_number("@, expected timestamp")?;
                let ms = seconds * 1000.0;
                if !ms.is_finite() || ms.abs() >= i64::MAX as f64 {
                    let message =
                        format!("timestamp out of bounds for @ modifier: {}", format_float(seconds));
                    return Err(ParseError::new(at, message));
                }
                At::TimeMs(ms.round() as i64)
            }
        };
        let Some(time) = time_shift(expr) else {
            return Err(ParseError::new(
                at,
                "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            ));
        };
        if time.at.replace(modifier).is_some() {
            return Err(ParseError::new(at, "@ <timestamp> may not be set multiple times"));
        }
        Ok(())
    }

    pub(super) fn extension(&mut self, expr: &mut Expr, extension: Extension) -> Result<(), ParseError> {
        let keyword = extension.keyword();
        let at = self.position();
        if !self.features.extended_selectors {
            return Err(ParseError::new(at, format!("{keyword} modifier is experimental and not enabled")));
        }
        self.advance();
        let selector = match &mut expr.kind {
            ExprKind::Range { selector, .. } => selector,
            ExprKind::Selector(selector) if extension == Extension::Smoothed => selector,
            _ => {
                let allowed = match extension {
                    Extension::Anchored => "a range vector selector",
                    Extension::Smoothed => "an instant vector selector or range vector selector",
                };
                return Err(ParseError::new(at, format!("{keyword} modifier must be preceded by {allowed}")));
            }
        };
        match selector.extension.replace(extension) {
            None => Ok(()),
            Some(_) => {
                Err(ParseError::new(at, "anchored and smoothed modifiers cannot be used together or twice"))
            }
        }
    }
}

fn time_shift(expr: &mut Expr) -> Option<&mut TimeShift> {
    match &mut expr.kind {
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => Some(&mut selector.time),
        ExprKind::Subquery(subquery) => Some(&mut subquery.time),
        _ => None,
    }
}

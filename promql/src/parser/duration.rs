//! Duration expressions: `[5m * 2]`, `offset -step()`.

use super::lexer::Token;
use super::{ParseError, Parser};
use crate::ast::{BinaryOp, DurationExpr};

impl Parser<'_> {
    /// A whole duration expression, as stands between brackets: it is positive. `context` is what an error in it says
    /// of its place.
    pub(super) fn duration(&mut self, context: &'static str) -> Result<DurationExpr, ParseError> {
        self.of_duration = context;
        let at = self.position();
        let duration = self.duration_of_precedence(0, &mut 0)?;
        match literal_s(&duration) {
            Some(seconds) if seconds <= 0.0 => Err(ParseError::new(at, "duration must be greater than 0")),
            _ => Ok(duration),
        }
    }

    /// The tighter form that stands behind `offset`: what follows an operator belongs to the query again.
    pub(super) fn offset_duration(&mut self) -> Result<DurationExpr, ParseError> {
        self.of_duration = "offset, expected number, duration, step(), or range()";
        if self.take_symbol("-") {
            return Ok(DurationExpr::Negate(Box::new(self.duration_primary(&mut 0)?)));
        }
        if self.take_symbol("+") {
            return Ok(DurationExpr::Plus(Box::new(self.duration_primary(&mut 0)?)));
        }
        self.duration_primary(&mut 0)
    }

    fn expect_in_duration(&mut self, symbol: &str) -> Result<(), ParseError> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.unexpected(self.of_duration)) }
    }

    /// `chain` counts the operators, since a chain of them makes a tree as deep as it is long.
    fn duration_of_precedence(
        &mut self,
        min_precedence: u8,
        chain: &mut u16,
    ) -> Result<DurationExpr, ParseError> {
        self.nested(|parser| {
            let mut left = parser.signed_duration(chain)?;
            while let Some(op) = parser.duration_op().filter(|op| op.precedence() > min_precedence) {
                let at = parser.position();
                parser.advance();
                *chain += 1;
                if *chain > super::MAX_DEPTH {
                    return Err(parser.too_deep());
                }
                let tighter = if op == BinaryOp::Pow { op.precedence() - 1 } else { op.precedence() };
                let right = parser.duration_of_precedence(tighter, chain)?;
                let fault = match op {
                    BinaryOp::Div => "division by zero",
                    _ => "modulo by zero",
                };
                if matches!(op, BinaryOp::Div | BinaryOp::Mod) && literal_s(&right) == Some(0.0) {
                    return Err(ParseError::new(at, fault));
                }
                left = DurationExpr::Binary { op, left: Box::new(left), right: Box::new(right) };
            }
            Ok(left)
        })
    }

    fn duration_op(&self) -> Option<BinaryOp> {
        let Token::Symbol(symbol) = self.peek() else { return None };
        [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div, BinaryOp::Mod, BinaryOp::Pow]
            .into_iter()
            .find(|op| op.symbol() == *symbol)
    }

    fn signed_duration(&mut self, chain: &mut u16) -> Result<DurationExpr, ParseError> {
        let negate = self.at_symbol("-");
        if !negate && !self.at_symbol("+") {
            return self.duration_primary(chain);
        }
        self.advance();
        let operand = Box::new(self.duration_of_precedence(BinaryOp::Mul.precedence(), chain)?);
        Ok(if negate { DurationExpr::Negate(operand) } else { DurationExpr::Plus(operand) })
    }

    fn duration_primary(&mut self, chain: &mut u16) -> Result<DurationExpr, ParseError> {
        match self.peek().clone() {
            Token::Duration(ms) => {
                self.advance();
                Ok(DurationExpr::Literal { ms })
            }
            Token::Number(value) => {
                if value * 1e9 > i64::MAX as f64 {
                    return Err(ParseError::new(self.position(), "duration out of range"));
                }
                self.advance();
                Ok(DurationExpr::Number(value))
            }
            Token::Symbol("(") => {
                self.advance();
                let inner = self.duration_of_precedence(0, chain)?;
                self.expect_in_duration(")")?;
                Ok(DurationExpr::Paren(Box::new(inner)))
            }
            Token::Word(word) => self.duration_function(&word, chain),
            _ => Err(self.unexpected(self.of_duration)),
        }
    }

    fn duration_function(&mut self, word: &str, chain: &mut u16) -> Result<DurationExpr, ParseError> {
        let name = word.to_ascii_lowercase();
        match name.as_str() {
            "step" | "range" => {
                self.advance();
                self.expect_in_duration("(")?;
                self.expect_in_duration(")")?;
                Ok(if name == "step" { DurationExpr::Step } else { DurationExpr::Range })
            }
            "min_of" | "max_of" => {
                self.advance();
                self.expect_in_duration("(")?;
                let left = Box::new(self.duration_of_precedence(0, chain)?);
                self.expect_in_duration(",")?;
                let right = Box::new(self.duration_of_precedence(0, chain)?);
                self.expect_in_duration(")")?;
                Ok(DurationExpr::Pick { max: name == "max_of", left, right })
            }
            _ => Err(self.unexpected(self.of_duration)),
        }
    }
}

/// The seconds of a plain duration or number, with or without a sign.
fn literal_s(duration: &DurationExpr) -> Option<f64> {
    match duration {
        DurationExpr::Literal { ms } => Some(*ms as f64 / 1000.0),
        DurationExpr::Number(seconds) => Some(*seconds),
        DurationExpr::Negate(inner) => literal_s(inner).map(|seconds| -seconds),
        DurationExpr::Plus(inner) | DurationExpr::Paren(inner) => literal_s(inner),
        _ => None,
    }
}

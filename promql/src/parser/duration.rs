//! Duration expressions: `[5m * 2]`, `offset -step()`.

use super::lexer::Token;
use super::{ParseError, Parser};
use crate::ast::{BinaryOp, DurationExpr};
use crate::text::quote;

impl Parser<'_> {
    /// A whole duration expression, as stands between brackets.
    pub(super) fn duration(&mut self) -> Result<DurationExpr, ParseError> {
        self.duration_of_precedence(0, &mut 0)
    }

    /// The tighter form that stands behind `offset`: what follows an operator belongs to the query again.
    pub(super) fn offset_duration(&mut self) -> Result<DurationExpr, ParseError> {
        if self.take_symbol("-") {
            return Ok(DurationExpr::Negate(Box::new(self.duration_primary(&mut 0)?)));
        }
        if self.take_symbol("+") {
            return Ok(DurationExpr::Plus(Box::new(self.duration_primary(&mut 0)?)));
        }
        self.duration_primary(&mut 0)
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
                parser.advance();
                *chain += 1;
                if *chain > super::MAX_DEPTH {
                    return Err(parser.too_deep());
                }
                let tighter = if op == BinaryOp::Pow { op.precedence() - 1 } else { op.precedence() };
                let right = parser.duration_of_precedence(tighter, chain)?;
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
                self.advance();
                Ok(DurationExpr::Number(value))
            }
            Token::Symbol("(") => {
                self.advance();
                let inner = self.duration_of_precedence(0, chain)?;
                self.expect_symbol(")", "duration expression")?;
                Ok(DurationExpr::Paren(Box::new(inner)))
            }
            Token::Word(word) => self.duration_function(&word, chain),
            _ => Err(self.unexpected("duration expression, expected number, duration, step(), or range()")),
        }
    }

    fn duration_function(&mut self, word: &str, chain: &mut u16) -> Result<DurationExpr, ParseError> {
        let at = self.position();
        let name = word.to_ascii_lowercase();
        match name.as_str() {
            "step" | "range" => {
                self.advance();
                self.expect_symbol("(", "duration expression")?;
                self.expect_symbol(")", "duration expression")?;
                Ok(if name == "step" { DurationExpr::Step } else { DurationExpr::Range })
            }
            "min_of" | "max_of" => {
                self.advance();
                self.expect_symbol("(", "duration expression")?;
                let left = Box::new(self.duration_of_precedence(0, chain)?);
                self.expect_symbol(",", "duration expression")?;
                let right = Box::new(self.duration_of_precedence(0, chain)?);
                self.expect_symbol(")", "duration expression")?;
                Ok(DurationExpr::Pick { max: name == "max_of", left, right })
            }
            _ => {
                let message = format!(
                    "unexpected identifier {} in duration expression, expected number, duration, step(), or range()",
                    quote(word)
                );
                Err(ParseError::new(at, message))
            }
        }
    }
}

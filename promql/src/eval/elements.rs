//! Operators on single values.

use std::sync::Arc;

use super::Evaluator;
use super::frame::Cell;
use crate::annotations::Note;
use crate::ast::{BinaryOp, Position};
use crate::float::modulo;
use crate::histogram::{Conflicts, Histogram, IncompatibleSchemas};

/// What an operator makes of two values.
pub(super) enum Outcome {
    Value(Cell),
    /// A comparison: the left value and whether it holds.
    Compared(Cell, bool),
    /// The operator has no meaning for the two; a note says so.
    Nothing,
}

/// Between scalars comparisons give 0 and 1.
pub(super) fn scalar_operation(op: BinaryOp, left: f64, right: f64) -> f64 {
    match float_operation(op, left, right) {
        Some(value) => value,
        None => f64::from(u8::from(compare(op, left, right))),
    }
}

/// The value of an arithmetic operator, nothing for the other ones.
#[inline]
fn float_operation(op: BinaryOp, left: f64, right: f64) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => modulo(left, right),
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Atan2 => left.atan2(right),
        _ => return None,
    })
}

fn compare(op: BinaryOp, left: f64, right: f64) -> bool {
    match op {
        BinaryOp::Equal => left == right,
        BinaryOp::NotEqual => left != right,
        BinaryOp::Greater => left > right,
        BinaryOp::Less => left < right,
        BinaryOp::GreaterOrEqual => left >= right,
        BinaryOp::LessOrEqual => left <= right,
        _ => false,
    }
}

impl Evaluator<'_> {
    /// Applies an operator, with notes for what does not go together.
    pub(super) fn operation(&self, op: BinaryOp, left: &Cell, right: &Cell, at: Position) -> Outcome {
        let nothing = |left, right| {
            self.note(&Note::IncompatibleTypes { op: op.symbol(), left, right }, at);
            Outcome::Nothing
        };
        let histogram = |value: Histogram| Outcome::Value(Cell::Histogram(Arc::new(value.compacted())));
        match (left, right) {
            (Cell::Absent, _) | (_, Cell::Absent) => Outcome::Nothing,
            (Cell::Float(left), Cell::Float(right)) => match float_operation(op, *left, *right) {
                Some(value) => Outcome::Value(Cell::Float(value)),
                None if op.is_comparison() => {
                    Outcome::Compared(Cell::Float(*left), compare(op, *left, *right))
                }
                None => nothing("float", "float"),
            },
            (Cell::Float(factor), Cell::Histogram(value)) => match op {
                BinaryOp::Mul => histogram(value.as_ref().clone().scaled(*factor)),
                _ => nothing("float", "histogram"),
            },
            (Cell::Histogram(value), Cell::Float(number)) => match op {
                BinaryOp::Mul => histogram(value.as_ref().clone().scaled(*number)),
                BinaryOp::Div => histogram(value.as_ref().clone().divided(*number)),
                BinaryOp::TrimUpper => histogram(value.trimmed(*number, true)),
                BinaryOp::TrimLower => histogram(value.trimmed(*number, false)),
                _ => nothing("histogram", "float"),
            },
            (Cell::Histogram(left), Cell::Histogram(right)) => match op {
                BinaryOp::Add | BinaryOp::Sub => self.histogram_sum(op, left, right, at),
                BinaryOp::Equal => Outcome::Compared(Cell::Histogram(Arc::clone(left)), left.same_as(right)),
                BinaryOp::NotEqual => {
                    Outcome::Compared(Cell::Histogram(Arc::clone(left)), !left.same_as(right))
                }
                _ => nothing("histogram", "histogram"),
            },
        }
    }

    fn histogram_sum(&self, op: BinaryOp, left: &Histogram, right: &Histogram, at: Position) -> Outcome {
        let (combined, during) = match op {
            BinaryOp::Add => (left.plus(right), "addition"),
            _ => (left.minus(right), "subtraction"),
        };
        let (mut value, Conflicts { resets, bounds }) = match combined {
            Ok(combined) => combined,
            Err(IncompatibleSchemas) => {
                self.note(&Note::IncompatibleBuckets { op: op.symbol() }, at);
                return Outcome::Nothing;
            }
        };
        if op == BinaryOp::Sub {
            value.reset_hint = crate::histogram::ResetHint::Gauge;
        }
        if resets {
            self.note(&Note::ResetCollision { during }, at);
        }
        if bounds {
            self.note(&Note::MismatchedBounds { during }, at);
        }
        Outcome::Value(Cell::Histogram(Arc::new(value.compacted())))
    }
}

//! Durations, offsets and `@` in milliseconds.

use super::frame::Frame;
use super::{EvalError, Evaluator, Result};
use crate::ast::{At, BinaryOp, DurationExpr, TimeShift};

/// Where in time a selector looks for each step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shift {
    /// The one time of `@`, which then holds for all steps.
    pub at_ms: Option<i64>,
    pub offset_ms: i64,
}

impl Shift {
    /// The time that is looked at for a step.
    pub(crate) fn time_ms(&self, frame: Frame, step: usize) -> i64 {
        self.at_ms.unwrap_or_else(|| frame.time_ms(step)).saturating_sub(self.offset_ms)
    }

    /// The first and the last time that are looked at.
    pub(crate) fn span_ms(&self, frame: Frame) -> (i64, i64) {
        (self.time_ms(frame, 0), self.time_ms(frame, frame.steps().saturating_sub(1)))
    }
}

impl Evaluator<'_> {
    pub(super) fn shift(&self, time: &TimeShift) -> Result<Shift> {
        let at_ms = time.at.map(|at| match at {
            At::TimeMs(time_ms) => time_ms,
            At::Start => self.query.start_ms,
            At::End => self.query.end_ms,
        });
        let offset_ms = time.offset.as_ref().map_or(Ok(0), |offset| self.duration_ms(offset))?;
        Ok(Shift { at_ms, offset_ms })
    }

    /// A range or a step, which must be positive.
    pub(super) fn positive_duration_ms(&self, duration: &DurationExpr) -> Result<i64> {
        match self.duration_ms(duration)? {
            ms if ms > 0 => Ok(ms),
            _ => Err(EvalError::execution("duration must be greater than 0")),
        }
    }

    fn duration_ms(&self, duration: &DurationExpr) -> Result<i64> {
        if let DurationExpr::Literal { ms } = duration {
            return Ok(*ms);
        }
        let ms = (self.duration_s(duration)? * 1000.0).round();
        // Prometheus keeps durations in nanoseconds.
        if ms.is_nan() || ms.abs() > (i64::MAX / 1_000_000) as f64 {
            return Err(EvalError::execution("duration out of range"));
        }
        Ok(ms as i64)
    }

    fn duration_s(&self, duration: &DurationExpr) -> Result<f64> {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        Ok(match duration {
            DurationExpr::Literal { ms } => seconds(*ms),
            DurationExpr::Number(value) => *value,
            DurationExpr::Step => seconds(self.query.step_ms),
            DurationExpr::Range => seconds(self.query.end_ms.saturating_sub(self.query.start_ms)),
            DurationExpr::Negate(inner) => -self.duration_s(inner)?,
            DurationExpr::Plus(inner) | DurationExpr::Paren(inner) => self.duration_s(inner)?,
            DurationExpr::Pick { max, left, right } => {
                let (left, right) = (self.duration_s(left)?, self.duration_s(right)?);
                if *max { left.max(right) } else { left.min(right) }
            }
            DurationExpr::Binary { op, left, right } => {
                let (left, right) = (self.duration_s(left)?, self.duration_s(right)?);
                match op {
                    BinaryOp::Add => left + right,
                    BinaryOp::Sub => left - right,
                    BinaryOp::Mul => left * right,
                    BinaryOp::Pow => left.powf(right),
                    BinaryOp::Div if right == 0.0 => return Err(EvalError::execution("division by zero")),
                    BinaryOp::Mod if right == 0.0 => return Err(EvalError::execution("modulo by zero")),
                    BinaryOp::Div => left / right,
                    _ => left % right,
                }
            }
        })
    }
}

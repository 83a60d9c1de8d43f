//! `and`, `or`, `unless`.

use super::frame::{Cell, Frame, Series};
use super::grouping::{Groups, LabelChoice};
use super::{Evaluator, Result, Sink};
use crate::ast::{Binary, BinaryOp};

impl Evaluator<'_> {
    pub(super) fn set_operation(&self, binary: &Binary, frame: Frame, sink: &mut Sink<'_>) -> Result<()> {
        let steps = frame.steps();
        let choice = LabelChoice::new(&binary.matching.labels, binary.matching.on, self);
        // `or` asks what the left side has, the others what the right side has.
        let (mut kept, asked) = match binary.op {
            BinaryOp::Or => {
                let left = self.vector(&binary.left, frame)?;
                (self.vector(&binary.right, frame)?, left)
            }
            _ => {
                let left = self.vector(&binary.left, frame)?;
                (left, self.vector(&binary.right, frame)?)
            }
        };
        let mut groups = Groups::new(choice);
        let mut present: Vec<Vec<bool>> = Vec::new();
        for series in &asked {
            let group = groups.group(&series.metric);
            if present.len() <= group {
                present.resize_with(group + 1, || vec![false; steps]);
            }
            let Some(present) = present.get_mut(group) else { continue };
            for (step, slot) in present.iter_mut().enumerate() {
                *slot |= series.row.is_present(step);
            }
        }
        let wanted = binary.op == BinaryOp::And;
        for series in &mut kept {
            let present = groups.get(&series.metric).and_then(|group| present.get(group));
            for step in 0..steps {
                if present.is_some_and(|present| present.get(step) == Some(&true)) != wanted {
                    series.row.set(step, Cell::Absent);
                }
            }
        }
        if binary.op != BinaryOp::Or {
            self.release(&asked);
            self.release(&kept);
            return self.hand_on_filled(kept, sink);
        }
        // A series may come from the left at some steps and from the right at others.
        kept.retain(|series| !series.row.is_empty());
        let both: Vec<Series> = asked.into_iter().chain(kept).collect();
        self.merged(both, sink)
    }

    fn hand_on_filled(&self, all: Vec<Series>, sink: &mut Sink<'_>) -> Result<()> {
        for Series { metric, mut row } in all {
            if !row.is_empty() {
                sink(&metric, &mut row)?;
            }
        }
        Ok(())
    }
}

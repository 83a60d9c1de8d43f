//! Aggregations over the parts of a source, each folded by a thread of its own.

use std::sync::Arc;

use super::aggregate::{Fold, Folded, MERGED};
use super::frame::Frame;
use super::labels::has_one_name;
use super::math::float_function;
use super::tally::Tally;
use super::{Evaluator, Result, on_deep_stack};
use crate::ast::{Aggregate, Expr, ExprKind};
use crate::source::{SelectRequest, SourcePart};

impl Evaluator<'_> {
    /// The parts in which an aggregation's operand can be evaluated: it looks at one selector, once, and at each of
    /// its series by itself.
    pub(super) fn parts_of(&self, aggregate: &Aggregate, frame: Frame) -> Result<Vec<SourcePart<'_>>> {
        let operand = &aggregate.operand;
        // Series that may lose their names and be the same then have to be looked at together.
        if !MERGED.contains(&aggregate.op)
            || !has_one_name(operand)
            || self.is_worth_repeating(operand, frame)
        {
            return Ok(Vec::new());
        }
        match self.only_request(operand, frame)? {
            Some(request) => Ok(self.source.parts(&request)?),
            None => Ok(Vec::new()),
        }
    }

    /// What an expression asks its source for, if it asks once and takes series one by one.
    fn only_request<'x>(&self, expr: &'x Expr, frame: Frame) -> Result<Option<SelectRequest<'x>>> {
        let is_number = |expr: &Expr| matches!(expr.unwrap_parens().kind, ExprKind::Number { .. });
        match &expr.kind {
            ExprKind::Paren(inner) => self.only_request(inner, frame),
            ExprKind::Unary { operand, .. } => self.only_request(operand, frame),
            ExprKind::Selector(selector) if selector.extension.is_none() => {
                Ok(Some(self.newest_request(selector, self.shift(&selector.time)?, frame)))
            }
            ExprKind::Binary(binary) if is_number(&binary.right) => self.only_request(&binary.left, frame),
            ExprKind::Binary(binary) if is_number(&binary.left) => self.only_request(&binary.right, frame),
            ExprKind::Call { function, args } => match args.as_slice() {
                [operand] if float_function(function.name).is_some() => self.only_request(operand, frame),
                [range] if function.name != "absent_over_time" => match &range.unwrap_parens().kind {
                    ExprKind::Range { selector, range } => {
                        let windows = self.windows(selector, range, frame)?;
                        Ok(Some(self.range_request(selector, &windows, Some(function.name))))
                    }
                    _ => Ok(None),
                },
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// Folds each part and joins the groups, in the order of the parts: sums are the same from run to run.
    pub(super) fn folded_in_parts(
        &self,
        aggregate: &Aggregate,
        frame: Frame,
        parts: Vec<SourcePart<'_>>,
    ) -> Result<Folded> {
        let (query, limits, held, histogram_use) =
            (self.query, self.limits, &self.held, self.histogram_use.get());
        let is_counted = self.tally.borrow().is_some();
        let fold = |part: SourcePart<'_>| {
            let evaluator = Evaluator::new(query, &*part, limits, Arc::clone(held));
            evaluator.histogram_use.set(histogram_use);
            evaluator.tally.replace(is_counted.then(|| Tally::new(frame)));
            let folded = on_deep_stack(&aggregate.operand, || evaluator.folded(aggregate, frame));
            (
                folded,
                evaluator.notebook.into_inner(),
                evaluator.peak_samples.get(),
                evaluator.tally.into_inner(),
            )
        };
        let mut parts = parts.into_iter();
        let outcomes = std::thread::scope(|scope| {
            let first = parts.next();
            let others: Vec<_> = parts.map(|part| scope.spawn(|| fold(part))).collect();
            let mut outcomes: Vec<_> = first.map(&fold).into_iter().collect();
            for other in others {
                outcomes.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            outcomes
        });
        let mut all = Folded { groups: self.groups(aggregate), folds: Vec::new() };
        for (folded, notebook, peak_samples, tally) in outcomes {
            self.notebook.borrow_mut().append(notebook);
            self.peak_samples.set(self.peak_samples.get().max(peak_samples));
            tally.and_then(|part| self.tally(|tally| tally.add_part(&part)));
            self.join(&mut all, folded?, frame);
        }
        Ok(all)
    }

    fn join(&self, all: &mut Folded, part: Folded, frame: Frame) {
        if all.folds.is_empty() {
            *all = part;
            return;
        }
        for (group, fold) in part.folds.into_iter().enumerate() {
            let place = all.groups.same_group(&part.groups, group);
            match all.folds.get_mut(place) {
                Some(known) => {
                    known.merge(&fold);
                    self.let_go(Fold::size(frame));
                }
                None => all.folds.push(fold),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use pharos_model::{Labels, Sample};

    use crate::{
        EvalError, Evaluation, Features, Limits, MemorySource, Query, SelectRequest, SeriesSource,
        SeriesVisitor, SourceError, SourcePart, evaluate, parse_with,
    };

    /// A source of so many parts; with 0 it has none.
    struct InParts(MemorySource, usize);

    /// Every series of the source whose number is in the range.
    struct Part<'s>(&'s MemorySource, std::ops::Range<usize>);

    impl SeriesSource for InParts {
        fn select(
            &self,
            request: &SelectRequest<'_>,
            visit: &mut SeriesVisitor<'_>,
        ) -> Result<(), SourceError> {
            self.0.select(request, visit)
        }

        fn parts<'s>(&'s self, request: &SelectRequest<'_>) -> Result<Vec<SourcePart<'s>>, SourceError> {
            let mut series = 0;
            self.0.select(request, &mut |_, _| {
                series += 1;
                ControlFlow::Continue(())
            })?;
            let part = |number: usize| series * number / self.1..series * (number + 1) / self.1;
            Ok((0..self.1).map(|number| Box::new(Part(&self.0, part(number))) as SourcePart<'s>).collect())
        }
    }

    impl SeriesSource for Part<'_> {
        fn select(
            &self,
            request: &SelectRequest<'_>,
            visit: &mut SeriesVisitor<'_>,
        ) -> Result<(), SourceError> {
            let mut number = 0;
            self.0.select(request, &mut |labels, samples| {
                number += 1;
                if self.1.contains(&(number - 1)) {
                    visit(labels, samples)
                } else {
                    ControlFlow::Continue(())
                }
            })
        }
    }

    /// 23 series of two metrics that count up, one of them starting anew, one with gaps.
    fn source() -> MemorySource {
        let mut source = MemorySource::new();
        for series in 0..23 {
            let name = if series % 5 == 0 { "gauge" } else { "requests_total" };
            let labels = Labels::from_pairs([
                ("__name__", name.to_owned()),
                ("code", (200 + series % 3).to_string()),
                ("pod", format!("p{series}")),
            ]);
            let times = (0..60i64).filter(|at| series != 7 || at % 20 < 3);
            let value = |at: i64| (if series == 4 { at % 31 } else { at } * (series + 1)) as f64;
            source.push(&labels, times.map(|at| Sample { time_ms: at * 15_000, value: value(at) }));
        }
        source
    }

    fn run(query: &str, parts: usize, max_samples: usize) -> Result<Evaluation, EvalError> {
        let expr = parse_with(query, &Features::ALL).unwrap_or_else(|error| panic!("{query}: {error}"));
        let query = Query { counts_samples: true, ..Query::range(&expr, 120_000, 780_000, 60_000) };
        evaluate(&query, &InParts(source(), parts), &Limits { max_samples, ..Limits::default() })
    }

    #[test]
    fn parts_give_what_the_whole_gives() {
        for query in [
            "sum(requests_total)",
            "sum by (code) (rate(requests_total[5m]))",
            "max by (code, pod) (-abs(increase(requests_total[2m]) * 2))",
            "min without (pod) (5 - requests_total > 2)",
            "count by (code) (requests_total offset 1m)",
            "group(rate(gauge[5m]))",
            "sum(rate(gauge[5m]))",
            "sum(sum by (code) (changes(requests_total[5m])))",
            "sum(requests_total @ 300)",
            "avg by (code) (rate(requests_total[5m]))",
            "sum by (code) ({__name__=~\".+\"})",
            "sum(rate(requests_total[5m:1m]))",
            "sum(absent_over_time(requests_total[5m]))",
            "sum(nothing)",
        ] {
            let whole = run(query, 0, usize::MAX).unwrap_or_else(|error| panic!("{query}: {error}"));
            for parts in [1, 2, 3, 30] {
                let split = run(query, parts, usize::MAX).unwrap_or_else(|error| panic!("{query}: {error}"));
                assert_eq!(split.value, whole.value, "{query} in {parts}");
                assert_eq!(split.annotations, whole.annotations, "{query} in {parts}");
                assert_eq!(split.stats.steps, whole.stats.steps, "{query} in {parts}");
            }
        }
    }

    #[test]
    fn a_limit_holds_for_all_parts_together() {
        let query = "sum by (pod) (requests_total)";
        assert!(run(query, 3, 600).is_ok());
        assert_eq!(run(query, 3, 100).err(), Some(EvalError::TooManySamples { limit: 100 }));
    }
}

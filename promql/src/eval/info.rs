//! `info(v, {…})`: adds the labels of info metrics (`target_info`, …) to the series of the same `instance` and
//! `job`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pharos_model::{Labels, METRIC_NAME, MatchOp, Matcher};

use super::binary::braces;
use super::duration::Shift;
use super::frame::{Cell, Frame, Metric, Row, Series, is_metadata};
use super::selector::Take;
use super::{EvalError, Evaluator, Result, Sink};
use crate::ast::{Expr, ExprKind, Selector, TimeShift, ValueType};

/// The labels by which an info metric and another one are about the same thing.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
const DEFAULT_INFO_METRIC: &str = "target_info";
const ANY_INFO_METRIC: &str = ".+_info";

/// What a series is about, by the identifying labels; one that it lacks is empty.
fn identity(labels: &Labels) -> [&str; 2] {
    IDENTIFYING.map(|label| labels.get(label))
}

/// Of a series that is about nothing in particular: no info metric belongs to it.
const NO_IDENTITY: [&str; 2] = [""; 2];

/// An info series: its cells are the times of its samples, in milliseconds.
struct InfoSeries {
    labels: Labels,
    times: Row,
}

impl Evaluator<'_> {
    pub(super) fn info(
        &self,
        operand: &Expr,
        selector: Option<&Expr>,
        frame: Frame,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let matchers: &[Matcher] = match selector.map(|selector| &selector.unwrap_parens().kind) {
            Some(ExprKind::Selector(selector)) => &selector.matchers,
            _ => &[],
        };
        let named: Vec<&Matcher> = matchers.iter().filter(|matcher| matcher.name() == METRIC_NAME).collect();
        let data_matchers: Vec<&Matcher> =
            matchers.iter().filter(|matcher| matcher.name() != METRIC_NAME).collect();
        // Without a condition on the name it is the usual info metric; with negative ones alone, any info metric.
        let positive = |matcher: &&Matcher| matches!(matcher.op(), MatchOp::Equal | MatchOp::Regex);
        let implied = if named.is_empty() {
            Some(Matcher::equal(METRIC_NAME, DEFAULT_INFO_METRIC))
        } else if !named.iter().any(positive) {
            let any = Matcher::new(METRIC_NAME, MatchOp::Regex, ANY_INFO_METRIC);
            Some(any.map_err(|error| EvalError::execution(error.to_string()))?)
        } else {
            None
        };
        let name_matchers: Vec<&Matcher> = named.iter().copied().chain(&implied).collect();
        let base = self.vector(operand, frame)?;
        // Info metrics are not enriched by themselves; which they are, a selector of data labels does not say.
        let names_infos = selector.is_none() || !named.is_empty();
        let is_info = |series: &Series| {
            let name = series.metric.labels.metric_name();
            names_infos && name_matchers.iter().all(|matcher| matcher.matches(name))
        };
        let infos = self.info_series(operand, &base, &is_info, &name_matchers, &data_matchers, frame)?;
        self.release(&base);
        let mut out: Vec<Series> = Vec::new();
        for series in base {
            self.check_alive()?;
            if is_info(&series) {
                out.push(series);
                continue;
            }
            self.enrich(&series, &infos, &data_matchers, &mut out)?;
        }
        let joined = self.joined(out, |metric| metric.labels.clone())?;
        for Series { metric, mut row } in joined {
            sink(&metric, &mut row)?;
        }
        Ok(())
    }

    /// The info series that could belong to any of `base`.
    fn info_series(
        &self,
        operand: &Expr,
        base: &[Series],
        is_info: &dyn Fn(&Series) -> bool,
        name_matchers: &[&Matcher],
        data_matchers: &[&Matcher],
        frame: Frame,
    ) -> Result<Vec<InfoSeries>> {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for series in base.iter().filter(|series| !is_info(series)) {
            let identity = identity(&series.metric.labels);
            if identity != NO_IDENTITY {
                for (label, value) in IDENTIFYING.into_iter().zip(identity) {
                    values.entry(label).or_default().insert(value);
                }
            }
        }
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let mut matchers: Vec<Matcher> =
            name_matchers.iter().chain(data_matchers).map(|one| (*one).clone()).collect();
        for (label, values) in values {
            matchers.push(Matcher::one_of(label, values));
        }
        let selector = Selector { name: None, matchers, time: TimeShift::default(), extension: None };
        let mut all = Vec::new();
        let shift = self.reference_shift(operand)?;
        self.newest(&selector, shift, frame, Take::FloatTimeMs, &mut |metric, row| {
            if row.histograms.is_some() {
                let shown = braces(&metric.labels);
                return Err(EvalError::execution(format!(
                    "this should be an info metric, with float samples: {shown}"
                )));
            }
            all.push(InfoSeries { labels: metric.labels.clone(), times: std::mem::take(row) });
            Ok(())
        })?;
        Ok(all)
    }

    /// Info series are looked at as of the time that the enriched series are of, if all of these are of the same:
    /// that of the `@` and the offsets of their selector and of the subqueries around it. Else as of the step.
    fn reference_shift(&self, operand: &Expr) -> Result<Shift> {
        let now = Shift { at_ms: None, offset_ms: 0 };
        let mut shifts = Vec::new();
        self.reference_shifts(operand, now, &mut shifts)?;
        let time = |shift: &Shift| match shift.at_ms {
            Some(at_ms) => (true, at_ms.saturating_sub(shift.offset_ms)),
            None => (false, shift.offset_ms),
        };
        let Some(Some(first)) = shifts.first().copied() else { return Ok(now) };
        let same = |shift: &Option<Shift>| shift.as_ref().is_some_and(|shift| time(shift) == time(&first));
        Ok(if shifts.iter().all(same) { first } else { now })
    }

    /// Adds what the series that `expr` can give are shifted by: `None` for those that no selector finds.
    fn reference_shifts(&self, expr: &Expr, around: Shift, out: &mut Vec<Option<Shift>>) -> Result<()> {
        let (time, inner): (_, Vec<&Expr>) = match &expr.kind {
            ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => {
                (Some(&selector.time), Vec::new())
            }
            ExprKind::Subquery(subquery) => (Some(&subquery.time), vec![&*subquery.operand]),
            // The second operand of `info` is a selector in form alone.
            ExprKind::Call { function, args } if function.name == "info" => {
                (None, args.iter().take(1).collect())
            }
            _ => (None, expr.children()),
        };
        let mut shift = around;
        if let Some(time) = time {
            let own = self.shift(time)?;
            // An inner `@` makes what lies around it irrelevant.
            shift = match own.at_ms {
                Some(_) => own,
                None => Shift { offset_ms: around.offset_ms.saturating_add(own.offset_ms), ..around },
            };
        }
        let gives_series = |expr: &&Expr| !matches!(expr.value_type(), ValueType::Scalar | ValueType::String);
        let mut inner = inner.into_iter().filter(gives_series).peekable();
        if inner.peek().is_none() {
            let selects = matches!(expr.kind, ExprKind::Selector(_) | ExprKind::Range { .. });
            out.push(selects.then_some(shift));
        }
        inner.try_for_each(|expr| self.reference_shifts(expr, shift, out))
    }

    fn enrich(
        &self,
        series: &Series,
        infos: &[InfoSeries],
        data_matchers: &[&Matcher],
        out: &mut Vec<Series>,
    ) -> Result<()> {
        let own = identity(&series.metric.labels);
        let related: Vec<&InfoSeries> =
            infos.iter().filter(|info| own != NO_IDENTITY && identity(&info.labels) == own).collect();
        let mut by_labels: HashMap<Labels, Row> = HashMap::new();
        let steps = series.row.steps();
        for step in 0..steps {
            if !series.row.is_present(step) {
                continue;
            }
            let newest = newest_per_name(&related, step)?;
            if newest.is_empty() && !data_matchers.iter().all(|matcher| matcher.matches("")) {
                continue;
            }
            let mut added = Labels::empty();
            for info in newest.values() {
                for (label, value) in info.labels.iter() {
                    let wanted =
                        data_matchers.is_empty() || data_matchers.iter().any(|one| one.name() == label);
                    if is_metadata(label) || !wanted {
                        continue;
                    }
                    if added.contains(label) && added.get(label) != value {
                        return Err(EvalError::execution(format!("conflicting label: {label}")));
                    }
                    if !series.metric.labels.contains(label) {
                        added.set(label, value);
                    }
                }
            }
            let row = by_labels.entry(added).or_insert_with(|| Row::absent(steps));
            row.set(step, series.row.get(step));
        }
        for (added, row) in by_labels {
            let mut labels = series.metric.labels.clone();
            for (label, value) in added.iter() {
                labels.set(label, value);
            }
            out.push(Series {
                metric: Metric { drop_name: series.metric.drop_name, ..Metric::new(labels) },
                row,
            });
        }
        Ok(())
    }
}

/// Of several info series of one metric the one with the newest sample counts.
fn newest_per_name<'i>(related: &[&'i InfoSeries], step: usize) -> Result<BTreeMap<&'i str, &'i InfoSeries>> {
    let mut newest: BTreeMap<&str, (&InfoSeries, f64)> = BTreeMap::new();
    for &info in related {
        let Cell::Float(time_ms) = info.times.get(step) else { continue };
        let name = info.labels.metric_name();
        match newest.get(name) {
            Some((other, other_ms)) if *other_ms == time_ms => {
                return Err(EvalError::execution(format!(
                    "found duplicate series for info metric: existing {} @ {other_ms}, new {} @ {time_ms}",
                    braces(&other.labels),
                    braces(&info.labels)
                )));
            }
            Some((_, other_ms)) if *other_ms > time_ms => {}
            _ => {
                newest.insert(name, (info, time_ms));
            }
        }
    }
    Ok(newest.into_iter().map(|(name, (info, _))| (name, info)).collect())
}

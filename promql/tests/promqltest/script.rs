//! The language of promqltest files, down to commands.

use pharos_model::{Labels, MatchOp, parse_duration_ms};
use pharos_promql::{ExprKind, Features, parse_with};

use crate::points::{Point, StartTime, parse_points, parse_starts};

#[derive(Debug)]
pub(crate) enum Command {
    Clear,
    Load { step_ms: i64, with_nhcb: bool, series: Vec<LoadedSeries> },
    Eval(Box<Eval>),
}

#[derive(Debug)]
pub(crate) struct LoadedSeries {
    pub labels: Labels,
    pub points: Vec<Point>,
    pub starts: Vec<StartTime>,
}

#[derive(Debug, Default)]
pub(crate) struct Eval {
    pub start_ms: i64,
    pub end_ms: i64,
    /// 0 for an instant evaluation.
    pub step_ms: i64,
    pub expr: String,
    pub fails: Option<Expected>,
    pub warnings: Expectation,
    pub infos: Expectation,
    pub ordered: bool,
    pub string: Option<String>,
    /// Start, end and step of an expected range vector.
    pub range_vector: Option<(i64, i64, i64)>,
    pub scalar: Option<f64>,
    pub series: Vec<(Labels, Vec<Point>)>,
}

impl Eval {
    pub(crate) fn is_instant(&self) -> bool {
        self.step_ms == 0
    }
}

/// What is said of annotations of a kind.
#[derive(Debug, Default)]
pub(crate) enum Expectation {
    #[default]
    Anything,
    None,
    Some(Vec<Expected>),
}

#[derive(Debug)]
pub(crate) enum Expected {
    Any,
    Text(String),
    Regex(regex::Regex),
}

impl Expected {
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Expected::Any => true,
            Expected::Text(wanted) => wanted == text,
            Expected::Regex(regex) => regex.is_match(text),
        }
    }
}

/// Splits a file into commands with the line that each starts on.
pub(crate) fn parse(text: &str) -> Vec<(usize, Result<Command, String>)> {
    let mut commands = Vec::new();
    let mut lines = text.lines().enumerate().map(|(at, line)| {
        let line = line.trim();
        (at + 1, if line.starts_with('#') { "" } else { line })
    });
    while let Some((at, head)) = lines.next() {
        if head.is_empty() {
            continue;
        }
        if head == "clear" {
            commands.push((at, Ok(Command::Clear)));
            continue;
        }
        let body: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| !line.is_empty()).collect();
        commands.push((at, command(head, &body)));
    }
    commands
}

fn command(head: &str, body: &[&str]) -> Result<Command, String> {
    let word = head.split_whitespace().next().unwrap_or_default();
    match word {
        "load" | "load_with_nhcb" => {
            let step = head.get(word.len()..).unwrap_or_default().trim();
            let step_ms = duration_ms(step)?;
            Ok(Command::Load { step_ms, with_nhcb: word == "load_with_nhcb", series: load(body)? })
        }
        _ if word.starts_with("eval") => eval(head, body).map(|eval| Command::Eval(Box::new(eval))),
        _ => Err(format!("unknown command {word}")),
    }
}

fn duration_ms(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let ms = parse_duration_ms(digits).map_err(|error| error.to_string())?;
    Ok(if negative { -ms } else { ms })
}

fn load(body: &[&str]) -> Result<Vec<LoadedSeries>, String> {
    let mut all = Vec::new();
    let mut starts = Vec::new();
    for line in body {
        let (metric, rest) = split_metric(line);
        if let Some(metric) = metric.strip_suffix("@st") {
            parse_metric(metric)?;
            starts = parse_starts(rest)?;
            continue;
        }
        let points = parse_points(rest)?;
        if !starts.is_empty() && starts.len() != points.len() {
            return Err(format!("{} start times for {} samples in {line}", starts.len(), points.len()));
        }
        all.push(LoadedSeries { labels: parse_metric(metric)?, points, starts: std::mem::take(&mut starts) });
    }
    Ok(all)
}

/// Splits a line behind its metric: at the first blank outside braces and quotes.
fn split_metric(line: &str) -> (&str, &str) {
    let (mut braces, mut quote) = (0, None);
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => _ = chars.next(),
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '{') => braces += 1,
            (None, '}') => braces -= 1,
            (None, c) if c.is_whitespace() && braces == 0 => return line.split_at(at),
            _ => {}
        }
    }
    (line, "")
}

pub(crate) fn parse_metric(text: &str) -> Result<Labels, String> {
    if text.replace(char::is_whitespace, "") == "{}" {
        return Ok(Labels::empty());
    }
    let expr = parse_with(text, &Features::ALL).map_err(|error| format!("{text}: {error}"))?;
    let ExprKind::Selector(selector) = expr.kind else { return Err(format!("{text} is no metric")) };
    if selector.matchers.iter().any(|matcher| matcher.op() != MatchOp::Equal) {
        return Err(format!("{text} is no metric"));
    }
    Ok(Labels::from_pairs(selector.matchers.iter().map(|matcher| (matcher.name(), matcher.value()))))
}

fn eval(head: &str, body: &[&str]) -> Result<Eval, String> {
    let mut eval = Eval::default();
    let mut rest = head;
    let mut next_word = || {
        let word = rest.split_whitespace().next().unwrap_or_default();
        rest = rest.get(word.len()..).unwrap_or_default().trim_start();
        word
    };
    match next_word() {
        "eval_fail" => eval.fails = Some(Expected::Any),
        "eval_warn" => eval.warnings = Expectation::Some(vec![Expected::Any]),
        "eval_info" => eval.infos = Expectation::Some(vec![Expected::Any]),
        "eval_ordered" => eval.ordered = true,
        _ => {}
    }
    match (next_word(), next_word()) {
        ("instant", "at") => {
            eval.start_ms = duration_ms(next_word())?;
            eval.end_ms = eval.start_ms;
        }
        ("range", "from") => {
            eval.start_ms = duration_ms(next_word())?;
            next_word();
            eval.end_ms = duration_ms(next_word())?;
            next_word();
            eval.step_ms = duration_ms(next_word())?;
        }
        _ => return Err(format!("cannot read {head}")),
    }
    eval.expr = rest.to_owned();
    for line in body {
        if let Some(expectation) = line.strip_prefix("expect ") {
            expect(&mut eval, expectation.trim())?;
        } else if let Some(message) = line.strip_prefix("expected_fail_message ") {
            eval.fails = Some(Expected::Text(message.trim().to_owned()));
        } else if let Some(pattern) = line.strip_prefix("expected_fail_regexp ") {
            eval.fails = Some(Expected::Regex(regex(pattern.trim())?));
        } else if let Some(number) = parse_number(line) {
            eval.scalar = Some(number);
            break;
        } else {
            let (metric, points) = split_metric(line);
            eval.series.push((parse_metric(metric)?, parse_points(points)?));
        }
    }
    Ok(eval)
}

fn regex(pattern: &str) -> Result<regex::Regex, String> {
    regex::Regex::new(pattern).map_err(|error| error.to_string())
}

pub(crate) fn parse_number(text: &str) -> Option<f64> {
    match text.trim_start_matches('+').to_ascii_lowercase().as_str() {
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        "nan" => Some(f64::NAN),
        number => number.parse().ok(),
    }
}

fn expect(eval: &mut Eval, text: &str) -> Result<(), String> {
    let word = text.split_whitespace().next().unwrap_or_default();
    let rest = text.get(word.len()..).unwrap_or_default().trim();
    let expected = || {
        if rest.is_empty() {
            Ok(Expected::Any)
        } else if let Some(message) = rest.strip_prefix("msg:") {
            Ok(Expected::Text(message.trim().to_owned()))
        } else if let Some(pattern) = rest.strip_prefix("regex:") {
            Ok(Expected::Regex(regex(pattern.trim())?))
        } else {
            Err(format!("cannot read expect {text}"))
        }
    };
    let add = |expectation: &mut Expectation, one: Expected| match expectation {
        Expectation::Some(all) => all.push(one),
        other => *other = Expectation::Some(vec![one]),
    };
    match word {
        "fail" => eval.fails = Some(expected()?),
        "warn" => add(&mut eval.warnings, expected()?),
        "info" => add(&mut eval.infos, expected()?),
        "no_warn" => eval.warnings = Expectation::None,
        "no_info" => eval.infos = Expectation::None,
        "ordered" => eval.ordered = true,
        "string" => {
            let expr = parse_with(rest, &Features::ALL).map_err(|error| error.to_string())?;
            let ExprKind::Text(text) = expr.kind else { return Err(format!("{rest} is no string")) };
            eval.string = Some(text);
        }
        "range" => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let ["vector", "from", start, "to", end, "step", step] = words.as_slice() else {
                return Err(format!("cannot read expect {text}"));
            };
            eval.range_vector = Some((duration_ms(start)?, duration_ms(end)?, duration_ms(step)?));
        }
        _ => return Err(format!("cannot read expect {text}")),
    }
    Ok(())
}

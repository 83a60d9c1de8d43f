//! Prometheus' rule files: YAML with groups of recording and alerting rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use pharos_model::{METRIC_NAME, PromDuration};
use pharos_promql::{Expr, Features, parse_with};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::template::Template;

/// Larger files are refused.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// What is wrong with a rule file, as exactly as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct RuleError {
    pub file: String,
    /// From 1.
    pub line: Option<u64>,
    pub group: Option<String>,
    /// From 1, with the rule's name where it has one.
    pub rule: Option<(usize, String)>,
    pub message: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(group) = &self.group {
            write!(f, ": group {group:?}")?;
        }
        if let Some((number, name)) = &self.rule {
            write!(f, ", rule {number}")?;
            if !name.is_empty() {
                write!(f, ", {name:?}")?;
            }
        }
        write!(f, ": {}", self.message)
    }
}

/// A group as its file has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupSpec {
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) interval: Option<Duration>,
    /// Series or alerts that one rule may give; 0 is no limit.
    pub(crate) limit: usize,
    /// How far in the past the rules are evaluated.
    pub(crate) query_offset: Option<Duration>,
    pub(crate) rules: Vec<RuleSpec>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RuleSpec {
    /// Of the series or of the alert.
    pub(crate) name: String,
    pub(crate) expr: Expr,
    /// The group's with the rule's own over them; an empty one takes the label away.
    pub(crate) labels: BTreeMap<String, LabelText>,
    pub(crate) kind: RuleKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RuleKind {
    Recording,
    Alerting {
        /// How long the condition must hold.
        hold: Duration,
        /// How long the alert stays when the condition is over.
        keep_firing: Duration,
        annotations: BTreeMap<String, LabelText>,
    },
}

/// A text of a rule file and, in alerts, the template that it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LabelText {
    pub(crate) text: String,
    pub(crate) template: Option<Template>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileYaml {
    #[serde(default)]
    groups: Option<Vec<Spanned<GroupYaml>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupYaml {
    name: String,
    interval: Option<PromDuration>,
    query_offset: Option<PromDuration>,
    #[serde(default)]
    limit: usize,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    rules: Option<Vec<Spanned<RuleYaml>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleYaml {
    #[serde(default)]
    record: String,
    #[serde(default)]
    alert: String,
    expr: Option<Spanned<String>>,
    r#for: Option<PromDuration>,
    keep_firing_for: Option<PromDuration>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// The files that the patterns name, each once, sorted. A pattern may hold `*` and `?` in its last part; one that is
/// no pattern must name a file.
pub(crate) fn matching_files(patterns: &[PathBuf], base: &Path) -> Result<Vec<PathBuf>, RuleError> {
    let mut files = BTreeSet::new();
    for pattern in patterns {
        let path = base.join(pattern);
        let text = path.to_string_lossy().into_owned();
        let error = |message: String| RuleError { file: text.clone(), message, ..RuleError::default() };
        if !text.contains(['*', '?', '[']) {
            files.insert(path);
            continue;
        }
        let in_folder = path.parent().is_some_and(|folder| folder.to_string_lossy().contains('*'));
        if in_folder {
            return Err(error("only the last part of the path may hold *".into()));
        }
        for found in glob::glob(&text).map_err(|fault| error(fault.to_string()))? {
            files.insert(found.map_err(|fault| error(fault.to_string()))?);
        }
    }
    Ok(files.into_iter().collect())
}

/// Reads one file. All that is wrong with its groups and rules is found at once.
pub(crate) fn read_groups(path: &Path, features: &Features) -> Result<Vec<GroupSpec>, Vec<RuleError>> {
    let file = path.display().to_string();
    let unreadable = |fault: std::io::Error| {
        vec![RuleError { file: file.clone(), message: fault.to_string(), ..RuleError::default() }]
    };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > MAX_FILE_BYTES {
        let message = format!("the file has more than {MAX_FILE_BYTES} bytes");
        return Err(vec![RuleError { file, message, ..RuleError::default() }]);
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse_groups(&file, &text, features)
}

pub(crate) fn parse_groups(
    file: &str,
    yaml: &str,
    features: &Features,
) -> Result<Vec<GroupSpec>, Vec<RuleError>> {
    let error =
        |line, message: String| RuleError { file: file.into(), line, message, ..RuleError::default() };
    if yaml.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Vec::new());
    }
    let parsed: FileYaml = serde_saphyr::from_str(yaml).map_err(|fault| {
        let line = fault.location().map(|location| location.line());
        vec![error(line.filter(|line| *line > 0), fault.without_snippet().to_string())]
    })?;
    let mut errors = Vec::new();
    let mut groups = Vec::new();
    let mut names = BTreeSet::new();
    for group in parsed.groups.unwrap_or_default() {
        let line = Some(group.defined.line());
        let group = group.value;
        if group.name.is_empty() {
            errors.push(error(line, "a group's name is empty".into()));
        }
        if !names.insert(group.name.clone()) {
            errors.push(error(line, format!("groupname: {:?} is repeated in the same file", group.name)));
        }
        let shared = group.labels.unwrap_or_default();
        for name in shared.keys().filter(|name| !is_label_name(name)) {
            errors.push(error(line, format!("group {:?}: invalid label name: {name}", group.name)));
        }
        let mut rules = Vec::new();
        for (index, rule) in group.rules.unwrap_or_default().into_iter().enumerate() {
            let line = rule.defined.line();
            let name = if rule.value.record.is_empty() { &rule.value.alert } else { &rule.value.record };
            let place = RuleError {
                file: file.into(),
                line: Some(line),
                group: Some(group.name.clone()),
                rule: Some((index + 1, name.clone())),
                message: String::new(),
            };
            let mut faults = Faults { place, errors: &mut errors };
            rules.extend(rule_spec(rule.value, &shared, features, &mut faults));
        }
        groups.push(GroupSpec {
            file: file.into(),
            name: group.name,
            interval: group.interval.map(|interval| interval.0).filter(|interval| !interval.is_zero()),
            limit: group.limit,
            query_offset: group.query_offset.map(|offset| offset.0),
            rules,
        });
    }
    if errors.is_empty() { Ok(groups) } else { Err(errors) }
}

struct Faults<'f> {
    place: RuleError,
    errors: &'f mut Vec<RuleError>,
}

impl Faults<'_> {
    fn tell(&mut self, message: impl Into<String>) {
        self.errors.push(RuleError { message: message.into(), ..self.place.clone() });
    }

    fn tell_at(&mut self, line: u64, message: impl Into<String>) {
        self.errors.push(RuleError { line: Some(line), message: message.into(), ..self.place.clone() });
    }
}

/// `None` if anything was wrong with the rule, which `faults` then has.
fn rule_spec(
    rule: RuleYaml,
    shared: &BTreeMap<String, String>,
    features: &Features,
    faults: &mut Faults<'_>,
) -> Option<RuleSpec> {
    let before = faults.errors.len();
    let is_alert = rule.record.is_empty();
    match (rule.record.is_empty(), rule.alert.is_empty()) {
        (false, false) => faults.tell("only one of 'record' and 'alert' must be set"),
        (true, true) => faults.tell("one of 'record' or 'alert' must be set"),
        _ => {}
    }
    let expr = match &rule.expr {
        Some(expr) if !expr.value.trim().is_empty() => match parse_with(&expr.value, features) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                faults.tell_at(expr.defined.line(), format!("could not parse expression: {error}"));
                None
            }
        },
        _ => {
            faults.tell("field 'expr' must be set in rule");
            None
        }
    };
    let annotations = rule.annotations.unwrap_or_default();
    if !is_alert {
        let forbidden = [
            ("annotations", !annotations.is_empty()),
            ("for", rule.r#for.is_some()),
            ("keep_firing_for", rule.keep_firing_for.is_some()),
        ];
        for (field, _) in forbidden.iter().filter(|(_, is_set)| *is_set) {
            faults.tell(format!("invalid field '{field}' in recording rule"));
        }
        if rule.record.contains(['{', '}']) {
            faults.tell(format!(
                "braces present in the recording rule name; should it be in expr?: {}",
                rule.record
            ));
        }
    }
    let mut labels = shared.clone();
    labels.extend(rule.labels.unwrap_or_default());
    let labels = texts(labels, "label", is_alert, faults);
    let annotations = texts(annotations, "annotation", true, faults);
    let kind = if is_alert {
        RuleKind::Alerting {
            hold: rule.r#for.unwrap_or_default().0,
            keep_firing: rule.keep_firing_for.unwrap_or_default().0,
            annotations,
        }
    } else {
        RuleKind::Recording
    };
    let name = if is_alert { rule.alert } else { rule.record };
    (faults.errors.len() == before).then_some(RuleSpec { name, expr: expr?, labels, kind })
}

fn texts(
    texts: BTreeMap<String, String>,
    what: &str,
    are_templates: bool,
    faults: &mut Faults<'_>,
) -> BTreeMap<String, LabelText> {
    let mut read = BTreeMap::new();
    for (name, text) in texts {
        if !is_label_name(&name) {
            faults.tell(format!("invalid {what} name: {name}"));
        }
        let template = match are_templates.then(|| Template::parse(&text)) {
            None => None,
            Some(Ok(template)) => Some(template),
            Some(Err(error)) => {
                faults.tell(format!("{what} {name:?}: template: {error}"));
                None
            }
        };
        read.insert(name, LabelText { text, template });
    }
    read
}

/// Prometheus 3 takes any UTF-8; the metric's name has a field of its own.
fn is_label_name(name: &str) -> bool {
    !name.is_empty() && name != METRIC_NAME
}

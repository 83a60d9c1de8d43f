use std::sync::LazyLock;

use md5::{Digest, Md5};
use pharos_model::Labels;
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// One rule of Prometheus' `relabel_configs`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Relabel {
    source_labels: Vec<String>,
    separator: Option<String>,
    target_label: String,
    regex: Option<Anchored>,
    modulus: u64,
    replacement: Option<String>,
    action: Action,
}

const SEPARATOR: &str = ";";
const REPLACEMENT: &str = "$1";

/// Of a rule that has none: the whole text.
static WHOLE: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant pattern")]
    Regex::new("^(?s:(.*))$").expect("valid")
});

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    #[default]
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Action, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok(match name.to_ascii_lowercase().as_str() {
            "replace" => Action::Replace,
            "keep" => Action::Keep,
            "drop" => Action::Drop,
            "keepequal" => Action::KeepEqual,
            "dropequal" => Action::DropEqual,
            "hashmod" => Action::HashMod,
            "labelmap" => Action::LabelMap,
            "labeldrop" => Action::LabelDrop,
            "labelkeep" => Action::LabelKeep,
            "lowercase" => Action::Lowercase,
            "uppercase" => Action::Uppercase,
            _ => return Err(D::Error::custom(format!("unknown relabel action {name:?}"))),
        })
    }
}

/// Matches whole texts only.
#[derive(Clone, Debug)]
struct Anchored(Regex);

impl PartialEq for Anchored {
    fn eq(&self, other: &Anchored) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Anchored {
    fn new(pattern: &str) -> Result<Anchored, regex::Error> {
        Regex::new(&format!("^(?s:{pattern})$")).map(Anchored)
    }
}

/// Without what makes it match whole texts.
impl Serialize for Anchored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pattern = self.0.as_str();
        serializer.serialize_str(
            pattern.strip_prefix("^(?s:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(pattern),
        )
    }
}

impl<'de> Deserialize<'de> for Anchored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Anchored, D::Error> {
        let pattern = String::deserialize(deserializer)?;
        Anchored::new(&pattern).map_err(|error| D::Error::custom(format!("regex {pattern:?}: {error}")))
    }
}

/// With the keys of the configuration and with its defaults.
impl Serialize for Relabel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        if !self.source_labels.is_empty() {
            map.serialize_entry("source_labels", &self.source_labels)?;
        }
        map.serialize_entry("separator", self.separator.as_deref().unwrap_or(SEPARATOR))?;
        match &self.regex {
            Some(regex) => map.serialize_entry("regex", regex)?,
            None => map.serialize_entry("regex", "(.*)")?,
        }
        if self.modulus != 0 {
            map.serialize_entry("modulus", &self.modulus)?;
        }
        if !self.target_label.is_empty() {
            map.serialize_entry("target_label", &self.target_label)?;
        }
        map.serialize_entry("replacement", self.replacement.as_deref().unwrap_or(REPLACEMENT))?;
        map.serialize_entry("action", &self.action)?;
        map.end()
    }
}

impl Relabel {
    /// What a rule of its action needs and lacks.
    pub(crate) fn check(&self) -> Result<(), String> {
        let needs_target = matches!(
            self.action,
            Action::Replace
                | Action::HashMod
                | Action::Lowercase
                | Action::Uppercase
                | Action::KeepEqual
                | Action::DropEqual
        );
        if needs_target && self.target_label.is_empty() {
            return Err(format!("relabel action {:?} needs target_label", self.action));
        }
        if self.action == Action::HashMod && self.modulus == 0 {
            return Err("relabel action hashmod needs a modulus above 0".into());
        }
        let default_separator = self.separator.as_deref().is_none_or(|text| text == SEPARATOR);
        let default_replacement = self.replacement.as_deref().is_none_or(|text| text == REPLACEMENT);
        let (only, alone) = match self.action {
            Action::Lowercase | Action::Uppercase if !default_replacement => {
                return Err(format!("'replacement' can not be set for {:?} action", self.action));
            }
            Action::KeepEqual | Action::DropEqual => (
                "'source_labels' and 'target_label'",
                self.regex.is_none() && self.modulus == 0 && default_separator && default_replacement,
            ),
            Action::LabelDrop | Action::LabelKeep => (
                "'regex'",
                self.source_labels.is_empty()
                    && self.target_label.is_empty()
                    && self.modulus == 0
                    && default_separator
                    && default_replacement,
            ),
            _ => ("", true),
        };
        if !alone {
            return Err(format!("{:?} action requires only {only}, and no other fields", self.action));
        }
        Ok(())
    }

    /// Whether the label set stays.
    fn apply(&self, labels: &mut Labels) -> bool {
        let joined = || {
            let values: Vec<&str> = self.source_labels.iter().map(|name| labels.get(name)).collect();
            values.join(self.separator.as_deref().unwrap_or(SEPARATOR))
        };
        let regex = self.regex.as_ref().map_or(&*WHOLE, |regex| &regex.0);
        let template = self.replacement.as_deref().unwrap_or(REPLACEMENT);
        match self.action {
            Action::Keep => return regex.is_match(&joined()),
            Action::Drop => return !regex.is_match(&joined()),
            Action::KeepEqual => return joined() == labels.get(&self.target_label),
            Action::DropEqual => return joined() != labels.get(&self.target_label),
            Action::Replace => {
                let value = joined();
                let Some(captures) = regex.captures(&value) else { return true };
                let (mut target, mut replacement) = (String::new(), String::new());
                captures.expand(&self.target_label, &mut target);
                captures.expand(template, &mut replacement);
                if !target.is_empty() {
                    labels.set(&target, replacement);
                }
            }
            Action::HashMod => {
                let digest: [u8; 16] = Md5::digest(joined().as_bytes()).into();
                let [_, _, _, _, _, _, _, _, low @ ..] = digest;
                let remainder = u64::from_be_bytes(low) % self.modulus.max(1);
                labels.set(&self.target_label, remainder.to_string());
            }
            Action::Lowercase => {
                let value = joined().to_lowercase();
                labels.set(&self.target_label, value);
            }
            Action::Uppercase => {
                let value = joined().to_uppercase();
                labels.set(&self.target_label, value);
            }
            Action::LabelMap => {
                let mapped: Vec<(String, String)> = labels
                    .iter()
                    .filter_map(|(name, value)| {
                        let mut target = String::new();
                        regex.captures(name)?.expand(template, &mut target);
                        Some((target, value.to_string()))
                    })
                    .collect();
                mapped
                    .into_iter()
                    .filter(|(name, _)| !name.is_empty())
                    .for_each(|(name, value)| labels.set(&name, value));
            }
            Action::LabelDrop => *labels = labels.iter().filter(|(name, _)| !regex.is_match(name)).collect(),
            Action::LabelKeep => *labels = labels.iter().filter(|(name, _)| regex.is_match(name)).collect(),
        }
        true
    }
}

/// One rule of a configuration, and what is left of a label set after it and those before it.
#[derive(Clone, Debug, PartialEq)]
pub struct RelabelStep {
    /// With the configuration's keys, and with its defaults.
    pub rule: serde_json::Value,
    /// Empty once a rule dropped the set.
    pub output: Labels,
    pub keep: bool,
}

/// Applies the rules one after the other.
pub(super) fn relabel_steps(rules: &[Relabel], mut labels: Labels) -> Vec<RelabelStep> {
    let mut keep = true;
    rules
        .iter()
        .map(|rule| {
            keep = keep && rule.apply(&mut labels);
            let output = if keep { labels.clone() } else { Labels::empty() };
            RelabelStep { rule: serde_json::to_value(rule).unwrap_or_default(), output, keep }
        })
        .collect()
}

/// Applies the rules in order; `false` when one of them drops the label set.
pub(crate) fn relabel(rules: &[Relabel], labels: &mut Labels) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

use std::sync::LazyLock;

use md5::{Digest, Md5};
use pharos_model::Labels;
use regex::Regex;
use serde::{Deserialize, Deserializer, de::Error};

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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

impl<'de> Deserialize<'de> for Anchored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Anchored, D::Error> {
        let pattern = String::deserialize(deserializer)?;
        Anchored::new(&pattern).map_err(|error| D::Error::custom(format!("regex {pattern:?}: {error}")))
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

/// Applies the rules in order; `false` when one of them drops the label set.
pub(crate) fn relabel(rules: &[Relabel], labels: &mut Labels) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

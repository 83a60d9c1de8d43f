use md5::{Digest, Md5};
use pharos_model::Labels;
use regex::Regex;
use serde::{Deserialize, Deserializer, de::Error};

/// One rule of Prometheus' `relabel_configs`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Relabel {
    source_labels: Vec<String>,
    separator: String,
    target_label: String,
    regex: Anchored,
    modulus: u64,
    replacement: String,
    action: Action,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
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

/// Matches whole texts only.
#[derive(Clone, Debug)]
struct Anchored(Regex);

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

impl Default for Relabel {
    fn default() -> Relabel {
        #[expect(clippy::expect_used, reason = "a constant pattern")]
        let regex = Anchored::new("(.*)").expect("valid");
        Relabel {
            source_labels: Vec::new(),
            separator: ";".into(),
            target_label: String::new(),
            regex,
            modulus: 0,
            replacement: "$1".into(),
            action: Action::Replace,
        }
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
        Ok(())
    }

    /// Whether the label set stays.
    fn apply(&self, labels: &mut Labels) -> bool {
        let joined = || {
            let values: Vec<&str> = self.source_labels.iter().map(|name| labels.get(name)).collect();
            values.join(&self.separator)
        };
        let regex = &self.regex.0;
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
                captures.expand(&self.replacement, &mut replacement);
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
                        regex.captures(name)?.expand(&self.replacement, &mut target);
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

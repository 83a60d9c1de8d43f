use std::collections::BTreeSet;

use pharos_model::{Attributes, Labels};
use serde::Deserialize;

use super::metric_name::label_name;

/// Prometheus' configuration section `otlp`: how OTLP metrics become series.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OtlpConfig {
    /// Resource attributes that become labels of every series.
    promote_resource_attributes: BTreeSet<String>,
    promote_all_resource_attributes: bool,
    /// Of all, those that do not.
    ignore_resource_attributes: BTreeSet<String>,
    pub(super) translation_strategy: Strategy,
    /// Whether `target_info` also has what `job` and `instance` are made of.
    pub(super) keep_identifying_resource_attributes: bool,
    /// Whether classic histograms become native ones with the same bounds.
    pub(super) convert_histograms_to_nhcb: bool,
    pub(super) promote_scope_metadata: bool,
    label_name_underscore_sanitization: bool,
    label_name_preserve_multiple_underscores: bool,
}

impl Default for OtlpConfig {
    fn default() -> OtlpConfig {
        OtlpConfig {
            promote_resource_attributes: BTreeSet::new(),
            promote_all_resource_attributes: false,
            ignore_resource_attributes: BTreeSet::new(),
            translation_strategy: Strategy::default(),
            keep_identifying_resource_attributes: false,
            convert_histograms_to_nhcb: false,
            promote_scope_metadata: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
        }
    }
}

/// How OTLP's names are translated (prometheus/otlptranslator).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Strategy {
    #[default]
    UnderscoreEscapingWithSuffixes,
    UnderscoreEscapingWithoutSuffixes,
    #[serde(rename = "NoUTF8EscapingWithSuffixes")]
    NoUtf8EscapingWithSuffixes,
    NoTranslation,
}

impl Strategy {
    /// Whether characters beyond Prometheus' classic ones become underscores.
    pub(super) fn escapes(self) -> bool {
        matches!(self, Strategy::UnderscoreEscapingWithSuffixes | Strategy::UnderscoreEscapingWithoutSuffixes)
    }

    /// Whether the unit and the kind are told by suffixes.
    pub(super) fn adds_suffixes(self) -> bool {
        matches!(self, Strategy::UnderscoreEscapingWithSuffixes | Strategy::NoUtf8EscapingWithSuffixes)
    }
}

impl OtlpConfig {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.promote_all_resource_attributes && !self.promote_resource_attributes.is_empty() {
            return Err(
                "promote_all_resource_attributes and promote_resource_attributes exclude each other".into()
            );
        }
        if !self.promote_all_resource_attributes && !self.ignore_resource_attributes.is_empty() {
            return Err("ignore_resource_attributes needs promote_all_resource_attributes".into());
        }
        if [&self.promote_resource_attributes, &self.ignore_resource_attributes]
            .iter()
            .any(|set| set.contains(""))
        {
            return Err("a resource attribute has no name".into());
        }
        Ok(())
    }

    pub(super) fn label_name(&self, key: &str) -> String {
        if !self.translation_strategy.escapes() {
            return key.to_string();
        }
        label_name(
            key,
            self.label_name_underscore_sanitization,
            self.label_name_preserve_multiple_underscores,
        )
    }

    /// The labels that every series of a resource gets.
    pub(super) fn promoted(
        &self,
        resource: &Attributes,
        labels: impl Fn(Vec<(String, String)>) -> Labels,
    ) -> Labels {
        let is_promoted = |key: &str| match self.promote_all_resource_attributes {
            true => !self.ignore_resource_attributes.contains(key),
            false => self.promote_resource_attributes.contains(key),
        };
        let promoted = resource.iter().filter(|(key, _)| is_promoted(key));
        labels(promoted.map(|(key, value)| (key.to_string(), value.to_text())).collect())
    }
}

//! Queries as data: YAML files with templates.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// A file of `queries/`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryFile {
    /// What may stand for `$name` in a template. Every value is tried, with every value of the others.
    #[serde(default)]
    variables: BTreeMap<String, Vec<String>>,
    templates: Vec<String>,
    /// Queries, as they are after replacement, in which Prometheus 2 and 3 differ by design, with the reason.
    #[serde(default)]
    known_differences: BTreeMap<String, String>,
}

const FILES: [(&str, &str); 3] = [
    ("kiali", include_str!("queries/kiali.yaml")),
    ("istio_dashboards", include_str!("queries/istio_dashboards.yaml")),
    ("compliance", include_str!("queries/compliance.yaml")),
];

pub(super) fn all() -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (name, text) in FILES {
        let file: QueryFile = serde_saphyr::from_str(text).with_context(|| format!("{name}.yaml"))?;
        let mut queries = BTreeSet::new();
        for template in &file.templates {
            expand(template, &file.variables, &mut queries);
        }
        for known in file.known_differences.keys() {
            ensure!(queries.remove(known), "{name}.yaml: no template makes {known:?}");
        }
        all.extend(queries);
    }
    Ok(all)
}

/// Replaces the first variable by each of its values, and so on with what comes of that.
fn expand(template: &str, variables: &BTreeMap<String, Vec<String>>, out: &mut BTreeSet<String>) {
    let found = variables
        .iter()
        .filter_map(|(name, values)| Some((template.find(&format!("${name}"))?, name, values)));
    // Of two names that begin alike, the longer one.
    let Some((_, name, values)) = found.min_by_key(|(at, name, _)| (*at, usize::MAX - name.len())) else {
        out.insert(template.to_string());
        return;
    };
    for value in values {
        expand(&template.replace(&format!("${name}"), value), variables, out);
    }
}

//! Kubernetes objects as they stand in files: the ones we interpret typed, every other kept raw.

use crate::istio::{DestinationRule, Gateway, ServiceEntry, Sidecar, VirtualService};
use crate::validate;
use crate::yaml::{ConfigError, Document, documents, parse, parse_untyped};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One object of a configuration file.
#[derive(Debug, Clone)]
pub struct Object {
    /// Group and version, such as `networking.istio.io/v1`.
    pub api_version: String,
    pub kind: String,
    /// `default` when the file does not say.
    pub namespace: String,
    pub name: String,
    /// `metadata.creationTimestamp`; decides who is oldest.
    pub created: Option<Timestamp>,
    pub spec: Spec,
    /// The whole object as written.
    pub raw: Value,
}

/// What an object asks for, for the kinds that are interpreted.
#[derive(Debug, Clone)]
pub enum Spec {
    VirtualService(Arc<VirtualService>),
    DestinationRule(Arc<DestinationRule>),
    Gateway(Arc<Gateway>),
    ServiceEntry(Arc<ServiceEntry>),
    Sidecar(Arc<Sidecar>),
    /// A kind that is kept and not interpreted.
    Other,
    /// A kind that is interpreted, but whose spec is wrong; the errors say how. It takes no part in
    /// routing, as if the API server had refused it.
    Invalid,
}

/// What one or several files hold.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    pub objects: Vec<Object>,
    pub errors: Vec<ConfigError>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    kind: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: Option<String>,
    creation_timestamp: Option<String>,
}

#[derive(Deserialize)]
struct WithSpec<T> {
    spec: T,
}

impl Parsed {
    /// Adds every document of `text`; `file` is only for messages. A fault spoils its document alone.
    pub fn add(&mut self, file: &str, text: &str) {
        for document in documents(text) {
            match Object::parse(file, document) {
                Ok((object, mut faults)) => {
                    self.objects.push(object);
                    self.errors.append(&mut faults);
                }
                Err(fault) => self.errors.push(fault),
            }
        }
    }

    /// Reads every `*.yaml` and `*.yml` file of a directory, in order of name. A file that cannot be
    /// read is an error beside the others.
    ///
    /// # Errors
    /// When the directory itself cannot be listed.
    pub fn read_dir(dir: &Path) -> std::io::Result<Self> {
        let mut parsed = Self::default();
        for path in yaml_files(dir)? {
            let file = path.display().to_string();
            match std::fs::read_to_string(&path) {
                Ok(text) => parsed.add(&file, &text),
                Err(error) => parsed.errors.push(ConfigError {
                    file,
                    document: 1,
                    line: 0,
                    object: None,
                    field: String::new(),
                    message: format!("cannot be read: {error}"),
                }),
            }
        }
        Ok(parsed)
    }
}

/// The configuration files of a directory, sorted by name.
///
/// # Errors
/// When the directory cannot be listed.
pub fn yaml_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if yaml && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

impl Object {
    fn parse(file: &str, document: Document<'_>) -> Result<(Self, Vec<ConfigError>), ConfigError> {
        let head: Head = parse(file, document)?;
        let raw = parse_untyped(file, document)?;
        let namespace = head.metadata.namespace.unwrap_or_else(|| "default".to_owned());
        let label = format!("{} {}/{}", head.kind, namespace, head.metadata.name);
        let mut object = Self {
            api_version: head.api_version,
            kind: head.kind,
            namespace,
            name: head.metadata.name,
            created: head.metadata.creation_timestamp.and_then(|text| text.parse().ok()),
            spec: Spec::Other,
            raw,
        };
        let group = object.api_version.split('/').next().unwrap_or_default();
        let mut faults = Vec::new();
        if group == "networking.istio.io" {
            let spec = match object.kind.as_str() {
                "VirtualService" => typed(file, document, &mut faults).map(Spec::VirtualService),
                "DestinationRule" => typed(file, document, &mut faults).map(Spec::DestinationRule),
                "Gateway" => typed(file, document, &mut faults).map(Spec::Gateway),
                "ServiceEntry" => typed(file, document, &mut faults).map(Spec::ServiceEntry),
                "Sidecar" => typed(file, document, &mut faults).map(Spec::Sidecar),
                _ => Some(Spec::Other),
            };
            object.spec = spec.unwrap_or(Spec::Invalid);
            for (field, message) in validate::faults(&object.spec) {
                faults.push(ConfigError {
                    file: file.to_owned(),
                    document: document.number,
                    line: document.lines_before + 1,
                    object: None,
                    field,
                    message,
                });
                object.spec = Spec::Invalid;
            }
        }
        for fault in &mut faults {
            fault.object = Some(label.clone());
        }
        Ok((object, faults))
    }
}

fn typed<T: DeserializeOwned>(
    file: &str,
    document: Document<'_>,
    faults: &mut Vec<ConfigError>,
) -> Option<Arc<T>> {
    match parse::<WithSpec<T>>(file, document) {
        Ok(with_spec) => Some(Arc::new(with_spec.spec)),
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

#[cfg(test)]
mod tests;

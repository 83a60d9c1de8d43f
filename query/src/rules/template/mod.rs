//! Templates of labels and annotations: the part of Go's `text/template` that rule files use, with Prometheus'
//! functions.
//!
//! A template is parsed once, when its rule file is read, and expanded at each evaluation. Expansion is bounded in
//! steps and in output; whatever goes wrong is an error with the line in the template.

mod exec;
mod functions;
mod lexer;
mod parser;
mod print;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use functions::{function_names, url_query_escape};
pub(crate) use value::Value;

use parser::Node;

/// A template that cannot be read or expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub(crate) struct TemplateError {
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// What a template may ask of its surroundings.
pub(crate) trait Surroundings {
    /// The instant vector of a PromQL query at the time of the evaluation.
    fn query(&self, query: &str) -> Result<Vec<Value>, String>;
    /// Where a browser finds this server, without a slash at the end.
    fn external_url(&self) -> &str;
}

/// A template, ready to expand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

impl Template {
    /// Knows the variables `$labels`, `$externalLabels`, `$externalURL` and `$value`, as Prometheus defines them in
    /// front of each template of a rule.
    pub(crate) fn parse(text: &str) -> Result<Template, TemplateError> {
        Ok(Template { nodes: parser::parse(text, &PREDEFINED.map(|(variable, _)| variable))? })
    }

    /// Expands over `data`, whose fields are `Labels`, `ExternalLabels`, `ExternalURL` and `Value`.
    pub(crate) fn expand(
        &self,
        data: &Value,
        surroundings: &dyn Surroundings,
    ) -> Result<String, TemplateError> {
        let variables = PREDEFINED
            .iter()
            .map(|(variable, field)| ((*variable).to_string(), data.member(field).unwrap_or(Value::Nil)))
            .collect();
        exec::run(&self.nodes, data, variables, surroundings)
    }
}

/// Variables that are there from the start, and the fields of the data that they stand for.
const PREDEFINED: [(&str, &str); 4] = [
    ("labels", "Labels"),
    ("externalLabels", "ExternalLabels"),
    ("externalURL", "ExternalURL"),
    ("value", "Value"),
];

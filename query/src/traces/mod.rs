//! Traces: search, lookup, and their JSON as Jaeger has it.

pub(crate) mod api;
mod duration;
mod ids;
mod legacy;
mod otlp_json;
mod search;
mod transform;

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::transform::spans_of_otlp_json;
}

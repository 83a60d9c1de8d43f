//! What Envoy says of a request, from whichever wire: the names of both ends, and access-log lines.

mod line;
mod naming;
mod node;
mod record;

pub use line::{ParseLineError, parse_line};
pub(crate) use naming::{Naming, apply_labels};
pub(crate) use node::{ProxyNode, peer_of_struct};
pub(crate) use record::access_log_of_record;

#[cfg(test)]
mod tests;

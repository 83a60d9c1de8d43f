//! Access logs: filter, page through, follow.

mod access_logs;
pub(crate) mod api;
mod filter;

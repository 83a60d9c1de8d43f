//! PromQL as of Prometheus 3.
mod ast;
mod functions;
mod matcher;
mod parser;
mod text;

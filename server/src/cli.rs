use std::{ffi::OsString, path::PathBuf};

use clap::{Parser, Subcommand};
use pharos_demo::{DemoNetwork, MAX_REQUESTS_PER_SECOND};

use crate::{settings::Settings, storage_tools::StorageCommand};

/// The observability backend of a service mesh: topology, traces, metrics and logs in one binary.
#[derive(Parser, Debug)]
#[command(name = "pharos", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run the backend: take in telemetry, store it, answer queries, serve the web UI
    #[command(after_help = "Example:\n  pharos serve --data-dir /var/lib/pharos --config pharos.yaml\n\n\
        Every option can also be a key of the YAML file (data_dir, listen_ui, …) or an environment variable.")]
    Serve(Serve),
    /// Run the backend with a whole Bookinfo mesh and a steady load beside it
    #[command(
        after_help = "Example:\n  pharos demo --rps 50\n\nThen open http://127.0.0.1:20001. Ctrl-C stops all of it."
    )]
    Demo(Demo),
    /// Take over what another system has stored; Pharos must not be running on the same data directory
    #[command(subcommand)]
    Import(Import),
    /// Look at the tables, check and mend them, take rows out
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Check files without starting anything
    #[command(subcommand)]
    Check(Check),
    /// One process of the demo; started by `pharos demo`
    #[command(name = pharos_demo::PROCESS_SUBCOMMAND, hide = true, disable_help_flag = true)]
    DemoProcess {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Import {
    /// A Prometheus TSDB: its data directory with blocks and write-ahead log, a snapshot of it, or one block
    #[command(
        after_help = "Example:\n  pharos import tsdb /var/lib/prometheus --data-dir /var/lib/pharos\n\n\
        Samples that are there already stay as they are. Run it again to go on where it ended, or to fetch what a\n\
        Prometheus that goes on running has written since."
    )]
    Tsdb {
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        #[command(flatten)]
        serve: Serve,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum Check {
    /// Read Prometheus' rule files and tell of all faults in them
    Rules {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Serve {
    /// YAML file with settings
    #[arg(long, value_name = "FILE", env = "PHAROS_CONFIG")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Demo {
    /// Requests per second that arrive at the gateway, whether or not earlier ones were answered
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = parse_rate)]
    pub rps: f64,
    /// Folder with the mesh's Istio YAML, which may be edited while the demo runs [default: deploy/demo if it is
    /// there, else a copy of the one built in]
    #[arg(long, value_name = "DIR")]
    pub mesh_dir: Option<PathBuf>,
    /// First three octets of the loopback network that the mesh lives in
    #[arg(long, value_name = "127.X.Y", default_value_t)]
    pub network: DemoNetwork,
    /// The pharos-proxy binary [default: the one beside this binary]
    #[arg(long, value_name = "FILE", env = "PHAROS_PROXY")]
    pub proxy: Option<PathBuf>,
    #[command(flatten)]
    pub serve: Serve,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.0..=MAX_REQUESTS_PER_SECOND).contains(&rate) => Ok(rate),
        _ => Err(format!("{text:?} is no rate from 0 to {MAX_REQUESTS_PER_SECOND}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}

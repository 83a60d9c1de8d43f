//! The table.

#![allow(clippy::print_stdout, reason = "the table is the program's output")]

use anyhow::Result;

use crate::{Figures, Options, peer::Program};

pub(crate) fn print(options: &Options) -> Result<()> {
    let read = |program: Program| -> Result<Option<Figures>> {
        match std::fs::read(options.results.join(format!("{}.json", program.name()))) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(_) => Ok(None),
        }
    };
    let all = [read(Program::Pharos)?, read(Program::Prometheus)?, read(Program::VictoriaMetrics)?];
    for figures in all.iter().flatten() {
        println!("{}: {} series, {} samples", figures.program, figures.series, figures.samples);
    }
    println!(
        "\n{:<38} {:>11} {:>11} {:>11} {:>9} {:>9}",
        "", "pharos", "prometheus", "victoria", "vs prom.", "vs vict."
    );
    // A ratio above 1 says that Pharos does better.
    let line = |name: &str, unit: f64, lower_is_better: bool, of: &dyn Fn(&Figures) -> Option<f64>| {
        let values: Vec<Option<f64>> = all.iter().map(|one| one.as_ref().and_then(of)).collect();
        let shown =
            |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{:.4}", value / unit));
        let ratio = |peer: Option<f64>| match (values[0], peer) {
            (Some(own), Some(peer)) if lower_is_better => format!("{:.2}x", peer / own),
            (Some(own), Some(peer)) => format!("{:.2}x", own / peer),
            _ => "-".to_string(),
        };
        println!(
            "{name:<38} {:>11} {:>11} {:>11} {:>9} {:>9}",
            shown(values[0]),
            shown(values[1]),
            shown(values[2]),
            ratio(values[1]),
            ratio(values[2])
        );
    };
    for (at, query) in
        all.iter().flatten().next().map(|one| one.queries.clone()).unwrap_or_default().iter().enumerate()
    {
        line(&format!("{} [ms]", query.name), 1e-3, true, &|one| Some(one.queries.get(at)?.median_s));
        line("    first run [ms]", 1e-3, true, &|one| Some(one.queries.get(at)?.first_s));
        line("    CPU of a run [ms]", 1e-3, true, &|one| Some(one.queries.get(at)?.cpu_s));
    }
    line("remote write, live [k samples/CPU s]", 1e3, false, &|one| Some(one.live_per_cpu_s));
    line("remote write, live [k samples/s]", 1e3, false, &|one| Some(one.live_per_s));
    line("remote write, backlog [k/CPU s]", 1e3, false, &|one| Some(one.bulk_per_cpu_s));
    line("remote write, new series [k/CPU s]", 1e3, false, &|one| Some(one.new_series_per_cpu_s));
    line("bytes a sample on disk", 1.0, true, &|one| Some(one.disk_bytes as f64 / one.samples as f64));
    line("    all files merged", 1.0, true, &|one| Some(one.merged_disk_bytes? as f64 / one.samples as f64));
    line("resident after load [MiB]", 1048576.0, true, &|one| Some(one.resident_bytes as f64));
    line("resident after queries [MiB]", 1048576.0, true, &|one| {
        Some(one.resident_after_queries_bytes as f64)
    });
    line("resident at most [MiB]", 1048576.0, true, &|one| Some(one.peak_bytes as f64));
    println!("\nanswers (series, points, sum of finite values):");
    for (at, query) in
        all.iter().flatten().next().map(|one| one.queries.clone()).unwrap_or_default().iter().enumerate()
    {
        for figures in all.iter().flatten() {
            if let Some(timing) = figures.queries.get(at) {
                println!(
                    "{:<38} {:<17} {:>7} {:>9} {:.6}",
                    query.name, figures.program, timing.series, timing.points, timing.sum
                );
            }
        }
    }
    Ok(())
}

//! The architecture's arrows, checked against what the manifests really say.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// For each crate: which of ours it may depend on, and what it must never reach, however indirectly.
const RULES: &[(&str, &[&str], &[&str])] = &[
    ("pharos-model", &[], &["tokio", "arrow", "tonic", "axum"]),
    ("pharos-proto", &["pharos-model"], &["arrow", "pharos-storage"]),
    ("pharos-mesh", &["pharos-model"], &["tokio", "arrow"]),
    ("pharos-storage", &["pharos-model"], &["datafusion", "tonic", "axum"]),
    (
        "pharos-collector",
        &["pharos-model", "pharos-proto", "pharos-storage"],
        &["datafusion", "pharos-query"],
    ),
    ("pharos-promql", &["pharos-model"], &["tokio", "arrow", "datafusion", "pharos-storage"]),
    (
        "pharos-query",
        &["pharos-model", "pharos-mesh", "pharos-promql", "pharos-storage", "pharos-proto"],
        &["pharos-collector", "pharos-proxy"],
    ),
    (
        "pharos-proxy",
        &["pharos-model", "pharos-proto", "pharos-mesh"],
        &["arrow", "parquet", "datafusion", "pharos-storage", "pharos-query"],
    ),
    ("pharos-demo", &["pharos-model"], &["arrow", "datafusion", "pharos-proxy"]),
];

/// Two versions of these in one lock file do not mix: their types meet in our code.
const ONE_VERSION: &[&str] =
    &["arrow", "parquet", "datafusion", "object_store", "tonic", "prost", "axum", "hyper", "tokio"];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .exec()
        .expect("cargo metadata")
}

/// Package name → names of its direct dependencies in a build (tests and benches left out).
fn arrows(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let names: BTreeMap<_, _> = metadata.packages.iter().map(|p| (&p.id, p.name.to_string())).collect();
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let mut arrows = BTreeMap::<String, BTreeSet<String>>::new();
    for node in &resolve.nodes {
        let normal = node
            .deps
            .iter()
            .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal));
        arrows.entry(names[&node.id].clone()).or_default().extend(normal.map(|dep| names[&dep.pkg].clone()));
    }
    arrows
}

fn reached(from: &str, arrows: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_string()];
    while let Some(name) = open.pop() {
        for next in arrows.get(&name).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    found
}

#[test]
fn crates_depend_only_on_what_the_architecture_allows() {
    let arrows = arrows(&metadata());
    let mut faults = Vec::new();
    for (name, allowed, never) in RULES {
        let direct = arrows.get(*name).unwrap_or_else(|| panic!("no crate {name}"));
        for ours in direct.iter().filter(|dep| dep.starts_with("pharos-")) {
            if !allowed.contains(&ours.as_str()) {
                faults.push(format!("{name} depends on {ours}"));
            }
        }
        let reached = reached(name, &arrows);
        faults.extend(
            never
                .iter()
                .filter(|banned| reached.contains(**banned))
                .map(|banned| format!("{name} reaches {banned}")),
        );
    }
    let sees_datafusion =
        arrows.iter().filter(|(name, deps)| name.starts_with("pharos-") && deps.contains("datafusion"));
    faults.extend(
        sees_datafusion
            .filter(|(name, _)| *name != "pharos-query")
            .map(|(name, _)| format!("{name} sees DataFusion")),
    );
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_lock_file_holds_one_version_of_what_must_not_mix() {
    let mut versions = BTreeMap::<String, BTreeSet<String>>::new();
    for package in &metadata().packages {
        versions.entry(package.name.to_string()).or_default().insert(package.version.to_string());
    }
    for name in ONE_VERSION {
        assert_eq!(versions[*name].len(), 1, "{name}: {:?}", versions[*name]);
    }
}

/// Every crate's face says what it is, and no folder is a drawer.
#[test]
fn every_crate_introduces_itself() {
    for package in metadata().workspace_packages() {
        let source = package.manifest_path.parent().expect("a folder").join("src/lib.rs");
        let source = if source.exists() { source } else { continue };
        let head = std::fs::read_to_string(&source).expect("readable source");
        let lines = head.lines().take_while(|line| line.starts_with("//!")).count();
        assert!(lines >= 4, "{source} has {lines} lines of introduction");
    }
}

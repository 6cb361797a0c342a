//! Dependencies point down only (ARCHITECTURE.md, "Layers").

use anyhow::{Context, Result};
use serde_json::Value;
use std::{path::Path, process::Command};

/// From the ground up. A crate may use lower layers, and of its own layer only what `SIDEWAYS` names.
const LAYERS: &[&[&str]] = &[
    &["types"],
    &["gguf", "fuzzing"],
    &["config", "telemetry", "proto", "tokenizer", "kernels", "security"],
    &["kv-cache", "kv-index", "routing", "scheduler", "kv-transfer", "model"],
    &["engine", "simulator"],
    &["worker"],
    &["router", "prefill-worker", "decode-worker"],
    &["cli"],
    &["integration-tests"],
];

/// Edges inside a layer that were decided on.
const SIDEWAYS: &[(&str, &str)] = &[("scheduler", "kv-cache")];

/// Crates that must not be reached from others, not even through a third one.
const NEVER: &[(&str, &str)] = &[
    ("router", "engine"),
    ("router", "kernels"),
    ("router", "model"),
    ("router", "kv-transfer"),
    ("worker", "router"),
    ("worker", "tokenizer"),
];

/// Logic without sockets, clocks or tasks.
const PURE: &[&str] =
    &["types", "kv-cache", "kv-index", "routing", "scheduler", "engine", "model", "simulator"];

const PREFIX: &str = "estafette-";

/// A crate and the workspace crates it uses outside tests; short names.
struct Node {
    name: String,
    uses: Vec<String>,
    outside: Vec<String>,
}

pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let nodes = workspace(root)?;
    let mut problems = Vec::new();
    for node in &nodes {
        problems.extend(check_layers(node));
        let tokio = node.outside.iter().any(|dep| dep == "tokio" || dep == "tonic");
        if PURE.contains(&node.name.as_str()) && tokio {
            problems.push(format!("{} is pure and must not use tokio", node.name));
        }
    }
    for (from, to) in NEVER {
        if reaches(&nodes, from, to) {
            problems.push(format!("{from} must never depend on {to}, not even through others"));
        }
    }
    Ok(problems)
}

fn check_layers(node: &Node) -> Vec<String> {
    let layer = |name: &str| LAYERS.iter().position(|names| names.contains(&name));
    let Some(own) = layer(&node.name) else {
        return vec![format!("crate {} has no layer: add it to LAYERS in xtask", node.name)];
    };
    let sideways = |to: &str| SIDEWAYS.contains(&(node.name.as_str(), to));
    node.uses
        .iter()
        .filter(|to| layer(to).is_none_or(|other| other >= own) && !sideways(to))
        .map(|to| format!("{} must not depend on {to}: edges point down", node.name))
        .collect()
}

fn reaches(nodes: &[Node], from: &str, to: &str) -> bool {
    let uses = |name: &str| nodes.iter().find(|n| n.name == name).map(|n| n.uses.as_slice());
    let mut open = vec![from];
    let mut seen = vec![from];
    while let Some(name) = open.pop() {
        for next in uses(name).unwrap_or_default() {
            if next == to {
                return true;
            }
            if !seen.contains(&next.as_str()) {
                seen.push(next);
                open.push(next);
            }
        }
    }
    false
}

fn workspace(root: &Path) -> Result<Vec<Node>> {
    let output = Command::new("cargo")
        .args(["metadata", "--locked", "--no-deps", "--format-version=1"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    anyhow::ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    Ok(packages.iter().filter_map(node).collect())
}

fn node(package: &Value) -> Option<Node> {
    let name = package["name"].as_str()?.strip_prefix(PREFIX)?.to_owned();
    let normal = package["dependencies"]
        .as_array()?
        .iter()
        .filter(|dep| dep["kind"].is_null())
        .filter_map(|dep| dep["name"].as_str());
    let (uses, outside): (Vec<_>, Vec<_>) = normal.partition(|dep| dep.starts_with(PREFIX));
    Some(Node {
        name,
        uses: uses.iter().map(|dep| dep[PREFIX.len()..].to_owned()).collect(),
        outside: outside.iter().map(|&dep| dep.to_owned()).collect(),
    })
}

#[cfg(test)]
mod tests;

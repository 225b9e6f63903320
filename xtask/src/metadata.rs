//! `cargo metadata`, as far as the chores look at it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// One package of the dependency tree.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// SPDX expression, empty when there is none.
    pub(crate) licence: String,
    /// Where it comes from; `None` for members of the workspace.
    pub(crate) source: Option<String>,
    /// Names of direct dependencies, without those of tests and builds.
    pub(crate) dependencies: Vec<String>,
}

/// All packages of the lock file.
///
/// # Errors
/// When cargo fails, or says something else than expected.
pub(crate) fn packages(root: &Path) -> Result<Vec<Package>, Box<dyn std::error::Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let all: Value = serde_json::from_slice(&output.stdout)?;
    let packages = all.get("packages").and_then(Value::as_array).ok_or("no packages")?;
    Ok(packages.iter().map(package).collect())
}

fn package(value: &Value) -> Package {
    let text = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let dependencies = value.get("dependencies").and_then(Value::as_array);
    let normal = |dependency: &&Value| dependency.get("kind").is_some_and(Value::is_null);
    let name = |dependency: &Value| dependency.get("name")?.as_str().map(str::to_owned);
    Package {
        name: text("name").unwrap_or_default(),
        version: text("version").unwrap_or_default(),
        licence: text("license").unwrap_or_default(),
        source: text("source"),
        dependencies: dependencies
            .map(|list| list.iter().filter(normal).filter_map(name).collect())
            .unwrap_or_default(),
    }
}

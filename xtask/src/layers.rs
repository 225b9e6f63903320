//! Imports point downwards: between crates by the table here, inside the engine by the one in
//! ARCHITECTURE.md.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::Findings;
use crate::metadata;

/// Which members of the workspace a member may use. `fuse4fs-tests` and `xtask` may use any.
const CRATES: &[(&str, &[&str])] = &[
    ("fuse4fs-protocol", &[]),
    ("fuse4fs-ext4", &[]),
    ("fuse4fs-helper", &["fuse4fs-protocol"]),
    ("fuse4fs-server", &["fuse4fs-protocol", "fuse4fs-ext4"]),
];

/// Libraries that one member alone may use: what they do is that member's job.
const ONE_USER: &[(&str, &str)] = &[
    ("bincode", "fuse4fs-protocol"),
    ("fuser", "fuse4fs-server"),
    ("landlock", "fuse4fs-server"),
    ("seccompiler", "fuse4fs-server"),
];

/// Libraries that reach the system, which the engine must not.
const NOT_FOR_THE_ENGINE: &[&str] = &["libc", "nix", "rustix", "sendfd", "serde", "tracing"];

/// Checks both tables.
pub(crate) fn check(root: &Path) -> Findings {
    let mut findings = crates(root)?;
    findings.extend(modules(root)?);
    Ok(findings)
}

fn crates(root: &Path) -> Findings {
    let mut findings = Vec::new();
    let packages = metadata::packages(root)?;
    let members: Vec<_> = packages.iter().filter(|package| package.source.is_none()).collect();
    for member in &members {
        let allowed = CRATES.iter().find(|(name, _)| *name == member.name).map(|(_, to)| *to);
        for used in &member.dependencies {
            let inside = members.iter().any(|other| other.name == *used);
            let free = allowed.is_none_or(|allowed| allowed.contains(&used.as_str()));
            let owner = ONE_USER.iter().find(|(name, _)| name == used).map(|(_, owner)| *owner);
            let engine = member.name == "fuse4fs-ext4";
            if (inside && !free)
                || (allowed.is_some() && owner.is_some_and(|owner| owner != member.name))
                || (engine && NOT_FOR_THE_ENGINE.contains(&used.as_str()))
            {
                findings.push(format!("{} must not depend on {used}", member.name));
            }
        }
    }
    Ok(findings)
}

fn modules(root: &Path) -> Findings {
    let ranks = ranks(&std::fs::read_to_string(root.join("ARCHITECTURE.md"))?);
    if ranks.is_empty() {
        return Err("ARCHITECTURE.md has no layer table".into());
    }
    let sources = root.join("server/ext4/src");
    let mut findings = Vec::new();
    for file in rust_files(&sources)? {
        let name = file.strip_prefix(&sources)?.to_string_lossy().into_owned();
        let module = name.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        if module == "lib" || module == "testing" || name.contains("test") {
            continue;
        }
        let Some(rank) = ranks.get(module) else {
            findings.push(format!("{name}: no row of the layer table names `{module}`"));
            continue;
        };
        for used in imports(&std::fs::read_to_string(&file)?) {
            match ranks.get(&used) {
                Some(other) if other <= rank => {}
                Some(_) => findings.push(format!("{name}: `{module}` imports `{used}` above it")),
                None => findings.push(format!("{name}: `crate::{used}` names no layer")),
            }
        }
    }
    Ok(findings)
}

/// Module → rank, 0 at the bottom. The table stands between two comments, its top layer first; the
/// second column names modules in backquotes.
fn ranks(text: &str) -> BTreeMap<String, usize> {
    let table = text.split("<!-- layers -->").nth(1).unwrap_or_default();
    let rows = table.lines().rev().filter_map(|line| line.split('|').nth(2));
    rows.filter(|cell| cell.contains('`'))
        .enumerate()
        .flat_map(|(rank, cell)| {
            let names = cell.split('`').skip(1).step_by(2);
            names.map(move |name| (name.to_owned(), rank)).collect::<Vec<_>>()
        })
        .collect()
}

/// The modules named after `crate::`, up to the unit tests, which may use anything.
fn imports(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut names: Vec<String> = lines
        .flat_map(|line| line.split("crate::").skip(1))
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => list.split(['}', ';']).next().unwrap_or_default().split(',').collect(),
            None => vec![rest],
        })
        .map(|path| path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .filter(|name: &String| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn rust_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "<!-- layers -->\n| layer | modules |\n|---|---|\n\
        | verbs | `ops`, `mount` |\n| words | `ids` |\n<!-- layers -->";

    #[test]
    fn the_last_row_is_the_lowest() {
        let ranks = ranks(TABLE);
        assert_eq!(ranks.get("ids"), Some(&0));
        assert_eq!(ranks.get("mount"), Some(&1));
        assert_eq!(ranks.len(), 3);
    }

    #[test]
    fn imports_are_found_in_lists_and_paths_but_not_in_comments() {
        let code = "use crate::{map::Run, ids};\nfn f() { crate::inode::get() }\n\
            // crate::ops\npub(crate) fn g() {}\n#[cfg(test)]\nmod t { use crate::mount; }";
        assert_eq!(imports(code), ["ids", "inode", "map"]);
    }
}

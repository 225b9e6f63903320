//! Licences and sources of dependencies against deny.toml, for machines without cargo-deny.

use std::path::Path;

use crate::Findings;
use crate::metadata::{self, Package};

/// The one place that dependencies come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Every dependency is from crates.io and offers a licence of the list in deny.toml.
pub(crate) fn check(root: &Path) -> Findings {
    let allowed = allowed(&std::fs::read_to_string(root.join("deny.toml"))?);
    if allowed.is_empty() {
        return Err("deny.toml allows no licence".into());
    }
    let packages = metadata::packages(root)?;
    Ok(packages.iter().filter_map(|package| finding(package, &allowed)).collect())
}

fn finding(package: &Package, allowed: &[String]) -> Option<String> {
    let Package { name, version, licence, source, .. } = package;
    if source.as_ref().is_some_and(|source| source != REGISTRY) {
        return Some(format!("{name} {version} does not come from crates.io"));
    }
    if satisfied(licence, allowed) {
        return None;
    }
    Some(format!("{name} {version}: licence {licence:?} is not among those of deny.toml"))
}

/// The strings of `allow = [...]`.
fn allowed(text: &str) -> Vec<String> {
    let list = text.split("\nallow = [").nth(1).and_then(|rest| rest.split(']').next());
    let quoted = list.unwrap_or_default().split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// AND binds tighter than OR; `/` is the old way to write OR. One level of parentheses is enough
/// for what crates write; more of them is a finding.
fn satisfied(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ");
    let all = |list: &str| {
        list.split(" AND ").all(|one| allowed.iter().any(|licence| licence == one.trim()))
    };
    match expression.strip_prefix('(').and_then(|rest| rest.split_once(") AND ")) {
        Some((either, rest)) => either.split(" OR ").any(all) && all(rest),
        None => expression.split(" OR ").any(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alternative_is_enough_and_every_part_is_needed() {
        let allowed = ["MIT".to_owned(), "Unicode-3.0".to_owned()];
        for good in ["MIT", "GPL-2.0 OR MIT", "Apache-2.0/MIT", "(MIT OR GPL-2.0) AND Unicode-3.0"]
        {
            assert!(satisfied(good, &allowed), "{good}");
        }
        for bad in ["", "GPL-2.0", "MIT AND GPL-2.0", "(MIT OR GPL-2.0) AND GPL-3.0"] {
            assert!(!satisfied(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn the_list_is_read_from_deny_toml() {
        let text = "[licenses]\nallow = [\n  \"MIT\",\n  \"Zlib\",\n]\n";
        assert_eq!(allowed(text), ["MIT", "Zlib"]);
    }
}

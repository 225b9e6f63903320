//! Prometheus' text format, read strictly: what is not of its grammar is an error.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

/// One line of a metric.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

fn sample(line: &str) -> Result<Sample> {
    let wrong = || format!("no sample: {line}");
    let (name, rest) = line.split_once('{').with_context(wrong)?;
    let is_name = |name: &str| {
        let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit())
    };
    ensure!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    loop {
        let (label, after) = rest.split_once("=\"").with_context(wrong)?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().with_context(wrong)? {
                (end, '"') => break end,
                (_, '\\') => value.push(match chars.next().with_context(wrong)?.1 {
                    'n' => '\n',
                    c if matches!(c, '\\' | '"') => c,
                    c => anyhow::bail!("\\{c} in {line}"),
                }),
                (_, c) => value.push(c),
            }
        };
        ensure!(is_name(label) && labels.insert(label.to_owned(), value).is_none(), "{line}");
        let after = &after[end + 1..];
        if let Some(value) = after.strip_prefix("} ") {
            return Ok(Sample { name: name.to_owned(), labels, value: value.parse()? });
        }
        rest = after.strip_prefix(',').with_context(wrong)?;
    }
}

/// All samples, once the page is found to be one.
///
/// # Errors
/// Where it is none.
pub(crate) fn samples(page: &str) -> Result<Vec<Sample>> {
    let (mut metric, mut kind, mut known) = (String::new(), String::new(), BTreeSet::new());
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    ensure!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            metric = help.split(' ').next().unwrap_or_default().to_owned();
            ensure!(known.insert(metric.clone()), "{metric} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').context("type")?;
            ensure!(name == metric && ["gauge", "counter", "histogram"].contains(&of), "{line}");
            ensure!((of == "counter") == name.ends_with("_total"), "{line}");
            of.clone_into(&mut kind);
        } else {
            let sample = sample(line)?;
            let Sample { name, labels, .. } = &sample;
            let suffix = name.strip_prefix(&metric).with_context(|| format!("{line}: {metric}"))?;
            let suffixes: &[&str] =
                if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            ensure!(suffixes.contains(&suffix), "{line}");
            ensure!(seen.insert((name.clone(), labels.clone())), "twice: {line}");
            found.push(sample);
        }
    }
    Ok(found)
}

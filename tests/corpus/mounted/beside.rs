//! The table of ours and fuse2fs, side by side.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

use anyhow::{Context, Result};
use fuse4fs_tests::command;

use super::visit::Fate;
use super::{Judged, Pair};
use crate::manifest::Row;
use crate::verdict::Verdict;

/// Ours, and fuse2fs.
const NAMES: [&str; 2] = ["fuse4fs", "fuse2fs"];

/// What came of all images with one of both, in one way.
#[derive(Clone, Copy, Default, Debug)]
struct Sum {
    served: usize,
    refused: usize,
    crashed: usize,
    hung: usize,
    same: usize,
    stricter: usize,
    misread: usize,
    worse: usize,
    /// KiB.
    resident: u64,
}

/// How a tree was read that the kernel reads without an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    Same,
    /// Not all of it, and that was said.
    Stricter,
    /// Otherwise, and nothing was said.
    Misread,
}

/// By whom and how: `[fuse4fs, fuse2fs]` of `[read-only, written]`.
type Sums = [[Sum; 2]; 2];

/// What a row of the table tells.
type Value = fn(&Sum) -> u64;

/// All images that were looked at.
#[derive(Debug)]
pub(crate) struct Table {
    want: usize,
    images: usize,
    comparable: usize,
    sound: usize,
    all: Sums,
    classes: BTreeMap<String, (usize, Sums)>,
    /// What each did wrong, by image.
    faults: BTreeMap<String, [String; 2]>,
}

fn reading(row: &Row, judged: &Judged) -> Option<Reading> {
    let theirs = row.recovered_digest.as_ref()?;
    let Some(walked) = &judged.round.walked else { return Some(Reading::Stricter) };
    Some(if walked.digest == *theirs {
        Reading::Same
    } else if walked.errnos.is_empty() && walked.complete {
        Reading::Misread
    } else {
        Reading::Stricter
    })
}

impl Sum {
    fn add(&mut self, row: &Row, judged: &Judged) {
        match &judged.round.fate {
            Fate::Served => self.served += 1,
            Fate::Refused => self.refused += 1,
            Fate::Crashed(_) => self.crashed += 1,
            Fate::Hung(_) => self.hung += 1,
        }
        match reading(row, judged) {
            Some(Reading::Same) => self.same += 1,
            Some(Reading::Stricter) => self.stricter += 1,
            Some(Reading::Misread) => self.misread += 1,
            None => {}
        }
        self.worse += usize::from(judged.is_worse());
        self.resident = self.resident.max(judged.round.resident.unwrap_or(0));
    }
}

/// What is to be held against it.
fn faults(row: &Row, pair: &Pair) -> String {
    let mut said = Vec::new();
    for (way, judged) in ["ro", "rw"].into_iter().zip(pair) {
        match &judged.round.fate {
            Fate::Crashed(how) => said.push(format!("{way}: {how}")),
            Fate::Hung(what) => said.push(format!("{way}: hangs: {what}")),
            Fate::Served | Fate::Refused => {}
        }
        if reading(row, judged) == Some(Reading::Misread) {
            said.push(format!("{way}: shows another tree"));
        }
        if judged.is_worse() {
            let (before, after) = (judged.before, judged.after);
            said.push(format!("{way}: {before:?} before, {after:?} after"));
        }
    }
    said.join("; ")
}

impl Table {
    /// An empty one, of `want` images in the end.
    pub(crate) fn new(want: usize) -> Self {
        Self {
            want,
            images: 0,
            comparable: 0,
            sound: 0,
            all: Sums::default(),
            classes: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }

    /// What ours and fuse2fs made of one image.
    pub(super) fn add(&mut self, row: &Row, pairs: [&Pair; 2]) {
        self.images += 1;
        self.comparable += usize::from(row.recovered_digest.is_some());
        self.sound += usize::from(pairs[0][0].before == Verdict::Sound);
        let (images, class) = self.classes.entry(row.class.clone()).or_default();
        *images += 1;
        for (who, pair) in pairs.into_iter().enumerate() {
            for (way, judged) in pair.iter().enumerate() {
                self.all[who][way].add(row, judged);
                class[who][way].add(row, judged);
            }
        }
        let faults = pairs.map(|pair| faults(row, pair));
        if faults.iter().any(|said| !said.is_empty()) {
            self.faults.insert(row.name.clone(), faults);
        }
    }

    /// All of it as text, if it is of all images.
    ///
    /// # Errors
    /// When it cannot be told who was compared.
    pub(crate) fn text(&self) -> Result<Option<String>> {
        if self.images != self.want || self.images == 0 {
            return Ok(None);
        }
        let mut text = format!("By {}.\n\n", versions()?);
        self.totals(&mut text)?;
        self.by_class(&mut text)?;
        self.by_image(&mut text)?;
        Ok(Some(text))
    }

    fn totals(&self, text: &mut String) -> Result<()> {
        let (images, comparable, sound) = (self.images, self.comparable, self.sound);
        writeln!(
            text,
            "| of {images} images | fuse4fs, ro | fuse2fs, ro | fuse4fs, rw | fuse2fs, rw |"
        )?;
        writeln!(text, "|---|---:|---:|---:|---:|")?;
        let rows: [(String, Value); 9] = [
            ("served to the end".to_owned(), |sum| sum.served as u64),
            ("refused".to_owned(), |sum| sum.refused as u64),
            ("**crashes**".to_owned(), |sum| sum.crashed as u64),
            ("**hangs**".to_owned(), |sum| sum.hung as u64),
            (format!("of {comparable} that the kernel reads: the same"), |sum| sum.same as u64),
            ("… with errors, or not".to_owned(), |sum| sum.stricter as u64),
            ("… **another tree, and no error**".to_owned(), |sum| sum.misread as u64),
            (format!("**worse** by e2fsck than before ({sound} were sound)"), |sum| {
                sum.worse as u64
            }),
            ("memory at most, MiB".to_owned(), |sum| sum.resident.div_ceil(1024)),
        ];
        for (what, value) in rows {
            let [[a, b], [c, d]] = self.all.map(|ways| ways.map(|sum| value(&sum)));
            writeln!(text, "| {what} | {a} | {c} | {b} | {d} |")?;
        }
        Ok(())
    }

    fn by_class(&self, text: &mut String) -> Result<()> {
        let heads = NAMES.map(|name| format!("{name}: crashes | hangs | other trees | worse"));
        writeln!(text, "\n| class | images | {} |", heads.join(" | "))?;
        writeln!(text, "|---|{}", "---:|".repeat(9))?;
        for (class, (images, sums)) in &self.classes {
            let cells = sums.map(|ways| {
                let all = |value: fn(&Sum) -> usize| ways.iter().map(value).sum::<usize>();
                let (crashed, hung) = (all(|sum| sum.crashed), all(|sum| sum.hung));
                let (misread, worse) = (all(|sum| sum.misread), all(|sum| sum.worse));
                format!("{crashed} | {hung} | {misread} | {worse}")
            });
            writeln!(text, "| {class} | {images} | {} |", cells.join(" | "))?;
        }
        Ok(())
    }

    fn by_image(&self, text: &mut String) -> Result<()> {
        writeln!(text, "\n| image | {} |\n|---|---|---|", NAMES.join(" | "))?;
        for (image, [ours, theirs]) in &self.faults {
            writeln!(text, "| {image} | {ours} | {theirs} |")?;
        }
        Ok(())
    }
}

/// Who was compared.
fn versions() -> Result<String> {
    let output = command::run(Command::new("fuse2fs").arg("-V"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let fuse2fs = said.lines().next().context("no version of fuse2fs")?;
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    Ok(format!("fuse4fs {} and {}, Linux {kernel}", env!("CARGO_PKG_VERSION"), fuse2fs.trim()))
}

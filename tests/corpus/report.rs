//! The table of docs/hostile-images.md.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::child::Outcome;
use crate::manifest::Row;

/// What came of one image.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) stale: Outcome,
    pub(crate) recovered: Outcome,
    pub(crate) changed: Outcome,
    /// e2fsck found nothing to repair before the changes, and so after them.
    pub(crate) stays_sound: bool,
}

#[derive(Default, Debug)]
struct Sum {
    images: usize,
    kernel_mounts: usize,
    mounted: usize,
    with_errors: usize,
    recovered: usize,
    changed: usize,
    comparable: usize,
    same: usize,
    sound: usize,
    fuse2fs_crashed: usize,
}

impl Sum {
    fn add(&mut self, row: &Row, line: &Line) {
        let Line { stale, recovered, changed, stays_sound } = line;
        let is_same = |theirs: &String| stale.digest == *theirs;
        self.images += 1;
        self.kernel_mounts += usize::from(row.kernel_mounts);
        self.mounted += usize::from(stale.mount.is_ok());
        self.with_errors += usize::from(!stale.errors.is_empty());
        self.recovered += usize::from(recovered.mount.is_ok());
        self.changed += usize::from(changed.mount.is_ok());
        self.comparable += usize::from(row.digest.is_some());
        self.same += usize::from(row.digest.as_ref().is_some_and(is_same));
        self.sound += usize::from(*stays_sound);
        self.fuse2fs_crashed += usize::from(row.fuse2fs == "crash" || row.fuse2fs == "hang");
    }

    fn stricter(&self) -> usize {
        self.comparable - self.same
    }
}

/// All of it, by class.
#[derive(Default, Debug)]
pub(crate) struct Report {
    all: Sum,
    classes: BTreeMap<String, Sum>,
    /// What the kernel reads and we do not: image and why.
    stricter: BTreeMap<String, String>,
    codes: BTreeMap<String, usize>,
}

impl Report {
    pub(crate) fn add(&mut self, row: &Row, line: Line) {
        for sum in [&mut self.all, self.classes.entry(row.class.clone()).or_default()] {
            sum.add(row, &line);
        }
        let Line { stale, recovered, .. } = line;
        if row.digest.as_ref().is_some_and(|theirs| stale.digest != *theirs) {
            let errors = stale.errors.keys().cloned().collect::<Vec<_>>().join(", ");
            let why = stale.mount.clone().err().unwrap_or(errors);
            let why = crate::known(row).map_or(why, str::to_owned);
            self.stricter.insert(row.name.clone(), why);
        }
        let met = [&stale, &recovered]
            .into_iter()
            .flat_map(|outcome| outcome.errors.keys().cloned().chain(outcome.mount.clone().err()));
        let met: std::collections::BTreeSet<String> = met.collect();
        for code in met {
            *self.codes.entry(code).or_default() += 1;
        }
    }

    /// How many images.
    pub(crate) fn images(&self) -> usize {
        self.all.images
    }

    /// One line.
    pub(crate) fn summary(&self) -> String {
        let sum = &self.all;
        format!(
            "{} images: {} mounted, {} to be written; {} of {} read as the kernel does, {} stricter; {} sound ones still sound",
            sum.images,
            sum.mounted,
            sum.changed,
            sum.same,
            sum.comparable,
            sum.stricter(),
            sum.sound
        )
    }

    /// All of it, as text.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "| class | images | kernel 6.1 mounts | mounted | … with errors | with its journal | to be written | kernel reads all | … the same | … stricter | sound, changed and sound | fuse2fs crashes or hangs |"
        );
        let _ = writeln!(text, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
        let classes = self.classes.iter().map(|(name, sum)| (name.as_str(), sum));
        for (name, sum) in classes.chain([("**all**", &self.all)]) {
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                sum.images,
                sum.kernel_mounts,
                sum.mounted,
                sum.with_errors,
                sum.recovered,
                sum.changed,
                sum.comparable,
                sum.same,
                sum.stricter(),
                sum.sound,
                sum.fuse2fs_crashed,
            );
        }
        let _ = writeln!(
            text,
            "\n| read by kernel 6.1 without an error, and not so by us | why |\n|---|---|"
        );
        for (name, why) in &self.stricter {
            let _ = writeln!(text, "| {name} | {why} |");
        }
        let _ = writeln!(text, "\n| error | images |\n|---|---:|");
        for (code, images) in &self.codes {
            let _ = writeln!(text, "| {code} | {images} |");
        }
        text
    }
}

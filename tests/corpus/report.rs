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
    pub(crate) was_sound: bool,
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
    stricter: usize,
    sound: usize,
    fuse2fs_crashed: usize,
}

/// All of it, by class.
#[derive(Default, Debug)]
pub(crate) struct Report {
    classes: BTreeMap<String, Sum>,
    /// What the kernel reads and we do not: image and why.
    stricter: BTreeMap<String, String>,
    codes: BTreeMap<String, usize>,
}

impl Report {
    pub(crate) fn add(&mut self, row: &Row, line: Line) {
        let Line { stale, recovered, changed, was_sound } = line;
        let sum = self.classes.entry(row.class.clone()).or_default();
        sum.images += 1;
        sum.kernel_mounts += usize::from(row.kernel_mounts);
        sum.mounted += usize::from(stale.mount.is_ok());
        sum.with_errors += usize::from(!stale.errors.is_empty());
        sum.recovered += usize::from(recovered.mount.is_ok());
        sum.changed += usize::from(changed.mount.is_ok());
        sum.fuse2fs_crashed += usize::from(row.fuse2fs == "crash" || row.fuse2fs == "hang");
        sum.sound += usize::from(was_sound && changed.mount.is_ok());
        if let Some(theirs) = &row.digest {
            sum.comparable += 1;
            sum.same += usize::from(stale.digest == *theirs);
            if stale.digest != *theirs {
                sum.stricter += 1;
                let errors = stale.errors.keys().cloned().collect::<Vec<_>>().join(", ");
                let known = crate::KNOWN.iter().find(|(name, _)| *name == row.name);
                let why = stale.mount.clone().err().unwrap_or(errors);
                let why = known.map_or(why, |(_, known)| (*known).to_owned());
                self.stricter.insert(row.name.clone(), why);
            }
        }
        let met = [&stale, &recovered]
            .into_iter()
            .flat_map(|outcome| outcome.errors.keys().cloned().chain(outcome.mount.clone().err()));
        let met: std::collections::BTreeSet<String> = met.collect();
        for code in met {
            *self.codes.entry(code).or_default() += 1;
        }
    }

    fn total(&self) -> Sum {
        self.classes.values().fold(Sum::default(), |mut total, sum| {
            total.images += sum.images;
            total.kernel_mounts += sum.kernel_mounts;
            total.mounted += sum.mounted;
            total.with_errors += sum.with_errors;
            total.recovered += sum.recovered;
            total.changed += sum.changed;
            total.comparable += sum.comparable;
            total.same += sum.same;
            total.stricter += sum.stricter;
            total.sound += sum.sound;
            total.fuse2fs_crashed += sum.fuse2fs_crashed;
            total
        })
    }

    /// How many images.
    pub(crate) fn images(&self) -> usize {
        self.total().images
    }

    /// One line.
    pub(crate) fn summary(&self) -> String {
        let sum = self.total();
        format!(
            "{} images: {} mounted, {} to be written; {} of {} read as the kernel does, {} stricter; {} sound ones still sound",
            sum.images, sum.mounted, sum.changed, sum.same, sum.comparable, sum.stricter, sum.sound
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
        let total = ("**all**".to_owned(), self.total());
        let classes = self.classes.iter().map(|(name, sum)| (name.as_str(), sum));
        for (name, sum) in classes.chain([(total.0.as_str(), &total.1)]) {
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
                sum.stricter,
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

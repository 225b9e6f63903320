//! Prometheus' text format, for a collector that reads files. A line that is wrong there spoils all of
//! them, so nothing that a server says gets into a line but numbers and escaped text.
//!
//! Source: prometheus.io/docs/instrumenting/exposition_formats, "Text-based format"

use fuse4fs_protocol::{
    CacheStatus, JournalStatus, LATENCY_BUCKETS, Operation, Status, bucket_end,
};

use super::Told;
use crate::words::{self, shown};

/// One line of a metric: what follows its name, its own labels, its value.
struct Sample {
    suffix: &'static str,
    labels: Vec<(&'static str, String)>,
    value: String,
}

impl Sample {
    fn plain(value: impl ToString) -> Self {
        Self { suffix: "", labels: Vec::new(), value: value.to_string() }
    }

    fn with(label: &'static str, of: impl Into<String>, value: impl ToString) -> Self {
        Self { labels: vec![(label, of.into())], ..Self::plain(value) }
    }
}

/// The lines of one metric of one mount.
type Samples = dyn Fn(&Status) -> Vec<Sample>;

/// All of `told`.
pub(super) fn text(told: &[Told]) -> String {
    let mut page = Page { told, text: String::new() };
    page.up();
    page.mounts();
    page.caches();
    page.journals();
    page.operations();
    page.text
}

struct Page<'a> {
    told: &'a [Told],
    text: String,
}

impl Page<'_> {
    /// A metric, if any mount has a sample of it.
    fn metric(&mut self, name: &str, (kind, help): (&str, &str), samples: &Samples) {
        let lines: String = self
            .told
            .iter()
            .filter_map(|told| Some((told, told.status.as_ref().ok()?)))
            .flat_map(|(told, status)| {
                samples(status).into_iter().map(|sample| line(name, told, &sample))
            })
            .collect();
        self.put(name, (kind, help), &lines);
    }

    fn put(&mut self, name: &str, (kind, help): (&str, &str), lines: &str) {
        if !lines.is_empty() {
            let head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
            self.text.extend([head.as_str(), lines]);
        }
    }

    fn up(&mut self) {
        let name = "fuse4fs_up";
        let up = |told: &Told| Sample::plain(u8::from(told.status.is_ok()));
        let lines: String = self.told.iter().map(|told| line(name, told, &up(told))).collect();
        self.put(name, ("gauge", "Whether the server of the mount answers."), &lines);
    }

    fn mounts(&mut self) {
        let info = |status: &Status| {
            let filesystem = &status.filesystem;
            let labels = vec![
                ("version", status.server.version.to_string()),
                ("uuid", words::uuid(&filesystem.uuid)),
                ("label", filesystem.label.to_string()),
            ];
            vec![Sample { labels, ..Sample::plain(1) }]
        };
        self.metric("fuse4fs_info", ("gauge", "What is mounted, by which server."), &info);
        let uptime = |status: &Status| vec![Sample::plain(status.uptime)];
        self.metric("fuse4fs_uptime_seconds", ("gauge", "Time since serving began."), &uptime);
        let writable = |it: &Status| vec![Sample::plain(u8::from(it.filesystem.writable))];
        self.metric("fuse4fs_writable", ("gauge", "Whether changes are taken."), &writable);
        let errors = |status: &Status| vec![Sample::plain(status.filesystem.errors.count)];
        let help = "Damage and device errors since the last check, as in the superblock.";
        self.metric("fuse4fs_filesystem_errors", ("gauge", help), &errors);
        let last = |status: &Status| {
            let last = status.filesystem.errors.last.iter();
            last.map(|error| Sample::plain(error.time)).collect()
        };
        let help = "When the last of these was.";
        self.metric("fuse4fs_last_error_timestamp_seconds", ("gauge", help), &last);
        let dirty = |status: &Status| vec![Sample::plain(status.filesystem.dirty_blocks)];
        let help = "Metadata blocks that are newer than on their places.";
        self.metric("fuse4fs_dirty_blocks", ("gauge", help), &dirty);
    }

    fn caches(&mut self) {
        type Part = fn(&CacheStatus) -> u64;
        let metrics: [(&str, &str, &str, Part); 5] = [
            ("fuse4fs_cache_bytes", "gauge", "Bytes of metadata in memory.", |it| it.bytes),
            ("fuse4fs_cache_budget_bytes", "gauge", "Bytes of it, at most.", |it| it.budget),
            ("fuse4fs_cache_entries", "gauge", "Blocks or inodes of it.", |it| it.entries),
            ("fuse4fs_cache_hits_total", "counter", "Times that one was there.", |it| it.hits),
            ("fuse4fs_cache_misses_total", "counter", "Times that one was read.", |it| it.misses),
        ];
        for (name, kind, help, part) in metrics {
            let samples =
                move |status: &Status| vec![Sample::plain(part(&status.filesystem.cache))];
            self.metric(name, (kind, help), &samples);
        }
    }

    fn journals(&mut self) {
        type Part = fn(&JournalStatus) -> u64;
        let metrics: [(&str, &str, &str, Part); 6] = [
            ("fuse4fs_journal_blocks", "gauge", "Blocks of the log.", |it| it.blocks.into()),
            ("fuse4fs_journal_free_blocks", "gauge", "Those without a use.", |it| {
                it.free_blocks.into()
            }),
            ("fuse4fs_journal_unwritten", "gauge", "Transactions not yet in their places.", |it| {
                it.unwritten.into()
            }),
            ("fuse4fs_journal_commits_total", "counter", "Committed transactions.", |it| {
                it.commits
            }),
            ("fuse4fs_journal_logged_blocks_total", "counter", "Blocks that they took.", |it| {
                it.logged_blocks
            }),
            ("fuse4fs_journal_aborted", "gauge", "Whether an error has stopped it.", |it| {
                it.aborted.into()
            }),
        ];
        for (name, kind, help, part) in metrics {
            let samples = move |status: &Status| {
                status.filesystem.journal.iter().map(|it| Sample::plain(part(it))).collect()
            };
            self.metric(name, (kind, help), &samples);
        }
    }

    fn operations(&mut self) {
        let errors = |status: &Status| {
            let of = |it: &Operation| Sample::with("operation", it.name(), it.errors);
            status.operations.iter().map(of).collect()
        };
        let help = "Requests that were answered with an errno.";
        self.metric("fuse4fs_operation_errors_total", ("counter", help), &errors);
        let histograms =
            |status: &Status| status.operations.iter().flat_map(histogram).collect::<Vec<_>>();
        let help = "Requests of the kernel, by the time that their answers took.";
        self.metric("fuse4fs_operation_duration_seconds", ("histogram", help), &histograms);
    }
}

fn histogram(operation: &Operation) -> Vec<Sample> {
    let mut so_far = 0_u64;
    let of = |suffix, end: Option<String>, value: String| {
        let mut labels = vec![("operation", operation.name().to_owned())];
        labels.extend(end.map(|end| ("le", end)));
        Sample { suffix, labels, value }
    };
    let mut samples = Vec::new();
    for (index, count) in (0..LATENCY_BUCKETS).zip(operation.latencies) {
        so_far = so_far.saturating_add(count);
        let end = bucket_end(index).map_or_else(|| "+Inf".to_owned(), seconds);
        samples.push(of("_bucket", Some(end), so_far.to_string()));
    }
    samples.push(of("_sum", None, seconds(operation.nanoseconds)));
    samples.push(of("_count", None, so_far.to_string()));
    samples
}

/// Nanoseconds as seconds, exactly.
fn seconds(nanoseconds: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let (whole, part) = (nanoseconds.checked_div(SECOND), nanoseconds.checked_rem(SECOND));
    let text = format!("{}.{:09}", whole.unwrap_or(0), part.unwrap_or(0));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `name{labels} value`, with what tells mounts apart in front.
fn line(name: &str, told: &Told, sample: &Sample) -> String {
    let first = told.mounts.first();
    let mount = [
        ("mountpoint", first.map(|mount| words::path(&mount.point)).unwrap_or_default()),
        ("source", first.map(|mount| mount.source.clone()).unwrap_or_default()),
        ("device", first.map(|mount| mount.device.clone()).unwrap_or_default()),
    ];
    let labels: Vec<String> = mount
        .iter()
        .chain(&sample.labels)
        .map(|(label, value)| format!("{label}=\"{}\"", escape(value)))
        .collect();
    let Sample { suffix, value, .. } = sample;
    format!("{name}{suffix}{{{}}} {value}\n", labels.join(","))
}

/// A label's value: first as a terminal may see it, which leaves no line feed.
fn escape(value: &str) -> String {
    shown(value).replace('\\', r"\\").replace('"', "\\\"")
}

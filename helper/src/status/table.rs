//! For people.

use std::fmt::Display;

use fuse4fs_protocol::{
    CacheStatus, FilesystemStatus, JournalStatus, Operation, Operations, ServerStatus, Status,
    Surroundings,
};

use super::Told;
use crate::words::{bytes, duration, error, latency, path, percent, shown, uuid};

/// All of `told`, an empty line between two.
pub(super) fn text(told: &[Told]) -> String {
    if told.is_empty() {
        return "no fuse4fs file system is mounted here\n".to_owned();
    }
    told.iter().map(mount).collect::<Vec<_>>().join("\n")
}

fn mount(told: &Told) -> String {
    let points: Vec<String> = told.mounts.iter().map(|it| shown(&path(&it.point))).collect();
    let source = told.mounts.first().map(|mount| shown(&mount.source)).unwrap_or_default();
    let mut text = format!("{} from {source}\n", points.join(", "));
    match &told.status {
        Ok(status) => {
            for (name, value) in facts(status) {
                text.push_str(&format!("  {name:<12} {value}\n"));
            }
            text.push_str(&operations(&status.operations));
        }
        Err(why) => text.push_str(&format!("  {}\n", shown(why))),
    }
    text
}

fn facts(status: &Status) -> Vec<(&'static str, String)> {
    let filesystem = &status.filesystem;
    let block = u64::from(filesystem.block_size);
    let mut facts = vec![
        ("file system", identity(filesystem)),
        ("state", state(status)),
        ("errors", filesystem.errors.count.to_string()),
    ];
    let errors = [("  first", &filesystem.errors.first), ("  last", &filesystem.errors.last)];
    facts.extend(errors.into_iter().filter_map(|(name, it)| Some((name, error(it.as_ref()?)))));
    facts.extend([
        ("server", server(&status.server, status.uptime)),
        ("sandbox", sandbox(&status.server)),
        ("transport", transport(&status.server)),
        ("options", text_of(&filesystem.options)),
        ("features", text_of(&filesystem.features)),
        ("journal", filesystem.journal.as_ref().map_or_else(|| "none in use".to_owned(), journal)),
        (
            "dirty",
            format!(
                "{} metadata blocks, {}",
                filesystem.dirty_blocks,
                bytes(filesystem.dirty_blocks.saturating_mul(block))
            ),
        ),
        ("cache", cache(&filesystem.cache)),
    ]);
    facts
}

fn text_of(text: &impl Display) -> String {
    shown(&text.to_string())
}

fn identity(filesystem: &FilesystemStatus) -> String {
    let label = filesystem.label.as_str();
    let label = if label.is_empty() { String::new() } else { format!(" \"{}\"", shown(label)) };
    let block = bytes(filesystem.block_size.into());
    format!("ext4 {}{label}, blocks of {block}", uuid(&filesystem.uuid))
}

fn state(status: &Status) -> String {
    let filesystem = &status.filesystem;
    let aborted = filesystem.journal.is_some_and(|journal| journal.aborted);
    match (filesystem.shut_down, aborted, filesystem.writable) {
        (true, _, _) => "shut down: everything fails until it is mounted anew".to_owned(),
        (_, true, _) => "read-only, stopped by an error; unmount it and run e2fsck".to_owned(),
        (_, _, true) => "read-write".to_owned(),
        (_, _, false) => "read-only".to_owned(),
    }
}

fn server(server: &ServerStatus, uptime: u64) -> String {
    let pid = if server.pid == 0 { "unknown".to_owned() } else { server.pid.to_string() };
    let version = text_of(&server.version);
    format!("process {pid}, fuse4fs-server {version}, for {}", duration(uptime))
}

fn sandbox(server: &ServerStatus) -> String {
    let surroundings = match server.surroundings {
        Surroundings::Unit => "systemd's unit",
        Surroundings::Namespaces => "namespaces of its own",
        Surroundings::Bare => "no namespaces",
    };
    let landlock = match server.landlock {
        0 => "no Landlock".to_owned(),
        abi => format!("Landlock {abi}"),
    };
    let memory = bytes(server.memory_limit);
    format!("{surroundings}, system call filter, {landlock}, {memory} of memory at most")
}

fn transport(server: &ServerStatus) -> String {
    let way = if server.io_uring { "io_uring" } else { "/dev/fuse" };
    let timeout = match server.request_timeout {
        0 => "no timeout".to_owned(),
        seconds => format!("timeout {}", duration(seconds.into())),
    };
    let (nodes, files) = (server.nodes, server.open_files);
    format!("{way}, {timeout}; the kernel knows {nodes} inodes and {files} open files")
}

fn journal(journal: &JournalStatus) -> String {
    let used = journal.blocks.saturating_sub(journal.free_blocks);
    let last = match journal.since_commit {
        Some(milliseconds) => format!(
            "transaction {} committed {} ago",
            journal.committed,
            latency(milliseconds.saturating_mul(1_000_000))
        ),
        None => "nothing committed yet".to_owned(),
    };
    format!(
        "{} of {} blocks in use, {last}, {} not in their places; {} commits of {} blocks in all",
        used, journal.blocks, journal.unwritten, journal.commits, journal.logged_blocks
    )
}

fn cache(cache: &CacheStatus) -> String {
    let asked = cache.hits.saturating_add(cache.misses);
    format!(
        "{} of {}, {} entries; {} of {asked} found there",
        bytes(cache.bytes),
        bytes(cache.budget),
        cache.entries,
        percent(cache.hits, asked)
    )
}

const COLUMNS: [&str; 7] = ["operation", "count", "errors", "mean", "p50", "p99", "time"];

fn operations(operations: &Operations) -> String {
    let mut sorted: Vec<&Operation> = operations.iter().collect();
    sorted.sort_by_key(|operation| std::cmp::Reverse(operation.nanoseconds));
    let all = sorted.iter().fold(0_u64, |sum, one| sum.saturating_add(one.nanoseconds));
    let rows = sorted.iter().map(|operation| {
        let count = operation.count();
        [
            operation.name().to_owned(),
            count.to_string(),
            operation.errors.to_string(),
            latency(operation.nanoseconds.checked_div(count).unwrap_or(0)),
            latency(operation.percentile(50)),
            latency(operation.percentile(99)),
            percent(operation.nanoseconds, all),
        ]
    });
    std::iter::once(COLUMNS.map(str::to_owned)).chain(rows).map(|row| line(&row)).collect()
}

fn line([name, numbers @ ..]: &[String; 7]) -> String {
    let numbers: String = numbers.iter().map(|number| format!(" {number:>10}")).collect();
    format!("  {name:<18}{numbers}\n")
}

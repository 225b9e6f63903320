//! For programs. Keys stay what they are; fuse4fs(1) has them.

use fuse4fs_protocol::{LATENCY_BUCKETS, Operation, Status, bucket_end};
use serde_json::{Value, json};

use super::Told;
use crate::words::{self, escape_json};

/// The version of the keys.
const FORMAT: u32 = 1;

/// All of `told` as one object.
pub(super) fn text(told: &[Told]) -> String {
    let mounts: Vec<Value> = told.iter().map(mount).collect();
    let all = json!({ "format": FORMAT, "mounts": mounts });
    // Numbers and strings can always be written.
    let text = serde_json::to_string_pretty(&all).unwrap_or_default();
    format!("{}\n", escape_json(&text))
}

fn mount(told: &Told) -> Value {
    let points: Vec<String> = told.mounts.iter().map(|it| words::path(&it.point)).collect();
    let first = told.mounts.first();
    json!({
        "mountpoints": points,
        "source": first.map(|mount| &mount.source),
        "device_number": first.map(|mount| &mount.device),
        "error": told.status.as_ref().err(),
        "status": told.status.as_ref().ok().map(|status| value(status)),
    })
}

fn value(status: &Status) -> Value {
    let mut filesystem = json!(status.filesystem);
    if let Some(object) = filesystem.as_object_mut() {
        object.insert("uuid".into(), json!(words::uuid(&status.filesystem.uuid)));
    }
    let operations: Vec<Value> = status.operations.iter().map(operation).collect();
    json!({
        "device": status.device,
        "uptime": status.uptime,
        "server": status.server,
        "filesystem": filesystem,
        "operations": operations,
    })
}

fn operation(operation: &Operation) -> Value {
    let ends = (0..LATENCY_BUCKETS).map(bucket_end).zip(operation.latencies);
    let buckets: Vec<Value> = ends
        .filter(|(_, count)| *count > 0)
        .map(|(below, count)| json!({ "below": below, "count": count }))
        .collect();
    json!({
        "name": operation.name(),
        "count": operation.count(),
        "errors": operation.errors,
        "nanoseconds": operation.nanoseconds,
        "p50": operation.percentile(50),
        "p99": operation.percentile(99),
        "latencies": buckets,
    })
}

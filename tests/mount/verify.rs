//! Every golden and dirty image through mount(8), judged by the truth files' own program.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::product::Product;
use fuse4fs_tests::shared::{Golden, golden_directory};
use fuse4fs_tests::{command, content, host, mount_walk, trial};
use libtest_mimic::Trial;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(1200);

pub(crate) fn trials() -> Vec<Trial> {
    let by_program = trial::test("verify.py finds every golden image equal to its truth", verify);
    let images = Golden::all().unwrap_or_default().into_iter();
    let by_image = images.map(|image| {
        trial::test(format!("{}: a mount equals the truth in every field", image.name), move || {
            a_mount_equals_the_truth(&image)
        })
    });
    [by_program].into_iter().chain(by_image).collect()
}

fn a_mount_equals_the_truth(golden: &Golden) -> Result<()> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let image = golden.unpack(directory.path())?;
    let truth = golden.truth()?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let mounted = product.mount(&image, &mountpoint, "ro")?;
    let found = mount_walk::walk(mounted.path())?;
    mounted.unmount()?;
    truth.expect(&found)?;
    ensure!(content::sha256_of_file(&image)? == truth.image_hash, "mounting changed the image");
    Ok(())
}

fn verify() -> Result<()> {
    let images = Golden::all()?;
    let report = report()?;
    ensure!(report.len() == images.len(), "{} of {} images", report.len(), images.len());
    let wrong: Vec<_> = report.iter().filter(|(name, result)| !is_equal(name, result)).collect();
    ensure!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

fn report() -> Result<serde_json::Map<String, Value>> {
    let product = Product::get()?;
    let golden = golden_directory()?;
    host::need_program("python3")?;
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("out.json");
    let mut verify = Command::new("python3");
    verify.arg(golden.join("tools/verify.py")).arg("mount:fuse4fs:ro,server=spawn").arg(&out);
    verify.env("TMPDIR", directory.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    let child = verify.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let output = command::wait(child, LIMIT)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = std::fs::read(&out).with_context(|| said)?;
    ensure!(product.servers()?.is_empty(), "servers are left: {:?}", product.servers()?);
    serde_json::from_slice::<Value>(&report)?.as_object().cloned().context("no report")
}

/// What the program cannot find equal, our own comparison above looks at: in trees that mke2fs copied,
/// what mke2fs 1.47 does not copy (times below a second, where the data of sparse files lies) or adds
/// (`lost+found`); and project numbers, which the program asks of the kernel's mounts only.
fn is_equal(name: &str, result: &Value) -> bool {
    let excused: &[&str] = match name {
        "ext4-8k" | "ext4-16k" | "ext4-64k" | "ext4-64k-nocsum" => {
            &["extra", "mtime_ns", "segs_sha256"]
        }
        "ext4-quota-project" => &["projid"],
        _ => &[],
    };
    let bad = ["umount", "wrote_to_a_read_only_image", "walk", "killed"];
    let extra = result.pointer("/diff/extra").and_then(Value::as_u64).unwrap_or(0);
    let diff = result.get("diff").and_then(Value::as_object);
    bad.iter().all(|key| result.get(key).is_none())
        && diff.is_some_and(|diff| diff.keys().all(|key| excused.contains(&key.as_str())))
        && extra <= 1
}

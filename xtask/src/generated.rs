//! Files of the repository that are made from tables in the code.

use std::path::Path;

use crate::Findings;

/// A file as the tables have it.
pub(crate) struct File {
    /// From the repository.
    pub(crate) path: &'static str,
    pub(crate) text: String,
}

/// Writes them.
pub(crate) fn write(root: &Path, files: &[File]) -> Findings {
    for file in files {
        std::fs::write(root.join(file.path), &file.text)?;
    }
    Ok(Vec::new())
}

/// Those in the repository are the ones that [`write`] would write.
pub(crate) fn check(root: &Path, files: &[File], chore: &str) -> Findings {
    let mut findings = Vec::new();
    for File { path, text } in files {
        if std::fs::read_to_string(root.join(path))? != *text {
            findings.push(format!("{path} is not what the code says: run `cargo xtask {chore}`"));
        }
    }
    Ok(findings)
}

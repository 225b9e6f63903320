//! Versions and feature bits, agreed before anything else is said.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::text::Text;

/// The first bytes of a conversation, so that a stranger on the socket is told apart at once.
pub const MAGIC: [u8; 8] = *b"fuse4fs\0";
/// The oldest version spoken here.
pub const VERSION_MIN: u16 = 3;
/// The newest version spoken here.
pub const VERSION_MAX: u16 = 3;

/// Optional abilities; each side offers what it has and uses what both have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Features(pub u64);

impl Features {
    /// What both sides have.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// The helper's opening.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Oldest version the helper speaks.
    pub min: u16,
    /// Newest version the helper speaks.
    pub max: u16,
    /// What the helper offers.
    pub features: Features,
}

/// The server's answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// The version both will speak.
    pub version: u16,
    /// What both have.
    pub features: Features,
    /// The server's program version, for people.
    pub server: Text,
}

/// Why two sides cannot talk.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum VersionError {
    /// Not a fuse4fs peer.
    #[error("the other side is not a fuse4fs program")]
    Magic,
    /// No version in common.
    #[error(
        "the other side speaks protocol {min} to {max}, this one {VERSION_MIN} to {VERSION_MAX}"
    )]
    Range {
        /// Their oldest.
        min: u16,
        /// Their newest.
        max: u16,
    },
}

impl Hello {
    /// The opening of this build.
    #[must_use]
    pub const fn ours() -> Self {
        Self { magic: MAGIC, min: VERSION_MIN, max: VERSION_MAX, features: Features(0) }
    }

    /// The newest version in common.
    ///
    /// # Errors
    /// A wrong magic, an empty range, or none in common.
    pub fn negotiate(&self) -> Result<u16, VersionError> {
        if self.magic != MAGIC {
            return Err(VersionError::Magic);
        }
        let version = self.max.min(VERSION_MAX);
        if self.min > self.max || version < self.min || version < VERSION_MIN {
            return Err(VersionError::Range { min: self.min, max: self.max });
        }
        Ok(version)
    }
}

impl Welcome {
    /// Checks the server's choice against our own range.
    ///
    /// # Errors
    /// A wrong magic or a version that was not offered.
    pub fn check(&self) -> Result<(), VersionError> {
        if self.magic != MAGIC {
            return Err(VersionError::Magic);
        }
        if self.version < VERSION_MIN || self.version > VERSION_MAX {
            return Err(VersionError::Range { min: self.version, max: self.version });
        }
        Ok(())
    }
}

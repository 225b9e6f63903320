//! Bounded text for people: sources, messages, version strings.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::MAX_TEXT;

/// At most [`MAX_TEXT`] bytes of UTF-8 without control characters (it is printed on terminals).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

/// Why a string is no [`Text`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum TextError {
    /// Over [`MAX_TEXT`] bytes.
    #[error("text of {0} bytes is too long")]
    TooLong(usize),
    /// Holds a control character.
    #[error("text holds a control character")]
    Control,
}

impl Text {
    /// Makes a text of any string: control characters become spaces, what is over is cut off.
    #[must_use]
    pub fn lossy(text: &str) -> Self {
        let mut clean: String =
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        clean.truncate(clean.floor_char_boundary(MAX_TEXT));
        Self(clean)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Text {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        if text.len() > MAX_TEXT {
            return Err(TextError::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(TextError::Control);
        }
        Ok(Self(text))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

//! A text that is kept with a service: opaque here, read by whoever it is for.

mod reflector;

use std::{fmt, sync::Arc};

pub(crate) use self::reflector::DocumentReflector;
pub use self::reflector::{DocumentView, DocumentWatch};
use crate::{Origin, Revision, instance::Provenance};

/// A text that a registry keeps for a service, and never parses: today, the service config that its callers use.
///
/// At most [`MAX_BYTES`](Self::MAX_BYTES) long, which the constructor checks. Cheap to clone.
///
/// ```
/// use registry::Document;
/// let config = Document::new(r#"{"loadBalancingConfig": [{"round_robin": {}}]}"#)?;
/// assert!(config.as_str().contains("round_robin"));
/// assert!(Document::new(&"x".repeat(Document::MAX_BYTES + 1)).is_err());
/// # Ok::<(), registry::InvalidDocument>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    text: Arc<str>,
    provenance: Provenance,
}

/// What a store has where a service's document is: none, one, or something that is none.
pub type FoundDocument = Result<Option<Document>, InvalidDocument>;

/// Why something is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDocument {
    /// It is too long.
    #[error(
        "a document of {bytes} bytes is too large: it may have {}",
        Document::MAX_BYTES
    )]
    TooLarge {
        /// Its length.
        bytes: u64,
    },
    /// It is no text.
    #[error("a document has to be UTF-8, and this one is not from its byte {valid_up_to} on")]
    NotText {
        /// How many of its bytes are text.
        valid_up_to: usize,
    },
}

impl Document {
    /// The largest that there may be, in bytes: 64 KiB.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// The document, or the reason why the text cannot be one.
    pub fn new(text: &str) -> Result<Self, InvalidDocument> {
        Self::check_size(text.len() as u64)?;
        Ok(Self::made_of(text))
    }

    /// The document that a store has kept as these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        Self::check_size(bytes.len() as u64)?;
        match str::from_utf8(bytes) {
            Ok(text) => Ok(Self::made_of(text)),
            Err(error) => Err(InvalidDocument::NotText {
                valid_up_to: error.valid_up_to(),
            }),
        }
    }

    fn made_of(text: &str) -> Self {
        Self {
            text: text.into(),
            provenance: Provenance::default(),
        }
    }

    fn check_size(bytes: u64) -> Result<(), InvalidDocument> {
        if bytes > Self::MAX_BYTES as u64 {
            return Err(InvalidDocument::TooLarge { bytes });
        }
        Ok(())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where it was read; `None` for one that was made here.
    ///
    /// No part of what it is: what is written anew, word for word, is no change.
    pub fn origin(&self) -> Option<&Origin> {
        self.provenance.origin()
    }

    /// The same document as read at that place.
    pub(crate) fn read_at(self, key: impl Into<Arc<str>>, revision: Revision) -> Self {
        let provenance = Provenance::new(key, revision);
        Self { provenance, ..self }
    }
}

impl AsRef<str> for Document {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl From<Document> for Arc<str> {
    fn from(document: Document) -> Self {
        document.text
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Document, InvalidDocument};

    #[test]
    fn a_document_has_at_most_64_kib_wherever_it_comes_from() {
        let largest = "x".repeat(Document::MAX_BYTES);
        assert_eq!(Document::new(&largest).expect("it fits").as_str(), largest);
        assert!(Document::from_bytes(largest.as_bytes()).is_ok());
        let larger = largest + "x";
        let refused = InvalidDocument::TooLarge { bytes: 65_537 };
        assert_eq!(Document::new(&larger), Err(refused.clone()));
        assert_eq!(Document::from_bytes(larger.as_bytes()), Err(refused));
    }

    #[test]
    fn a_document_is_text_and_may_be_empty() {
        let document = Document::from_bytes("{\"näme\": 1}\n".as_bytes());
        assert_eq!(document.expect("text").to_string(), "{\"näme\": 1}\n");
        assert_eq!(Document::from_bytes(b"").expect("text").as_str(), "");
        let refused = Document::from_bytes(b"{}\xff").expect_err("no text");
        assert_eq!(refused, InvalidDocument::NotText { valid_up_to: 2 });
    }
}

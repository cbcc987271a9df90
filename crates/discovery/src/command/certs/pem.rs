//! The textual form of certificates and keys (RFC 7468).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use x509_parser::pem::parse_x509_pem;

pub(super) const CERTIFICATE: &str = "CERTIFICATE";
pub(super) const KEY: &str = "PRIVATE KEY";
/// Characters of a line.
const LINE: usize = 64;

pub(super) fn encoded(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut lines = vec![format!("-----BEGIN {label}-----")];
    let body = text.as_bytes().chunks(LINE);
    lines.extend(body.map(|line| String::from_utf8_lossy(line).into_owned()));
    lines.push(format!("-----END {label}-----\n"));
    lines.join("\n")
}

/// The first that is in the text, whatever its label.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    let (_, first) = parse_x509_pem(text.as_bytes()).ok()?;
    Some(first.contents)
}

//! What is read from a file, or from stdin.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use tokio::task::spawn_blocking;

/// The text of the file; of stdin without one, or when it is `-`. On a thread of its own, which an interruption leaves behind:
/// stdin may be a terminal.
///
/// # Errors
/// When it cannot be read, is no text, or has more than `most` bytes.
pub(crate) async fn read(file: Option<PathBuf>, most: u64) -> Result<String> {
    spawn_blocking(move || read_all(file, most)).await?
}

fn read_all(file: Option<PathBuf>, most: u64) -> Result<String> {
    let file = file.filter(|file| file.as_os_str() != "-");
    let name = match &file {
        Some(file) => file.display().to_string(),
        None => "stdin".to_owned(),
    };
    let source: io::Result<Box<dyn Read>> = match file {
        Some(file) => File::open(file).map(|file| Box::new(file) as _),
        None => Ok(Box::new(io::stdin())),
    };
    let mut text = String::new();
    let read = source.and_then(|source| source.take(most + 1).read_to_string(&mut text));
    read.with_context(|| format!("cannot read {name}"))?;
    ensure!(
        text.len() as u64 <= most,
        "{name} has more than {most} bytes"
    );
    Ok(text)
}

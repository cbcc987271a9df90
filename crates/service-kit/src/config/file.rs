//! The TOML file, named in every message as it was given.

use std::{fs, path::PathBuf};

use config::{ConfigError, FileFormat, Format, Map, Source, Value};

/// A file that must be there.
#[derive(Debug, Clone)]
pub(super) struct TomlFile(pub(super) PathBuf);

impl Source for TomlFile {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let name = self.0.display().to_string();
        let refused = |problem: String| ConfigError::Message(format!("{name}: {problem}"));
        let text = fs::read_to_string(&self.0).map_err(|error| refused(error.to_string()))?;
        FileFormat::Toml
            .parse(Some(&name), &text)
            .map_err(|error| refused(without_drawing(&error.to_string())))
    }
}

/// A parser's message less the lines that it draws the place with: it has told the line and the column in words.
fn without_drawing(message: &str) -> String {
    let drawn = |line: &&str| {
        line.split_once('|')
            .is_some_and(|(margin, _)| margin.chars().all(|c| c.is_ascii_digit() || c == ' '))
    };
    let told: Vec<_> = message.lines().filter(|line| !drawn(line)).collect();
    told.join(": ")
}

//! `discovery man`: the manual pages.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Args as Group, CommandFactory};
use clap_mangen::Man;
use service_kit::terminal::print;

use crate::args::Args;

const EXAMPLE: &str = "\
Examples:
  discovery man | man --local-file -
  discovery man --directory ~/.local/share/man/man1
      A page for each command: then `man discovery-drain` shows one.";

#[derive(Debug, Group)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ManArgs {
    /// Writes the pages of all commands into this directory, which is made where it is missing
    #[arg(long)]
    directory: Option<PathBuf>,
}

impl ManArgs {
    pub(crate) fn run(&self) -> Result<()> {
        let command = Args::command();
        if let Some(directory) = &self.directory {
            let written = fs::create_dir_all(directory)
                .and_then(|()| clap_mangen::generate_to(command, directory));
            return written.with_context(|| format!("cannot write into {}", directory.display()));
        }
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        print(&String::from_utf8(page)?).map(drop)
    }
}

//! `discovery completions`: what a shell needs to complete the command line.

use anyhow::Result;
use clap::{Args as Group, CommandFactory};
use clap_complete::Shell;
use service_kit::terminal::print;

use crate::args::Args;

const EXAMPLE: &str = "\
Examples:
  discovery completions bash > ~/.local/share/bash-completion/completions/discovery
  discovery completions zsh > ~/.zfunc/_discovery
  discovery completions fish > ~/.config/fish/completions/discovery.fish";

#[derive(Debug, Group)]
#[command(after_help = EXAMPLE)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    pub(crate) fn run(&self) -> Result<()> {
        let (mut command, mut script) = (Args::command(), Vec::new());
        clap_complete::generate(self.shell, &mut command, "discovery", &mut script);
        print(&String::from_utf8(script)?).map(drop)
    }
}

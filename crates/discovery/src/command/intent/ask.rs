//! A question to a person, before something is done that is not easily seen to be wrong.

use std::{
    fs::OpenOptions,
    io::{self, BufRead, IsTerminal, Write},
};

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;

/// Whether somebody says yes, who is asked at the terminal wherever stdout and stderr lead. Where stdin is no terminal nobody
/// sits there, and who wrote the script has agreed.
///
/// # Errors
/// When the terminal cannot be written to, or read.
pub(super) async fn is_agreed_to(question: String) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(true);
    }
    // A thread of its own, which is left behind by an interruption.
    let answer = spawn_blocking(move || {
        let mut terminal = OpenOptions::new().write(true).open("/dev/tty")?;
        write!(terminal, "{question} [y/N] ")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        io::Result::Ok(answer)
    });
    let answer = answer
        .await?
        .context("cannot ask at the terminal, which --yes would spare")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

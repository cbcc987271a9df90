//! A question to a person, before something is done that is not easily seen to be wrong.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;

/// Whether somebody says yes. Where nobody sits at a terminal there is nobody to ask, and who wrote the script has agreed.
pub(super) async fn is_agreed_to(question: String) -> Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(true);
    }
    // A thread of its own, which is left behind by an interruption.
    let answer = spawn_blocking(move || {
        write!(io::stderr(), "{question} [y/N] ")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        io::Result::Ok(answer)
    });
    let answer = answer.await?.context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

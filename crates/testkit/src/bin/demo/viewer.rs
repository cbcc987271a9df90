//! The client's log, shown as it comes, and followed by the story.

use std::time::Duration;

use anyhow::{Result, anyhow};
use testkit::{process::Lines, sight::Sight};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::narrator::Narrator;

/// What the client sees from second to second.
#[derive(Debug)]
pub(crate) struct Viewer {
    latest: watch::Receiver<Option<Sight>>,
    task: JoinHandle<()>,
}

impl Viewer {
    /// Shows the lines until they end.
    pub(crate) fn start(mut lines: Lines, narrator: Narrator) -> Self {
        let (sender, latest) = watch::channel(None);
        let task = tokio::spawn(async move {
            while let Some(line) = lines.next().await {
                if !line.stderr {
                    continue;
                }
                match Sight::parse(&line.text) {
                    Some(sight) => {
                        narrator.sight(&sight);
                        sender.send_replace(Some(sight));
                    }
                    None => narrator.aside(&line.text),
                }
            }
        });
        Self { latest, task }
    }

    /// Waits until a second is as `expected`, `bound` at most; `what` says in the error what was looked for.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        bound: Duration,
        expected: impl Fn(&Sight) -> bool,
    ) -> Result<()> {
        self.latest.mark_unchanged();
        let seen = timeout(bound, async {
            loop {
                self.latest.changed().await?;
                if self
                    .latest
                    .borrow_and_update()
                    .as_ref()
                    .is_some_and(&expected)
                {
                    return Ok::<_, watch::error::RecvError>(());
                }
            }
        });
        match seen.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(anyhow!("the client has ended before {what}")),
            Err(_) => Err(anyhow!("the client has not seen {what} in {bound:?}")),
        }
    }

    /// Watches for some more seconds.
    pub(crate) async fn seconds(&mut self, seconds: u32) -> Result<()> {
        for _ in 0..seconds {
            self.until("the next second", Duration::from_secs(10), |_| true)
                .await?;
        }
        Ok(())
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

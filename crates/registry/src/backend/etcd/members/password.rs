//! A password that is in a file.

use std::{fmt::Display, path::Path, sync::Arc};

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::REQUEST;
use crate::bounded;

/// The most that is read of the file, in bytes: etcd takes no password of more than 72.
const LARGEST: u64 = 4096;

/// Reads the file, by one thread at a time: a disk that hangs takes no further one.
#[derive(Debug)]
pub(super) struct PasswordReader {
    turn: Arc<Semaphore>,
}

impl PasswordReader {
    pub(super) fn new() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// What the file holds, less line breaks at its end, within [`REQUEST`]. Cancellation safe.
    ///
    /// # Errors
    /// What is wrong with the file, and nothing of what it holds.
    pub(super) async fn read(&self, file: &Path) -> Result<String, String> {
        let read = timeout(REQUEST, self.read_at_last(file)).await;
        read.unwrap_or_else(|_| {
            Err(format!(
                "cannot read {}: the disk takes longer than {REQUEST:?}",
                file.display()
            ))
        })
    }

    async fn read_at_last(&self, file: &Path) -> Result<String, String> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.expect("it is never closed");
        let path = file.to_owned();
        let reading = spawn_blocking(move || {
            let read = bounded::read(&path, LARGEST);
            drop(turn);
            read
        });
        let unreadable = |why: &dyn Display| format!("cannot read {}: {why}", file.display());
        let content = reading.await.map_err(|error| unreadable(&error))?;
        let content = content.map_err(|error| unreadable(&error))?;
        let text = String::from_utf8(content).map_err(|_| unreadable(&"it is no text in UTF-8"))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(format!("{} is empty", file.display())),
            password => Ok(password.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use nix::{sys::stat::Mode, unistd::mkfifo};
    use tokio::time::Instant;

    use super::{PasswordReader, REQUEST};

    #[tokio::test]
    async fn a_file_that_can_hold_no_password_is_named_with_what_is_wrong_and_never_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name| directory.path().join(name);
        for (name, content) in [
            ("long", "secret".repeat(1000)),
            ("empty", "\r\n".into()),
            ("good", "secret\n".into()),
        ] {
            fs::write(path(name), content).expect("it is written");
        }
        fs::write(path("binary"), b"secret\xff").expect("it is written");
        mkfifo(&path("fifo"), Mode::S_IRWXU).expect("a FIFO");
        let reader = PasswordReader::new();
        for (name, why) in [
            ("long", "it has 6000 bytes, and may have 4096"),
            ("empty", "is empty"),
            ("binary", "no text"),
            ("fifo", "it is no regular file"),
            ("absent", "No such file"),
        ] {
            let refused = reader.read(&path(name)).await.expect_err(name);
            assert!(refused.contains(why) && refused.contains(name), "{refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
        assert_eq!(reader.read(&path("good")).await.as_deref(), Ok("secret"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_waited_for_no_longer_than_a_request() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("password");
        fs::write(&file, "secret").expect("it is written");
        let reader = PasswordReader::new();
        // A thread that does not come back.
        let turn = Arc::clone(&reader.turn).acquire_owned().await;
        let began = Instant::now();
        let refused = reader.read(&file).await.expect_err("it hangs");
        assert_eq!(began.elapsed(), REQUEST);
        assert!(refused.contains("password: the disk"), "{refused}");
        drop(turn);
        assert_eq!(reader.read(&file).await.as_deref(), Ok("secret"));
    }
}

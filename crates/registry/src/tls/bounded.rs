//! Reading a file of which nobody knows what it has become.

use std::{
    fs::File,
    io::{Error, ErrorKind, Read, Result},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::fcntl::OFlag;

/// Four times what the authorities of a whole system take.
const LARGEST: u64 = 1024 * 1024;

/// All that is in the file. One that is no regular file (a FIFO would be waited for) or has more than a MiB is refused.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut options = File::options();
    let without_waiting = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = without_waiting.open(path)?;
    let refused = |kind, why| Err(Error::new(kind, why));
    if !file.metadata()?.is_file() {
        return refused(ErrorKind::InvalidInput, "it is no regular file");
    }
    let mut content = Vec::new();
    let length = file.take(LARGEST + 1).read_to_end(&mut content)?;
    if length as u64 > LARGEST {
        return refused(ErrorKind::FileTooLarge, "it is larger than 1 MiB");
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::{LARGEST, read};

    #[test]
    fn what_is_too_large_or_no_file_is_refused_before_it_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name| directory.path().join(name);
        fs::write(path("small"), "text").expect("it is written");
        assert_eq!(read(&path("small")).expect("a file"), b"text");
        let huge = File::create(path("huge")).expect("a file");
        for (length, is_read) in [(LARGEST, true), (LARGEST + 1, false), (1 << 40, false)] {
            huge.set_len(length).expect("it has a hole");
            assert_eq!(read(&path("huge")).is_ok(), is_read, "{length}");
        }
        mkfifo(&path("fifo"), Mode::S_IRWXU).expect("a FIFO");
        for (name, why) in [
            ("huge", "larger than 1 MiB"),
            ("fifo", "no regular file"),
            (".", "no regular file"),
        ] {
            let refused = read(&path(name)).expect_err(name).to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}

//! Reading a file of which nobody knows what it has become.

use std::{
    fs::File,
    io::{Error, ErrorKind, Read, Result},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::fcntl::OFlag;

/// All that is in the file. One that is no regular file (a FIFO would be waited for, and a device may never end) or is larger than
/// that is refused, and what it holds is not told.
pub(crate) fn read(path: &Path, largest: u64) -> Result<Vec<u8>> {
    let mut options = File::options();
    let without_waiting = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = without_waiting.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        let why = "it is no regular file";
        return Err(Error::new(ErrorKind::InvalidInput, why));
    }
    let mut content = Vec::new();
    let length = file.take(largest + 1).read_to_end(&mut content)? as u64;
    if length > largest {
        // It may have grown since.
        let size = metadata.len().max(length);
        let why = format!("it has {size} bytes, and may have {largest}");
        return Err(Error::new(ErrorKind::FileTooLarge, why));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        path::Path,
    };

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::read;

    const LARGEST: u64 = 4096;

    #[test]
    fn what_is_too_large_or_no_file_is_refused_before_it_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name| directory.path().join(name);
        fs::write(path("small"), "text").expect("it is written");
        assert_eq!(read(&path("small"), LARGEST).expect("a file"), b"text");
        let huge = File::create(path("huge")).expect("a file");
        for (length, is_read) in [(LARGEST, true), (LARGEST + 1, false), (1 << 40, false)] {
            huge.set_len(length).expect("it has a hole");
            let outcome = read(&path("huge"), LARGEST);
            assert_eq!(outcome.is_ok(), is_read, "{length}");
        }
        mkfifo(&path("fifo"), Mode::S_IRWXU).expect("a FIFO");
        for (path, why) in [
            (
                &*path("huge"),
                "it has 1099511627776 bytes, and may have 4096",
            ),
            (&*path("fifo"), "no regular file"),
            (directory.path(), "no regular file"),
            (Path::new("/dev/zero"), "no regular file"),
        ] {
            let refused = read(path, LARGEST).expect_err(why).to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}

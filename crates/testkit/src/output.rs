//! What a process prints, kept line by line.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::sync::watch;

/// How many lines are kept; the oldest go first.
const KEPT: usize = 10_000;
/// Longer lines are cut: a process that prints no newline must not fill the memory.
const LONGEST: u64 = 64 * 1024;

/// One line that a process printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whether it came on stderr.
    pub stderr: bool,
    /// The line without its end; what is not UTF-8 is replaced.
    pub text: Arc<str>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    dropped: usize,
}

/// What a process has printed so far. A clone sees the same.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    kept: Arc<Mutex<Kept>>,
    /// How many lines there were; closed when both streams have ended.
    count: watch::Receiver<usize>,
}

impl Output {
    /// Collects both streams on threads of their own, which end when the streams do.
    pub(crate) fn collect(
        stdout: impl Read + Send + 'static,
        stderr: impl Read + Send + 'static,
    ) -> Self {
        let (sender, count) = watch::channel(0);
        let sender = Arc::new(sender);
        let kept = Arc::new(Mutex::new(Kept::default()));
        for (stream, stderr) in [
            (Box::new(stdout) as Box<dyn Read + Send>, false),
            (Box::new(stderr), true),
        ] {
            let (kept, sender) = (Arc::clone(&kept), Arc::clone(&sender));
            thread::spawn(move || {
                for text in lines(stream) {
                    push(&kept, Line { stderr, text });
                    sender.send_modify(|count| *count += 1);
                }
            });
        }
        Self { kept, count }
    }

    /// The kept lines, the oldest first.
    pub(crate) fn kept(&self) -> Vec<Line> {
        lock(&self.kept).lines.iter().cloned().collect()
    }

    /// The lines one after another, from the oldest that is kept.
    pub(crate) fn lines(&self) -> Lines {
        Lines {
            output: self.clone(),
            next: 0,
        }
    }

    /// Line number `next`, or the oldest kept after it, and its number.
    fn line(&self, next: usize) -> Option<(usize, Line)> {
        let kept = lock(&self.kept);
        let number = next.max(kept.dropped);
        let line = kept.lines.get(number - kept.dropped)?;
        Some((number, line.clone()))
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn push(kept: &Mutex<Kept>, line: Line) {
    let mut kept = lock(kept);
    if kept.lines.len() == KEPT {
        kept.lines.pop_front();
        kept.dropped += 1;
    }
    kept.lines.push_back(line);
}

fn lines(stream: impl Read) -> impl Iterator<Item = Arc<str>> {
    let mut reader = BufReader::new(stream);
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match reader.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(String::from_utf8_lossy(line.trim_ascii_end()).into()),
        }
    })
}

/// The lines of a process, one after another, as they come.
#[derive(Debug)]
pub struct Lines {
    output: Output,
    next: usize,
}

impl Lines {
    /// The next line; `None` when the process has closed both of its streams. Cancellation safe.
    pub async fn next(&mut self) -> Option<Line> {
        loop {
            self.output.count.borrow_and_update();
            if let Some((number, line)) = self.output.line(self.next) {
                self.next = number + 1;
                return Some(line);
            }
            if self.output.count.changed().await.is_err() {
                let (number, line) = self.output.line(self.next)?;
                self.next = number + 1;
                return Some(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT, Output};

    #[tokio::test]
    async fn the_newest_lines_are_kept_and_the_end_is_told() {
        let numbers: Vec<_> = (0..KEPT + 5).map(|n| n.to_string()).collect();
        let output = Output::collect(std::io::Cursor::new(numbers.join("\n")), std::io::empty());
        let mut lines = output.lines();
        let mut last = None;
        while let Some(line) = lines.next().await {
            last = Some(line);
        }
        assert_eq!(&*last.expect("lines").text, (KEPT + 4).to_string());
        assert_eq!(output.kept().len(), KEPT);
        assert_eq!(&*output.kept()[0].text, "5");
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let output = Output::collect(std::io::Cursor::new(vec![b'x'; 100_000]), std::io::empty());
        let mut lines = output.lines();
        assert_eq!(
            lines.next().await.expect("the first part").text.len(),
            65_536
        );
        assert_eq!(lines.next().await.expect("the rest").text.len(), 34_464);
        assert_eq!(lines.next().await, None);
    }
}

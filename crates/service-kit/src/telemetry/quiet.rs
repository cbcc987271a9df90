//! Keeps peers from filling the log: what libraries of HTTP/2 warn of is said once a minute.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{Level, Metadata, Subscriber, subscriber::Interest};
use tracing_subscriber::{
    filter::DynFilterFn,
    layer::{Context, Filter},
};

/// Some of it, a peer can bring about with each frame that it sends.
const QUIET: Duration = Duration::from_mins(1);
const LIBRARIES: [&str; 2] = ["h2::", "hyper::"];

/// Lets one such warning a minute through, and everything else.
pub(super) fn once_a_minute<S: Subscriber>() -> impl Filter<S> {
    let said = Mutex::new(None::<Instant>);
    let enabled = move |metadata: &Metadata<'_>, _: &Context<'_, S>| {
        if !is_of_peers(metadata) {
            return true;
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said.is_none_or(|at| at.elapsed() >= QUIET);
        if is_due {
            *said = Some(Instant::now());
        }
        is_due
    };
    DynFilterFn::new(enabled).with_callsite_filter(|metadata| {
        if is_of_peers(metadata) {
            Interest::sometimes()
        } else {
            Interest::always()
        }
    })
}

fn is_of_peers(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    *metadata.level() == Level::WARN && LIBRARIES.iter().any(|library| target.starts_with(library))
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use tokio::time::advance;
    use tracing_subscriber::{Layer, fmt, layer::SubscriberExt};

    use super::{QUIET, once_a_minute};

    #[derive(Debug, Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_library_warns_once_a_minute_and_we_as_often_as_we_like() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(once_a_minute()));
        let guard = tracing::subscriber::set_default(subscriber);
        for _ in 0..2 {
            for _ in 0..3 {
                tracing::warn!(target: "h2::proto", "theirs");
                tracing::error!(target: "h2::proto", "their error");
                tracing::warn!("ours");
            }
            advance(QUIET + Duration::from_secs(1)).await;
        }
        drop(guard);
        let text = lines.0.lock().expect("no panic").clone();
        let text = String::from_utf8(text).expect("text");
        let count = |what: &str| text.lines().filter(|line| line.ends_with(what)).count();
        assert_eq!(
            [count("theirs"), count("their error"), count("ours")],
            [2, 6, 6],
            "{text}"
        );
    }
}

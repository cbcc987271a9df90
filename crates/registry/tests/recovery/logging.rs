//! What happens while something is logged: whoever writes the log may take as long as it likes.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use futures_util::FutureExt;
use registry::RegistrationState;
use tracing::{Event, Metadata, Subscriber, span};

use crate::{TTL, faulty::faulty, instance, until};

/// Does something whenever something is logged.
struct WhenLogged<F>(F);

impl<F: Fn() + 'static> Subscriber for WhenLogged<F> {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {
        (self.0)();
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn an_owner_changes_its_instance_while_it_is_logged_that_it_is_lost_or_cannot_be_held() {
    let (registry, faults) = faulty();
    let registration = Arc::new(registry.register(instance(), TTL));
    until(&registration, RegistrationState::is_held).await;
    let (owner, (tell, told)) = (Arc::clone(&registration), mpsc::channel());
    let logged = WhenLogged(move || {
        let (owner, (done, is_done)) = (Arc::clone(&owner), mpsc::channel());
        thread::spawn(move || {
            owner.update(|one| one).now_or_never();
            // Nobody waits any more when it was too late.
            let _ = done.send(());
        });
        // As long as that only where it would wait for ever.
        let changed = is_done.recv_timeout(Duration::from_secs(30));
        changed.expect("its owner waits for nobody");
        tell.send(()).expect("somebody counts");
    });
    let logging = tracing::subscriber::set_default(logged);
    faults.set_down(true);
    faults.lose_all_holds();
    let failed = |state: &RegistrationState| {
        matches!(state, RegistrationState::Retrying { attempts: 1.., .. })
    };
    until(&registration, failed).await;
    drop(logging);
    let logged = told.try_iter().count();
    assert!(logged >= 2, "{logged}");
}

//! What a service manager is told of the end of a user-service.

use testkit::Signal;
use tokio::{net::UnixDatagram, time::timeout};

use crate::running::{BOUND, Scene};

#[tokio::test]
async fn a_service_manager_waits_for_the_storage_to_be_closed() {
    let scene = Scene::new();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    let more = [
        ("NOTIFY_SOCKET", path.to_str().expect("text")),
        ("DISCOVERY__SERVER__DRAIN_NOTICE", "1s"),
        ("DISCOVERY__SERVER__DRAIN_LIMIT", "20s"),
        ("DISCOVERY__STORAGE__TIMEOUT", "60s"),
    ];
    let running = scene.user_service_with("", &more).await;
    running.process.signal(Signal::SIGTERM).expect("it runs");
    let end = timeout(BOUND, async {
        let mut message = [0; 1024];
        loop {
            let length = manager.recv(&mut message).await.expect("a message");
            let told = String::from_utf8_lossy(&message[..length]).into_owned();
            if told.contains("STOPPING=1") {
                return told;
            }
        }
    });
    let end = end.await.expect("it says that it ends");
    // Notice, calls, storage, and twelve seconds for what has a limit of its own.
    assert!(end.contains("EXTEND_TIMEOUT_USEC=93000000"), "{end}");
}

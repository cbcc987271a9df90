//! Connecting to peers that hang, refuse or answer.

use std::{net::SocketAddr, time::Duration};

use registry::Address;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpListener, UnixListener},
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{ConnectOptions, connect, race::ATTEMPT_DELAY};

/// No wait in these tests is longer than this.
const BOUND: Duration = Duration::from_secs(10);

fn impatient() -> ConnectOptions {
    ConnectOptions {
        patience: Duration::from_millis(50),
        ..ConnectOptions::default()
    }
}

async fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = Address::from(listener.local_addr().expect("bound"));
    (listener, address)
}

/// An address where nobody listens.
async fn closed() -> Address {
    listen().await.1
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin) {
    // One that has lost the race goes before it has said all.
    if let Ok(mut server) = h2::server::handshake(socket).await {
        while server.accept().await.is_some_and(|call| call.is_ok()) {}
    }
}

/// A server on a port of its own, that answers.
async fn server() -> (Address, AbortOnDropHandle<()>) {
    let (listener, address) = listen().await;
    let task = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    (address, AbortOnDropHandle::new(task))
}

#[tokio::test]
async fn every_failure_is_told_with_its_address_and_its_step() {
    let (_hung, hanging) = listen().await;
    let refusing = closed().await;
    let failed = connect(&[hanging.clone(), refusing.clone()], &impatient())
        .await
        .expect_err("nobody answers")
        .to_string();
    let told: Vec<_> = failed.split("; ").collect();
    assert_eq!(
        told[0],
        format!("{hanging}: no answer to a PING within 50ms")
    );
    assert!(
        told[1].starts_with(&format!("{refusing}: cannot connect: ")),
        "{failed}"
    );
    assert_eq!(told.len(), 2);
}

#[tokio::test]
async fn an_address_that_refuses_is_left_for_the_next_at_once() {
    let (address, _server) = server().await;
    let refusing = closed().await;
    let began = Instant::now();
    let connection = connect(&[refusing, address.clone()], &ConnectOptions::default())
        .await
        .expect("one answers");
    assert_eq!(**connection.peer(), *address.as_str());
    assert!(began.elapsed() < ATTEMPT_DELAY);
}

#[tokio::test]
async fn an_address_that_hangs_delays_the_next_by_a_quarter_of_a_second_and_is_then_dropped() {
    let (hung, hanging) = listen().await;
    let (address, _server) = server().await;
    let began = Instant::now();
    let connection = connect(&[hanging, address.clone()], &ConnectOptions::default())
        .await
        .expect("one answers");
    assert_eq!(**connection.peer(), *address.as_str());
    assert!(began.elapsed() >= ATTEMPT_DELAY);
    // The loser's socket is closed, so that its peer reads to the end.
    let (mut socket, _) = hung.accept().await.expect("it was tried");
    let mut bytes = Vec::new();
    let all = socket.read_to_end(&mut bytes);
    // With bytes unread at the other side, a close may look like a reset.
    let _end = timeout(BOUND, all).await.expect("it is closed");
}

#[tokio::test]
async fn a_host_name_stands_for_all_its_addresses() {
    let (address, _server) = server().await;
    let port = address.port().expect("a port");
    let name = Address::new(&format!("localhost:{port}")).expect("an address");
    let connection = connect(&[name], &ConnectOptions::default())
        .await
        .expect("one of localhost's addresses answers");
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(**connection.peer(), format!("localhost:{port} ({at})"));
}

#[tokio::test]
async fn a_name_that_is_none_fails_by_itself_and_not_the_others() {
    let (address, _server) = server().await;
    let name = Address::new("no-such-host.invalid:80").expect("an address");
    connect(&[name.clone(), address], &ConnectOptions::default())
        .await
        .expect("the other answers");
    let options = ConnectOptions {
        patience: BOUND,
        ..ConnectOptions::default()
    };
    let failed = connect(&[name], &options).await.expect_err("nobody has it");
    let text = failed.to_string();
    assert!(text.starts_with("no-such-host.invalid:80: "), "{text}");
}

#[tokio::test]
async fn a_unix_socket_is_connected_by_its_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("greeter.sock");
    let address = Address::new(&format!("unix:{}", path.display())).expect("an address");
    let failed = connect(std::slice::from_ref(&address), &impatient())
        .await
        .expect_err("there is no such file");
    assert!(failed.to_string().contains("cannot connect"), "{failed}");
    let listener = UnixListener::bind(&path).expect("a socket");
    let task = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a client");
        serve(socket).await;
    });
    let connection = connect(std::slice::from_ref(&address), &ConnectOptions::default())
        .await
        .expect("it answers");
    assert_eq!(**connection.peer(), *address.as_str());
    drop(connection);
    timeout(BOUND, task)
        .await
        .expect("it closes")
        .expect("served");
}

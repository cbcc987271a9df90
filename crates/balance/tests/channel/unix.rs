//! Instances on Unix sockets.

use balance::Channel;
use registry::Address;
use tokio::net::{TcpStream, UnixListener};
use tokio_util::task::AbortOnDropHandle;

use crate::{client, hello, register, registry, server::Server, to_greeter};

/// Answers at a socket in `directory` what `server` answers.
fn tunnel(directory: &std::path::Path, server: &Server) -> (Address, AbortOnDropHandle<()>) {
    let path = directory.join("greeter.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let to = server.address.socket_addr().expect("an IP address");
    let task = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.expect("the server listens");
                let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let address = Address::new(&format!("unix:{}", path.display())).expect("an address");
    (address, AbortOnDropHandle::new(task))
}

#[tokio::test]
async fn a_socket_is_called_by_its_path_and_found_in_a_registry() {
    let server = Server::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let (address, _tunnel) = tunnel(directory.path(), &server);
    let path = address.unix_path().expect("a path").display().to_string();
    let registry = registry();
    let _registration = register(&registry, &address).await;
    let static_one = format!("static:///{address}");
    let to = |target: String| Channel::builder(target).build().expect("a channel");
    for channel in [
        to(format!("unix://{path}")),
        to(static_one),
        to_greeter(&registry),
    ] {
        let answer = client(&channel).say_hello(hello("world")).await;
        let message = answer.expect("an answer").into_inner().message;
        assert_eq!(message, format!("Hello world from {}", server.address));
    }
}

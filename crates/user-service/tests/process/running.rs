//! A user-service as a process, with a greeter beside it, in a directory of its own.

use std::{path::PathBuf, process::Command, time::Duration};

use balance::Channel;
use proto::user::v1::{
    CreateUserRequest, GreetUserRequest, User, user_service_client::UserServiceClient,
};
use registry::Registry;
use serde_json::Value;
use tempfile::TempDir;
use testkit::process::{Process, binary};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Request, Status};

/// More than anything here takes on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// A directory for the registry and the file, and those who run in it.
pub(crate) struct Scene {
    directory: TempDir,
    /// The registry's URL.
    pub(crate) url: String,
    pub(crate) registry: Registry,
    pub(crate) users: UserServiceClient<Channel>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}/discovery", directory.path().display());
        Self::within(directory, url)
    }

    /// With its file in a directory, and another registry.
    pub(crate) fn at(url: String) -> Self {
        Self::within(tempfile::tempdir().expect("a directory"), url)
    }

    fn within(directory: TempDir, url: String) -> Self {
        let registry = registry::connect(&url).expect("a registry");
        let channel = Channel::builder("user").registry(&registry);
        Self {
            users: UserServiceClient::new(channel.build().expect("a channel")),
            registry,
            url,
            directory,
        }
    }

    /// A binary, with nothing of this process's environment that would change what it does.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary(program).expect("it is built"));
        command
            .args(arguments)
            .env("DISCOVERY__REGISTRY__URL", &self.url)
            .env("XDG_DATA_HOME", self.directory.path().join("data"));
        command
    }

    /// Where it keeps its users, unless it is told otherwise.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("data/discovery/user-service.db")
    }

    /// A user-service that is ready, with its users at `storage`, or in its file when that is empty.
    pub(crate) async fn user_service(&self, storage: &str) -> Running {
        self.user_service_with(storage, &[]).await
    }

    /// The same with more in its environment.
    pub(crate) async fn user_service_with(&self, storage: &str, more: &[(&str, &str)]) -> Running {
        let running = self.starting(storage, more);
        let ready = running.process.wait_for_line("registered", BOUND).await;
        ready.expect("it registers");
        running
    }

    /// The same that listens, and is not ready yet.
    pub(crate) fn starting(&self, storage: &str, more: &[(&str, &str)]) -> Running {
        let mut command = self.command("user-service", &[]);
        // For a machine that is busy with other tests.
        command.env("DISCOVERY__STORAGE__TIMEOUT", "10s");
        command.envs(more.iter().copied());
        if !storage.is_empty() {
            command.env("DISCOVERY__STORAGE__URL", storage);
        }
        Running {
            process: Process::spawn("user-service", command).expect("it starts"),
        }
    }

    pub(crate) async fn greeter(&self) -> Process {
        let command = self.command("greeter-server", &[]);
        let greeter = Process::spawn("greeter-server", command).expect("it starts");
        let registered = greeter.wait_for_line("registered", BOUND).await;
        registered.expect("it registers");
        greeter
    }

    pub(crate) async fn create(&self, id: &str, password: &str) -> Result<User, Status> {
        let request = CreateUserRequest {
            user_id: id.to_owned(),
            request_id: String::new(),
            user: Some(User {
                display_name: format!("{id} the user"),
                email: format!("{id}@example.com"),
                password: password.to_owned(),
                ..User::default()
            }),
        };
        let created = self.users.clone().create_user(bounded(request)).await;
        created.map(tonic::Response::into_inner)
    }

    pub(crate) async fn greet(&self, id: &str) -> Result<String, Status> {
        greet(self.users.clone(), id).await
    }
}

/// Has a user greeted.
pub(crate) async fn greet(
    mut users: UserServiceClient<Channel>,
    id: &str,
) -> Result<String, Status> {
    let request = bounded(GreetUserRequest {
        name: format!("users/{id}"),
    });
    let greeted = users.greet_user(request).await;
    greeted.map(|greeted| greeted.into_inner().message)
}

/// A request with a deadline, which waits for somebody to answer it.
pub(crate) fn bounded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(BOUND);
    request.extensions_mut().insert(balance::WaitForReady(true));
    request
}

pub(crate) struct Running {
    pub(crate) process: Process,
}

impl Running {
    /// One page of the admin port, whose address is in the log.
    pub(crate) async fn admin_page(&self, path: &str) -> String {
        let line = self.process.wait_for_line("admin page", BOUND).await;
        let line: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let address = line["listen"].as_str().expect("an address");
        let mut stream = TcpStream::connect(address).await.expect("the admin page");
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    /// Everything that it has printed.
    pub(crate) fn output(&self) -> String {
        let lines = self.process.output();
        let texts: Vec<_> = lines.iter().map(|line| &*line.text).collect();
        texts.join("\n")
    }
}

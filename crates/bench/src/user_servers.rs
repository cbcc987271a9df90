//! Those who answer `GetUser`: user-service itself, and a handler that says the same of everybody. Each is a process of its
//! own, whose time is counted.

use std::{env, net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context, Result};
use prost_types::Timestamp;
use proto::user::v1::{
    AuthenticateRequest, AuthenticateResponse, CreateUserRequest, DeleteUserRequest,
    GetUserRequest, GreetUserRequest, GreetUserResponse, ListUsersRequest, ListUsersResponse,
    UpdateUserRequest, User,
    user_service_client::UserServiceClient,
    user_service_server::{UserService, UserServiceServer},
};
use tempfile::TempDir;
use testkit::{
    Port,
    process::{Process, binary},
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server},
};

/// How long a server may take to start.
const STARTED: Duration = Duration::from_secs(30);

/// A running server with one connection to it.
pub(crate) struct UserServer {
    pub(crate) name: &'static str,
    process: Process,
    pub(crate) client: UserServiceClient<Channel>,
    _port: Port,
    // The last to go: the process writes to it.
    _directory: Option<TempDir>,
}

impl UserServer {
    /// The handler that looks nothing up.
    pub(crate) async fn constant() -> Result<Self> {
        let port = Port::free()?;
        let mut command = Command::new(env::current_exe()?);
        command.args(["serve-user", "--listen", &port.address()]);
        Self::start("tonic, a constant", command, "serving", port, None).await
    }

    /// user-service with its users in a SQLite file of their own, and so many connections to it.
    pub(crate) async fn real(connections: u32) -> Result<Self> {
        let port = Port::free()?;
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(binary("user-service")?);
        let file = directory.path().join("users.db");
        command
            .args(["--listen", &port.address(), "--registry", "memory:"])
            .env(
                "DISCOVERY__STORAGE__URL",
                format!("sqlite://{}", file.display()),
            )
            .env("DISCOVERY__STORAGE__CONNECTIONS", connections.to_string());
        let directory = Some(directory);
        Self::start(
            "user-service, SQLite",
            command,
            "registered",
            port,
            directory,
        )
        .await
    }

    async fn start(
        name: &'static str,
        command: Command,
        started: &str,
        port: Port,
        directory: Option<TempDir>,
    ) -> Result<Self> {
        let process = Process::spawn(name, command)?;
        process.wait_for_line(started, STARTED).await?;
        let endpoint = Endpoint::from_shared(format!("http://{}", port.address()))?;
        let channel = endpoint.connect().await;
        let channel = channel.with_context(|| format!("cannot connect to {name}"))?;
        Ok(Self {
            name,
            process,
            client: UserServiceClient::new(channel),
            _port: port,
            _directory: directory,
        })
    }

    /// What it has computed so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        self.process.cpu_time()
    }
}

#[derive(clap::Args)]
pub(crate) struct ConstantArgs {
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
}

/// Serves with as many threads as user-service does, until it is killed.
pub(crate) fn serve_constant(args: &ConstantArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::builder().add_service(UserServiceServer::new(Constant));
        let listener = tokio::net::TcpListener::bind(args.listen).await?;
        let connections = tonic::transport::server::TcpIncoming::from(listener);
        println!("serving");
        server
            .serve_with_incoming(connections.with_nodelay(Some(true)))
            .await
            .context("cannot serve")
    })
}

/// Says the same of everybody, and can do nothing else.
struct Constant;

#[tonic::async_trait]
impl UserService for Constant {
    async fn get_user(&self, _request: Request<GetUserRequest>) -> Result<Response<User>, Status> {
        let time = Timestamp {
            seconds: 1_700_000_000,
            nanos: 123_456_000,
        };
        Ok(Response::new(User {
            name: "users/user-17".to_owned(),
            display_name: "User 17 of many".to_owned(),
            email: "user-17@example.com".to_owned(),
            password: String::new(),
            etag: "0123456789abcdef0123456789abcdef".to_owned(),
            create_time: Some(time),
            update_time: Some(time),
        }))
    }

    async fn create_user(&self, _: Request<CreateUserRequest>) -> Result<Response<User>, Status> {
        Err(not_asked())
    }

    async fn list_users(
        &self,
        _: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        Err(not_asked())
    }

    async fn update_user(&self, _: Request<UpdateUserRequest>) -> Result<Response<User>, Status> {
        Err(not_asked())
    }

    async fn delete_user(&self, _: Request<DeleteUserRequest>) -> Result<Response<()>, Status> {
        Err(not_asked())
    }

    async fn authenticate(
        &self,
        _: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        Err(not_asked())
    }

    async fn greet_user(
        &self,
        _: Request<GreetUserRequest>,
    ) -> Result<Response<GreetUserResponse>, Status> {
        Err(not_asked())
    }
}

fn not_asked() -> Status {
    Status::unimplemented("what is measured is GetUser")
}

//! `user-service admin …`: asks a user service that runs, as any caller would: by its name, through the balanced channel.

use std::io::{self, BufRead};

use anyhow::{Context, Result, anyhow};
use balance::{Channel, WaitForReady};
use proto::user::v1::{
    CreateUserRequest, DeleteUserRequest, GetUserRequest, GreetUserRequest, ListUsersRequest, User,
    user_service_client::UserServiceClient,
};
use serde_json::{Value, json};
use service_kit::{
    Telemetry, channel_to,
    terminal::{Output, print},
};
use tonic::{Request, Status};
use uuid::Uuid;

use crate::{
    args::{Action, AdminArgs},
    config::UserConfig,
};

/// As many as a page may have.
const PAGE_SIZE: i32 = 1_000;
/// A creation is tried again too: it carries a request id. A deletion is not: one that was carried out and not answered would be
/// told as a user that is not there. When no instance serves, one of them is asked all the same: it says why.
const SERVICE_CONFIG: &str = r#"{
  "loadBalancingConfig": [{"panic_threshold": {"healthyPercent": 1, "childPolicy": [{"round_robin": {}}]}}],
  "methodConfig": [{
    "name": [{"service": "user.v1.UserService"}],
    "retryPolicy": {
      "maxAttempts": 4,
      "initialBackoff": "0.05s",
      "maxBackoff": "0.5s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }, {
    "name": [{"service": "user.v1.UserService", "method": "DeleteUser"}]
  }]
}"#;

/// Does what the command line asks for, and prints what came of it.
pub(crate) async fn run(
    args: &AdminArgs,
    config: &UserConfig,
    telemetry: &Telemetry,
) -> Result<()> {
    let channel = channel_to(&args.target, config, telemetry)
        .await?
        .user_agent(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ))
        .descriptors(proto::DESCRIPTORS)
        .service_config(SERVICE_CONFIG);
    let mut admin = Admin {
        users: UserServiceClient::new(channel.build()?),
        args,
    };
    match &args.action {
        Action::Create {
            id,
            email,
            display_name,
            password_stdin,
        } => {
            let user = User {
                email: email.clone(),
                display_name: display_name.clone(),
                password: password(*password_stdin)?,
                ..User::default()
            };
            admin.create(id, user).await
        }
        Action::Get { id } => admin.get(id).await,
        Action::List { prefix } => admin.list(prefix).await,
        Action::Greet { id } => admin.greet(id).await,
        Action::Delete { id } => admin.delete(id).await,
    }
}

/// The first line of stdin: an argument could be read by everybody on this machine.
fn password(on_stdin: bool) -> Result<String> {
    let mut line = String::new();
    if on_stdin {
        let read = io::stdin().lock().read_line(&mut line);
        read.context("cannot read the password from stdin")?;
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        anyhow::ensure!(
            !line.is_empty(),
            "the first line of stdin, the password, is empty"
        );
    }
    Ok(line)
}

struct Admin<'a> {
    users: UserServiceClient<Channel>,
    args: &'a AdminArgs,
}

impl Admin<'_> {
    async fn create(&mut self, id: &str, user: User) -> Result<()> {
        let request = self.request(CreateUserRequest {
            user_id: id.to_owned(),
            user: Some(user),
            request_id: Uuid::new_v4().to_string(),
        });
        let created = self.users.create_user(request).await.map_err(told)?;
        self.show(created.get_ref())
    }

    async fn get(&mut self, id: &str) -> Result<()> {
        let request = self.request(GetUserRequest { name: name(id) });
        let found = self.users.get_user(request).await.map_err(told)?;
        self.show(found.get_ref())
    }

    async fn list(&mut self, prefix: &str) -> Result<()> {
        let mut page_token = String::new();
        loop {
            let request = self.request(ListUsersRequest {
                page_size: PAGE_SIZE,
                page_token,
                filter: format!("name = \"users/{prefix}*\""),
            });
            let page = self
                .users
                .list_users(request)
                .await
                .map_err(told)?
                .into_inner();
            page.users.iter().try_for_each(|user| self.show(user))?;
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(());
            }
        }
    }

    async fn greet(&mut self, id: &str) -> Result<()> {
        let request = self.request(GreetUserRequest { name: name(id) });
        let greeted = self.users.greet_user(request).await.map_err(told)?;
        let message = greeted.into_inner().message;
        match self.args.output {
            Output::Table => say(&message),
            Output::Json => say(&json!({"message": message}).to_string()),
        }
    }

    async fn delete(&mut self, id: &str) -> Result<()> {
        let request = self.request(DeleteUserRequest {
            name: name(id),
            etag: String::new(),
        });
        self.users.delete_user(request).await.map_err(told)?;
        Ok(())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.args.timeout);
        request.extensions_mut().insert(WaitForReady(true));
        request
    }

    fn show(&self, user: &User) -> Result<()> {
        match self.args.output {
            Output::Table => say(&format!(
                "{}  {}  {}",
                user.name, user.email, user.display_name
            )),
            Output::Json => say(&object(user).to_string()),
        }
    }
}

fn name(id: &str) -> String {
    format!("users/{id}")
}

/// As protobuf's JSON has it.
fn object(user: &User) -> Value {
    let time = |time: &Option<prost_types::Timestamp>| time.as_ref().map(ToString::to_string);
    json!({
        "name": user.name,
        "displayName": user.display_name,
        "email": user.email,
        "etag": user.etag,
        "createTime": time(&user.create_time),
        "updateTime": time(&user.update_time),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands it over")]
fn told(status: Status) -> anyhow::Error {
    anyhow!("{}: {}", status.code(), status.message())
}

/// Whoever has closed stdout has seen enough.
fn say(line: &str) -> Result<()> {
    print(&format!("{line}\n")).map(drop)
}

//! `user.v1.UserService`: what each method does. What a request may be is in [`validate`], what each failure is called on the
//! wire in [`status`].

mod deadline;
mod page_token;
mod paging;
mod status;
mod validate;

use std::time::Duration;

use balance::Channel;
use prost_types::Timestamp;
use proto::{
    helloworld::{HelloRequest, greeter_client::GreeterClient},
    user::v1::{
        AuthenticateRequest, AuthenticateResponse, CreateUserRequest, DeleteUserRequest,
        GetUserRequest, GreetUserRequest, GreetUserResponse, ListUsersRequest, ListUsersResponse,
        UpdateUserRequest, User, user_service_server::UserService,
    },
};
use tonic::{Request, Response, Status};

use self::{deadline::Deadline, page_token::PageTokens, paging::Page, validate::Changes};
use crate::{
    config::UserConfig,
    password::{Passwords, Verdict},
    storage::{Change, HashChange, NewUser, Storage, UserRow, another_etag},
    token,
    upkeep::now_in_microseconds,
};

const MICROSECONDS: i64 = 1_000_000;

/// The service. What a caller gives up ends at its next wait.
#[derive(Debug, Clone)]
pub(crate) struct Users {
    storage: Storage,
    passwords: Passwords,
    greeter: GreeterClient<Channel>,
    greeter_timeout: Duration,
    token_ttl: Duration,
}

impl Users {
    /// Users in `storage`, greeted through `greeter`.
    pub(crate) fn new(
        storage: Storage,
        passwords: Passwords,
        greeter: Channel,
        config: &UserConfig,
    ) -> Self {
        Self {
            storage,
            passwords,
            greeter: GreeterClient::new(greeter),
            greeter_timeout: config.greeter.timeout,
            token_ttl: config.auth.token_ttl,
        }
    }

    async fn hash(&self, password: String) -> Result<Option<String>, Status> {
        if password.is_empty() {
            return Ok(None);
        }
        let hashed = self.passwords.hash(password).await;
        hashed.map(Some).map_err(status::of_password)
    }

    /// Has a password kept in another way. Who is known by it is let in all the same: it is done at the next login otherwise.
    async fn keep_anew(&self, id: &str, kept: Option<String>, hash: &str) {
        let kept = kept.unwrap_or_default();
        if let Err(error) = self.storage.replace_hash(id, &kept, hash).await {
            let error = registry::one_line(&error);
            tracing::warn!(error, "a password cannot be hashed anew");
        }
    }
}

#[tonic::async_trait]
impl UserService for Users {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<User>, Status> {
        let new = validate::new_user(request.into_inner())?;
        let now = now_in_microseconds();
        let new = NewUser {
            user: UserRow {
                id: new.id,
                display_name: new.display_name,
                email: new.email,
                etag: another_etag(),
                create_time: now,
                update_time: now,
            },
            hash: self.hash(new.password).await?,
            request_id: new.request_id,
        };
        let created = self.storage.create(&new).await;
        Ok(Response::new(user(created.map_err(status::of_storage)?)))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<User>, Status> {
        let id = validate::name(&request.get_ref().name)?;
        let found = self.storage.get(id).await.map_err(status::of_storage)?;
        Ok(Response::new(user(found)))
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let secret = self.storage.signing_key().await;
        let tokens = PageTokens::new(&secret.map_err(status::of_storage)?);
        let tokens = tokens.map_err(status::unsealed)?;
        let page = Page::asked(request.get_ref(), &tokens)?;
        // One more than is told: whether there is another page.
        let found = self.storage.list(&page.after, &page.prefix, page.size + 1);
        let found = found.await.map_err(status::of_storage)?;
        let size = page.size as usize;
        let next_page_token = match found.get(size) {
            Some(_) => {
                let token = tokens.seal(&found[size - 1].id, &page.prefix);
                token.map_err(status::unsealed)?
            }
            None => String::new(),
        };
        Ok(Response::new(ListUsersResponse {
            users: found.into_iter().take(size).map(user).collect(),
            next_page_token,
        }))
    }

    async fn update_user(
        &self,
        request: Request<UpdateUserRequest>,
    ) -> Result<Response<User>, Status> {
        let Changes {
            id,
            etag,
            display_name,
            email,
            password,
        } = validate::changes(request.into_inner())?;
        let hash = match password {
            None => HashChange::Keep,
            Some(password) => match self.hash(password).await? {
                Some(hash) => HashChange::Set(hash),
                None => HashChange::Remove,
            },
        };
        let change = Change {
            display_name,
            email,
            hash,
            etag: another_etag(),
            now: now_in_microseconds(),
        };
        let updated = self.storage.update(&id, &etag, &change).await;
        Ok(Response::new(user(updated.map_err(status::of_storage)?)))
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.get_ref();
        let id = validate::name(&request.name)?;
        let deleted = self.storage.delete(id, &request.etag).await;
        deleted.map(Response::new).map_err(status::of_storage)
    }

    /// Who there is cannot be told by what is answered, nor by when: a name without a password is looked at as long.
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        let AuthenticateRequest { name, password } = request.into_inner();
        let id = validate::credentials(&name, &password)?;
        let kept = self.storage.hash(id).await.map_err(status::of_storage)?;
        let verified = self.passwords.verify(password, kept.clone()).await;
        match verified.map_err(status::of_password)? {
            Verdict::Wrong => return Err(status::wrong_credentials()),
            Verdict::Right => {}
            Verdict::Outdated(hash) => self.keep_anew(id, kept, &hash).await,
        }
        let key = self
            .storage
            .signing_key()
            .await
            .map_err(status::of_storage)?;
        let now = now_in_microseconds() / MICROSECONDS;
        let token = token::sign(&key, &name, now, self.token_ttl);
        Ok(Response::new(AuthenticateResponse {
            token: token.text,
            expire_time: Some(Timestamp {
                seconds: token.expires,
                nanos: 0,
            }),
        }))
    }

    async fn greet_user(
        &self,
        request: Request<GreetUserRequest>,
    ) -> Result<Response<GreetUserResponse>, Status> {
        let deadline = Deadline::of(request.metadata(), self.greeter_timeout);
        let id = validate::name(&request.get_ref().name)?;
        let user = self.storage.get(id).await.map_err(status::of_storage)?;
        let name = match user.display_name.as_str() {
            "" => user.id,
            _ => user.display_name,
        };
        let mut hello = Request::new(HelloRequest { name });
        hello.set_timeout(deadline.left()?);
        let greeted = self.greeter.clone().say_hello(hello).await;
        let message = greeted.map_err(status::of_greeter)?.into_inner().message;
        Ok(Response::new(GreetUserResponse { message }))
    }
}

/// A user as callers see it: the password is never told.
fn user(row: UserRow) -> User {
    User {
        name: format!("{}{}", validate::COLLECTION, row.id),
        display_name: row.display_name,
        email: row.email,
        password: String::new(),
        etag: row.etag,
        create_time: Some(timestamp(row.create_time)),
        update_time: Some(timestamp(row.update_time)),
    }
}

fn timestamp(microseconds: i64) -> Timestamp {
    let below_a_second = microseconds.rem_euclid(MICROSECONDS);
    Timestamp {
        seconds: microseconds.div_euclid(MICROSECONDS),
        nanos: i32::try_from(below_a_second * 1_000).unwrap_or_default(),
    }
}

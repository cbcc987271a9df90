//! How messages with a secret in them are shown: without it, so that none gets into a log by being printed.

use std::fmt::{Debug, Formatter, Result};

use crate::user::v1::{AuthenticateRequest, AuthenticateResponse, User};

/// Whether there is a secret, and no more.
fn hidden(secret: &str) -> &'static str {
    if secret.is_empty() { "" } else { "***" }
}

impl Debug for User {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("display_name", &self.display_name)
            .field("email", &self.email)
            .field("password", &hidden(&self.password))
            .field("etag", &self.etag)
            .field("create_time", &self.create_time)
            .field("update_time", &self.update_time)
            .finish()
    }
}

impl Debug for AuthenticateRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("AuthenticateRequest")
            .field("name", &self.name)
            .field("password", &hidden(&self.password))
            .finish()
    }
}

impl Debug for AuthenticateResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("AuthenticateResponse")
            .field("token", &hidden(&self.token))
            .field("expire_time", &self.expire_time)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{AuthenticateRequest, AuthenticateResponse, User};
    use crate::user::v1::CreateUserRequest;

    #[test]
    fn secrets_are_not_shown() {
        let (secret, name) = (|| "s3cr3t".to_owned(), || "users/ann".to_owned());
        let user = User {
            name: name(),
            password: secret(),
            ..User::default()
        };
        let create = CreateUserRequest {
            user: Some(user.clone()),
            ..CreateUserRequest::default()
        };
        let ask = AuthenticateRequest {
            name: name(),
            password: secret(),
        };
        let answer = AuthenticateResponse {
            token: secret(),
            expire_time: None,
        };
        for shown in [
            format!("{user:?}"),
            format!("{create:?}"),
            format!("{ask:?}"),
            format!("{answer:?}"),
        ] {
            assert!(
                !shown.contains("s3cr3t") && shown.contains("***"),
                "{shown}"
            );
        }
    }
}

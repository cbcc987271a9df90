//! What is kept, as whoever has the file sees it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proto::user::v1::AuthenticateRequest;
use ring::hmac;
use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::running::{Scene, bounded};

async fn open(scene: &Scene) -> SqliteConnection {
    let file = SqliteConnectOptions::new().filename(scene.file());
    file.connect().await.expect("the file of a user-service")
}

/// The token of ann, whose password it is.
async fn token(scene: &Scene) -> String {
    let request = bounded(AuthenticateRequest {
        name: "users/ann".to_owned(),
        password: "correct horse".to_owned(),
    });
    let known = scene.users.clone().authenticate(request).await;
    known.expect("a token").into_inner().token
}

#[tokio::test]
async fn tokens_are_signed_with_the_key_that_is_kept() {
    let scene = Scene::new();
    let _service = scene.user_service("").await;
    scene.create("ann", "correct horse").await.expect("created");
    let token = token(&scene).await;
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
    let secret = sqlx::query_scalar("SELECT secret FROM signing_key WHERE number = 1");
    let secret: Vec<u8> = secret
        .fetch_one(&mut open(&scene).await)
        .await
        .expect("a key");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    hmac::verify(&key, signed.as_bytes(), &signature).expect("it is signed with that key");
}

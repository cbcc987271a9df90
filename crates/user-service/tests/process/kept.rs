//! What is kept, as whoever has the file sees it.

use argon2::{Argon2, Params, PasswordHasher};
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

#[tokio::test]
async fn a_password_that_is_kept_in_another_way_is_kept_as_today_from_the_next_login_on() {
    let scene = Scene::new();
    let _service = scene.user_service("").await;
    let created = scene.create("ann", "correct horse").await.expect("created");
    let weaker = Argon2::from(Params::new(8 * 1024, 1, 1, None).expect("parameters"));
    let weaker = weaker.hash_password(b"correct horse").expect("a hash");
    let mut file = open(&scene).await;
    let set = sqlx::query("UPDATE passwords SET hash = $1 WHERE user_id = 'ann'");
    let set = set.bind(weaker.to_string()).execute(&mut file).await;
    assert_eq!(set.expect("set").rows_affected(), 1);
    let mut kept = Vec::new();
    for _ in 0..2 {
        token(&scene).await;
        let hash = sqlx::query_scalar("SELECT hash FROM passwords WHERE user_id = 'ann'");
        let hash: String = hash.fetch_one(&mut file).await.expect("a hash");
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        kept.push(hash);
    }
    assert_eq!(kept[0], kept[1], "it is as it should be");
    let etag = sqlx::query_scalar("SELECT etag FROM users WHERE id = 'ann'");
    let etag: String = etag.fetch_one(&mut file).await.expect("an etag");
    assert_eq!(etag, created.etag, "the user has not changed");
}

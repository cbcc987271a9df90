//! A PostgreSQL server that tests start, kill and start again.

use testkit::postgres::Postgres;

#[tokio::test]
async fn a_server_keeps_what_was_committed_when_it_is_killed_and_started_again() {
    let mut server = Postgres::start().await.expect("a server");
    let (one, other) = (server.database().await, server.database().await);
    let (one, other) = (one.expect("a database"), other.expect("another"));
    assert_ne!(one, other);
    assert!(one.contains(server.password()));
    let kept = "CREATE TABLE kept (it TEXT); INSERT INTO kept VALUES ('this')";
    server.sql(&one, kept).await.expect("a table");

    server.kill().await.expect("it is gone");
    let refused = server.sql(&one, "SELECT it FROM kept").await;
    assert!(
        refused
            .expect_err("it is gone")
            .to_string()
            .contains("refused")
    );

    server.restart().await.expect("it is back");
    let found = server.sql(&one, "SELECT it FROM kept").await;
    assert_eq!(found.expect("a row"), "this");
    server.stop().await.expect("it ends");
    server.stop().await.expect("nothing to do");
}

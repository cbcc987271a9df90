//! The few requests that tests make of pages of this machine: etcd's JSON gateway and metrics, and our own binaries' admin pages.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// A member that hangs accepts connections and answers nothing.
const ANSWER: Duration = Duration::from_secs(2);
const LONGEST: u64 = 1024 * 1024;

/// The JSON at `path` of what listens at that port of 127.0.0.1.
pub async fn get(port: u16, path: &str) -> Result<Value> {
    parse(port, &text(port, path).await?)
}

/// The text at `path` of what listens at that port of 127.0.0.1.
pub async fn text(port: u16, path: &str) -> Result<String> {
    request(port, &format!("GET {path} HTTP/1.0\r\n\r\n")).await
}

/// The same for a request with a body, which is JSON.
pub async fn post(port: u16, path: &str, body: &str) -> Result<Value> {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
    parse(port, &request(port, &format!("{head}{body}")).await?)
}

fn parse(port: u16, body: &str) -> Result<Value> {
    serde_json::from_str(body).with_context(|| format!("port {port} answers {body:?}"))
}

async fn request(port: u16, text: &str) -> Result<String> {
    let answer = timeout(ANSWER, exchange(port, text))
        .await
        .with_context(|| format!("port {port} has not answered in {ANSWER:?}"))??;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no body")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(
        status.contains(" 200 "),
        "port {port} answers {status}: {}",
        body.trim()
    );
    Ok(body.to_owned())
}

async fn exchange(port: u16, text: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer).await?;
    Ok(answer)
}

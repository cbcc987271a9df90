//! What each path answers.

use std::{fmt::Write, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{Html, IntoResponse},
};
use serde_json::{Map, Value};

use super::Admin;
use crate::telemetry::LogLevel;

const PAGES: [(&str, &str); 5] = [
    ("/metrics", "the metrics, in Prometheus' text format"),
    ("/healthz", "whether the process lives"),
    ("/readyz", "whether it is ready, and why not"),
    (
        "/debug/channels",
        "each channel's endpoints, and why each is, or is not, being picked (JSON)",
    ),
    (
        "/admin/log-level",
        "what is logged; PUT another filter to replace it until the process ends",
    ),
];

pub(super) async fn index() -> Html<String> {
    let mut page = String::from("<!doctype html><title>admin</title><h1>Admin</h1><ul>");
    for (path, what) in PAGES {
        write!(page, "<li><a href=\"{path}\">{path}</a>: {what}</li>").expect("a String takes all");
    }
    page.push_str("</ul>");
    Html(page)
}

pub(super) async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    match admin.telemetry.render() {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)];
            (StatusCode::OK, kind, text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response(),
    }
}

pub(super) async fn healthz() -> &'static str {
    "alive\n"
}

pub(super) async fn readyz(State(admin): State<Arc<Admin>>) -> (StatusCode, String) {
    let problems: Vec<_> = admin
        .ready
        .iter()
        .filter_map(|ready| ready().err())
        .collect();
    if problems.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {}\n", problems.join("; ")),
        )
    }
}

pub(super) async fn channels(State(admin): State<Arc<Admin>>) -> Json<Map<String, Value>> {
    let explained = admin
        .channels
        .iter()
        .map(|(name, explain)| (name.clone(), explain()));
    Json(explained.collect())
}

/// An answer in words.
type Answer = (StatusCode, String);

pub(super) async fn log_level(State(admin): State<Arc<Admin>>) -> Answer {
    answer(admin.telemetry.log_level().map(LogLevel::current))
}

pub(super) async fn set_log_level(State(admin): State<Arc<Admin>>, level: String) -> Answer {
    let log = admin.telemetry.log_level();
    answer(log.map(|log| log.replace(&level)))
}

fn answer(outcome: Option<anyhow::Result<String>>) -> Answer {
    match outcome {
        Some(Ok(level)) => (StatusCode::OK, format!("{level}\n")),
        Some(Err(error)) => (StatusCode::BAD_REQUEST, format!("{error:#}\n")),
        None => (
            StatusCode::NOT_FOUND,
            "the log of this process is somebody else's\n".to_owned(),
        ),
    }
}

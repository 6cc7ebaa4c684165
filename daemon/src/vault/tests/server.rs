//! A stand-in for HashiCorp Vault: the calls of its documented API that the daemon makes.
//! It is not the real server, which could not be had for the tests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// What it knows and what it was asked.
#[derive(Default)]
pub(super) struct Inside {
    pub(super) tokens: Vec<String>,
    /// `METHOD path`, in order.
    pub(super) asked: Vec<String>,
    pub(super) leases: HashMap<String, u64>,
    /// What every call is answered with instead, and what in place of a delay.
    pub(super) status: Option<u16>,
    pub(super) body: Option<String>,
    pub(super) delay: Option<Duration>,
    /// A path whose answer comes late.
    pub(super) slow: Option<(&'static str, Duration)>,
    /// What the policy of every token denies.
    pub(super) denied: Vec<&'static str>,
    pub(super) namespace: Option<String>,
    pub(super) logins: u32,
    pub(super) made: u32,
    pub(super) token_lasts: u64,
    pub(super) lease_lasts: u64,
}

pub(super) type Shared = Arc<Mutex<Inside>>;

/// Runs until the test's runtime ends; gives its address.
pub(super) async fn start(inside: Inside) -> (Shared, String) {
    let inside = Arc::new(Mutex::new(inside));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("bind");
    let address = format!("http://{}", listener.local_addr().expect("address"));
    let app = Router::new()
        .fallback(answer)
        .with_state(Arc::clone(&inside));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (inside, address)
}

async fn answer(
    State(inside): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let late = inside.lock().expect("lock").slow;
    let late = late.filter(|(path, _)| uri.path().ends_with(path));
    let answer = answer_now(&inside, &method, &uri, &headers, &body).await;
    if let Some((_, late)) = late {
        tokio::time::sleep(late).await;
    }
    answer
}

async fn answer_now(
    inside: &Shared,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let delay = inside.lock().expect("lock").delay;
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    let mut inside = inside.lock().expect("lock");
    let path = uri.path().trim_start_matches("/v1/").to_owned();
    inside.asked.push(format!("{method} {path}"));
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(status) = inside.status {
        let status = StatusCode::from_u16(status).expect("status");
        let body = inside.body.clone();
        return (status, body.unwrap_or_else(|| r#"{"errors":["x"]}"#.into())).into_response();
    }
    let header = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
    if path == "auth/approle/login" {
        return inside.log_in(&body);
    }
    let token = header("x-vault-token").unwrap_or_default();
    let known = inside.tokens.iter().any(|one| one == token);
    let denied = inside.denied.iter().any(|one| *one == path);
    if !known || denied || header("x-vault-namespace") != inside.namespace.as_deref() {
        return failed(403, "permission denied");
    }
    inside.known(token, method, &path, &body)
}

impl Inside {
    fn log_in(&mut self, body: &Value) -> Response {
        if body != &json!({"role_id": "role", "secret_id": "the-secret-id"}) {
            return failed(400, "invalid role or secret ID");
        }
        self.logins += 1;
        let token = format!("hvs.token{}", self.logins);
        self.tokens.push(token.clone());
        self.auth(&token)
    }

    fn auth(&self, token: &str) -> Response {
        good(
            &json!({"auth": {"client_token": token, "lease_duration": self.token_lasts,
                              "renewable": true, "policies": ["default"]}}),
        )
    }

    fn known(&mut self, token: &str, method: &Method, path: &str, body: &Value) -> Response {
        match (method.as_str(), path) {
            ("GET", "secret/data/app") => good(&json!({
                "request_id": "1", "lease_id": "", "renewable": false, "lease_duration": 0,
                "data": {"data": {"password": "kv-secret", "port": 5432, "more": {"a": [1]}},
                         "metadata": {"version": 3}}
            })),
            ("GET", "secret/data/deleted") => failed(404, ""),
            ("GET", "database/creds/ro") => self.user(),
            ("PUT", "sys/leases/renew") => {
                let id = body["lease_id"].as_str().unwrap_or_default();
                match self.leases.get(id) {
                    Some(lasts) => good(&json!({"lease_id": id, "renewable": true,
                                                "lease_duration": lasts})),
                    None => failed(400, "lease not found"),
                }
            }
            ("PUT", "sys/leases/revoke") => {
                self.leases
                    .remove(body["lease_id"].as_str().unwrap_or_default());
                StatusCode::NO_CONTENT.into_response()
            }
            ("GET", "auth/token/lookup-self") => good(&json!({"data": {"ttl": self.token_lasts}})),
            ("PUT", "auth/token/renew-self") => self.auth(token),
            ("PUT", "auth/token/revoke-self") => {
                self.tokens.retain(|one| one != token);
                StatusCode::NO_CONTENT.into_response()
            }
            _ => failed(404, ""),
        }
    }

    fn user(&mut self) -> Response {
        self.made += 1;
        let id = format!("database/creds/ro/lease{}", self.made);
        self.leases.insert(id.clone(), self.lease_lasts);
        good(&json!({
            "lease_id": id, "renewable": true, "lease_duration": self.lease_lasts,
            "data": {"username": format!("v-ro-{}", self.made), "password": "dynamic-secret"}
        }))
    }
}

fn good(body: &Value) -> Response {
    body.to_string().into_response()
}

fn failed(status: u16, why: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("status");
    (status, json!({"errors": [why]}).to_string()).into_response()
}

//! The other end of the control socket, for `portcullis`.

use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;

use super::api::Problem;

/// Asks the daemon once and waits for its answer.
///
/// # Errors
/// The daemon does not run, does not let the caller ask, or refuses; one line each.
pub fn ask<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
) -> anyhow::Result<T> {
    let body = body
        .map(serde_json::to_vec)
        .transpose()?
        .unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (status, answer) = runtime.block_on(exchange(socket, method, path, body))?;
    if status.is_success() {
        return serde_json::from_slice(&answer).context("the daemon's answer makes no sense");
    }
    let said = serde_json::from_slice::<Problem>(&answer);
    let said = said.map_or_else(
        |_| format!("the daemon answered {status}"),
        |said| said.error,
    );
    Err(Refused(said).into())
}

/// The daemon's own words.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Refused(String);

async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<(hyper::StatusCode, Bytes)> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| explain(socket, error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "portcullis")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    // The sender goes with the answer, so that the connection ends then.
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        anyhow::Ok((status, answer))
    };
    let (answer, ended) = tokio::join!(exchange, connection);
    match (answer, ended) {
        (Ok(answer), _) => Ok(answer),
        (Err(_), Ok(())) => bail!("the daemon closed the connection"),
        (Err(_), Err(error)) => Err(error.into()),
    }
}

fn explain(socket: &Path, error: io::Error) -> anyhow::Error {
    let path = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            anyhow::anyhow!("portcullisd does not run ({path}: {error}); start it first")
        }
        io::ErrorKind::PermissionDenied => anyhow::anyhow!(
            "you may not use {path}: only root and the members of control.group may"
        ),
        _ => anyhow::anyhow!("cannot connect to {path}: {error}"),
    }
}

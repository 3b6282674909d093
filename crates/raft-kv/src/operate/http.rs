//! # A request to a node over HTTP
//!
//! One connection for one request. Owns nothing.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::handshake;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The longest answer that is taken, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A node was not asked, or its answer is not one.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// Nobody listens there; nothing was sent.
    #[error("{0}")]
    Unreachable(#[from] io::Error),
    /// Whoever listens there does not speak HTTP, or breaks off.
    #[error("the answer is not that of a raft-kv node; is this its HTTP port? ({0})")]
    Protocol(String),
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// Its content.
    pub(super) fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body).map_err(|error| HttpError::Protocol(error.to_string()))
    }
}

/// Reads a page.
pub(super) async fn fetch(address: SocketAddr, path: &str) -> Result<Answer, HttpError> {
    exchange(address, Method::GET, path, Bytes::new()).await
}

/// Sends a JSON document.
pub(super) async fn send(
    address: SocketAddr,
    path: &str,
    document: &impl serde::Serialize,
) -> Result<Answer, HttpError> {
    let body =
        serde_json::to_vec(document).map_err(|error| HttpError::Protocol(error.to_string()))?;
    exchange(address, Method::POST, path, body.into()).await
}

async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Answer, HttpError> {
    let strange = |error: hyper::Error| HttpError::Protocol(error.to_string());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| HttpError::Protocol(error.to_string()))?;
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(strange)?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(strange)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
                Some(_) => HttpError::Protocol("it is too long".to_owned()),
                None => HttpError::Protocol(error.to_string()),
            })?;
        Ok(Answer {
            status,
            body: body.to_bytes(),
        })
    };
    // The connection is over when the answer is; it only says so earlier if the
    // exchange failed, and then the exchange says why.
    let driven = async {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        answer = answered => answer,
        never = driven => match never {},
    }
}

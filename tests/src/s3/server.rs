//! The HTTP side of the S3 server: a loopback listener, signatures checked, faults carried out.

use super::backend::Backend;
use super::faults::{Desk, Kind, Op};
use super::store::Store;
use super::translate::BODY_BYTES_MAX;
use super::{ACCESS_KEY, SECRET_KEY};
use anyhow::{Context, Result};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::path::S3Path;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpResponse, S3Result, s3_error};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// What the check of a request found out, for whoever sends the answer.
#[derive(Clone, Debug, Default)]
struct Slip(Arc<Mutex<Option<Found>>>);

/// A request's number, and the fault that it meets.
type Found = (usize, Option<Kind>);

/// Starts listening on a free loopback port, on the runtime it is called in.
pub(super) async fn listen(store: Arc<Store>, desk: Arc<Desk>) -> Result<SocketAddr> {
    let mut builder = S3ServiceBuilder::new(Backend { store });
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    builder.set_access(Gate {
        desk: Arc::clone(&desk),
    });
    let service = builder.build();
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .context("cannot listen on loopback")?;
    let address = listener.local_addr().context("no address")?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).ok();
            let (service, desk) = (service.clone(), Arc::clone(&desk));
            tokio::spawn(async move {
                let answer =
                    service_fn(move |request| answer(service.clone(), Arc::clone(&desk), request));
                // An error here is a client that left, or a connection that a fault closed.
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await
                    .ok();
            });
        }
    });
    Ok(address)
}

/// Answers one request. The body is read first, so that a refusal never meets a client that is
/// still sending.
async fn answer(
    service: S3Service,
    desk: Arc<Desk>,
    request: hyper::Request<Incoming>,
) -> Result<HttpResponse, s3s::StdError> {
    let slip = Slip::default();
    let (mut head, body) = request.into_parts();
    let body = Body::from(body).store_all_limited(BODY_BYTES_MAX).await?;
    head.extensions.insert(slip.clone());
    let mut response = service
        .call(hyper::Request::from_parts(head, Body::from(body)))
        .await?;
    let found = slip.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((number, fault)) = found else {
        return Ok(response);
    };
    match fault {
        Some(Kind::Timeout | Kind::TimeoutAfterCommit) => pending().await,
        Some(Kind::HangUp | Kind::HangUpAfterCommit) => Err("a fault closes this".into()),
        _ => {
            if fault == Some(Kind::ErrorIn200) {
                *response.status_mut() = hyper::StatusCode::OK;
            }
            desk.answered(number, response.status().as_u16());
            Ok(response)
        }
    }
}

/// Sees every request after its signature was checked and before it is carried out.
struct Gate {
    desk: Arc<Desk>,
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "a signature is required"));
        }
        let op = Op::named(context.s3_op().name());
        let (bucket, key) = match context.s3_path() {
            S3Path::Root => ("", ""),
            S3Path::Bucket { bucket } => (&**bucket, ""),
            S3Path::Object { bucket, key } => (&**bucket, &**key),
        };
        let owner = context.headers().get("x-amz-expected-bucket-owner");
        let owner = owner.and_then(|owner| owner.to_str().ok());
        let (number, fault) = self.desk.arrived(op, (bucket, key), owner);
        if let Some(Slip(slip)) = context.extensions_mut().get::<Slip>() {
            *slip.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, fault));
        }
        match fault {
            Some(Kind::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            None | Some(Kind::TimeoutAfterCommit | Kind::HangUpAfterCommit) => Ok(()),
            Some(Kind::Http500 | Kind::ErrorIn200) => Err(s3_error!(InternalError)),
            Some(Kind::Http503 | Kind::Timeout | Kind::HangUp) => {
                Err(s3_error!(ServiceUnavailable))
            }
            Some(Kind::SlowDown) => Err(s3_error!(SlowDown)),
            Some(Kind::Conflict409) => Err(s3_error!(ConditionalRequestConflict)),
            Some(Kind::Denied) => Err(s3_error!(AccessDenied)),
        }
    }
}

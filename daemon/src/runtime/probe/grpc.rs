//! One question to `grpc.health.v1.Health` (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).

use hyper_util::rt::TokioIo;
use std::io;
use tokio::net::TcpStream;
use tonic::Status;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// What a server answers that does its work: `SERVING`.
pub(super) const SERVING: i32 = tonic_health::pb::health_check_response::ServingStatus::Serving as i32;

/// The status of a service, by its number.
pub(super) async fn check(stream: TcpStream, service: &str) -> Result<i32, Status> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(stream)
    });
    // The address is a formality: the connection is there already.
    let channel = Endpoint::from_static("http://pod.invalid").connect_with_connector(connector).await;
    let channel = channel.map_err(|error| Status::from_error(Box::new(error)))?;
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel).check(request).await?;
    Ok(answer.into_inner().status)
}

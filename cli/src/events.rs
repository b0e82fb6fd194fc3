//! What both programs show of events: all that is remembered, or a stream without end.

use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::table;
use berth_proto::v1;
use tonic::Streaming;

/// What is remembered; the stream ends with it.
pub(crate) async fn all(mut stream: Streaming<v1::Event>) -> Result<Vec<v1::Event>> {
    let mut all = Vec::new();
    while let Some(event) = next(&mut stream).await? {
        all.push(event);
    }
    Ok(all)
}

/// Shows what is remembered.
pub(crate) async fn show(output: Output, stream: Streaming<v1::Event>) -> Result<()> {
    let all = all(stream).await?;
    output.list(&all, |style| table::events(&all, style))
}

/// Shows each event as it comes.
pub(crate) async fn follow(output: Output, mut stream: Streaming<v1::Event>) -> Result<()> {
    while let Some(event) = next(&mut stream).await? {
        output.event(&event, Some(table::event_line(&event)))?;
    }
    Err(Failure::unreachable("Ended", "watch events: the other side ended the stream").remedy("run it again"))
}

async fn next(stream: &mut Streaming<v1::Event>) -> Result<Option<v1::Event>> {
    stream.message().await.map_err(|status| Failure::from_status(&status, "watch events"))
}

//! `berth describe`: all that is known of one pod, in one answer.

use super::Session;
use crate::events;
use crate::failure::Result;
use crate::json::to_json;
use crate::output::now_ms;
use crate::program::{ask, request};
use crate::table;
use berth_model::PodId;
use berth_proto::v1;
use clap::Args;
use serde_json::json;

/// Orders that are shown: the newest.
const ORDERS: usize = 10;

/// Show all that is known of a pod: how it is, what was ordered, and what has happened to it
#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// Which pod
    #[arg(value_name = "NAMESPACE/NAME")]
    pub pod: PodId,
}

pub(super) async fn describe(session: &Session, describe: &Describe) -> Result<()> {
    let id = &describe.pod;
    let mut client = session.client().await?;
    let call = client.get_pod(request(v1::GetPodRequest { pod: Some(id.into()) }));
    let pod = ask(&format!("get pod {id}"), call).await?;
    let question = v1::ListOrdersRequest { pod: Some(id.into()), node: None };
    let mut orders = ask("list orders", client.list_orders(request(question))).await?.orders;
    orders.sort_by_key(|order| order.created_at_ms);
    orders.drain(..orders.len().saturating_sub(ORDERS));
    let question = v1::WatchEventsRequest { pod: Some(id.into()), ..v1::WatchEventsRequest::default() };
    let happened = events::all(ask("watch events", client.watch_events(question)).await?).await?;
    let json = json!({
        "pod": to_json(&pod),
        "orders": orders.iter().map(to_json).collect::<Vec<_>>(),
        "events": happened.iter().map(to_json).collect::<Vec<_>>(),
    });
    session.output.value(&json, |style| {
        let mut text = table::pod(&pod, style);
        text.push_str(&table::part("Orders", &orders, |orders| table::orders(orders, now_ms(), style)));
        text.push_str(&table::part("Events", &happened, |events| table::events(events, style)));
        text
    })
}

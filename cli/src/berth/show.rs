//! Commands that only look.

use super::args::{Events, FilterArgs, Get, Nodes, Orders, Pools, Watch};
use super::{Session, parse_pod};
use crate::events;
use crate::failure::{Failure, Result};
use crate::output::{Format, now_ms};
use crate::program::{ask, request};
use crate::table::{self, Width};
use berth_model::PodId;
use berth_proto::v1;

fn filter(args: &FilterArgs) -> v1::ListPodsRequest {
    v1::ListPodsRequest {
        namespace: args.namespace.clone(),
        node: args.node.as_ref().map(ToString::to_string),
    }
}

/// The pod among the words after `get`; none for all pods.
fn named(words: &[String]) -> Result<Option<PodId>> {
    let rest = match words {
        [first, rest @ ..] if first == "pods" || first == "pod" => rest,
        all => all,
    };
    match rest {
        [] => Ok(None),
        [pod] => parse_pod(pod).map(Some),
        [_, extra, ..] => Err(Failure::usage(format!("{extra:?} is one word too many: one pod, or all"))),
    }
}

pub(super) async fn get(session: &Session, get: &Get) -> Result<()> {
    match named(&get.what)? {
        Some(_) if get.filter.namespace.is_some() || get.filter.node.is_some() => {
            Err(Failure::usage("--namespace and --node choose among all pods; one pod is named already"))
        }
        Some(pod) => get_one(session, &pod).await,
        None => get_all(session, &get.filter).await,
    }
}

async fn get_one(session: &Session, id: &PodId) -> Result<()> {
    let mut client = session.client().await?;
    let call = client.get_pod(request(v1::GetPodRequest { pod: Some(id.into()) }));
    let pod = ask(&format!("get pod {id}"), call).await?;
    session.output.message(&pod, |style| table::pod(&pod, style))
}

async fn get_all(session: &Session, args: &FilterArgs) -> Result<()> {
    let mut client = session.client().await?;
    let mut pods = ask("list pods", client.list_pods(request(filter(args)))).await?.pods;
    pods.sort_by_key(|pod| table::identity(pod.pod.as_ref()));
    let width = match session.output.format {
        Format::Wide => Width::Wide,
        Format::Table | Format::Json => Width::Narrow,
    };
    session.output.list(&pods, |style| table::pods(&pods, width, style))
}

pub(super) async fn watch(session: &Session, watch: &Watch) -> Result<()> {
    let mut client = session.client().await?;
    let mut events = ask("watch pods", client.watch_pods(filter(&watch.filter))).await?;
    let failed = |status| Failure::from_status(&status, "watch pods");
    while let Some(event) = events.message().await.map_err(failed)? {
        session.output.event(&event, table::pod_event(&event))?;
    }
    Err(Failure::unreachable("Ended", "watch pods: the control plane ended the stream")
        .remedy("run it again"))
}

pub(super) async fn nodes(session: &Session, nodes: &Nodes) -> Result<()> {
    let mut client = session.client().await?;
    let Some(name) = &nodes.node else {
        let mut records = ask("list nodes", client.list_nodes(request(v1::ListNodesRequest {}))).await?.nodes;
        records.sort_by(|one, other| one.name.cmp(&other.name));
        return session.output.list(&records, |style| table::nodes(&records, now_ms(), style));
    };
    let call = client.get_node(request(v1::GetNodeRequest { node: name.to_string() }));
    let record = ask(&format!("get node {name}"), call).await?;
    session.output.message(&record, |style| table::node(&record, now_ms(), style))
}

pub(super) async fn pools(session: &Session, pools: &Pools) -> Result<()> {
    let mut client = session.client().await?;
    if pools.history {
        let message = v1::ListTenuresRequest { pod: pools.pod.as_ref().map(Into::into), pool: None };
        let tenures = ask("list tenures", client.list_tenures(request(message))).await?.tenures;
        return session.output.list(&tenures, |style| table::pool_history(&tenures, now_ms(), style));
    }
    let call = client.list_pools(request(v1::ListPoolsRequest { assignments: pools.assignments }));
    let response = ask("list pools", call).await?;
    session.output.message(&response, |style| table::pools(&response, style))
}

pub(super) async fn orders(session: &Session, orders: &Orders) -> Result<()> {
    let mut client = session.client().await?;
    let pod = orders.pod.as_ref().map(Into::into);
    let node = orders.node.as_ref().map(ToString::to_string);
    let records =
        ask("list orders", client.list_orders(request(v1::ListOrdersRequest { pod, node }))).await?;
    let records = records.orders;
    session.output.list(&records, |style| table::orders(&records, now_ms(), style))
}

pub(super) async fn events(session: &Session, asked: &Events) -> Result<()> {
    let mut client = session.client().await?;
    let call = client.watch_events(v1::WatchEventsRequest {
        namespace: asked.filter.namespace.clone(),
        pod: asked.pod.as_ref().map(Into::into),
        node: asked.filter.node.as_ref().map(ToString::to_string),
        follow: asked.follow,
    });
    let stream = ask("watch events", call).await?;
    match asked.follow {
        true => events::follow(session.output, stream).await,
        false => events::show(session.output, stream).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], expected: std::result::Result<Option<&str>, &str>) {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        match (named(&words), expected) {
            (Ok(pod), Ok(expected)) => assert_eq!(pod.map(|pod| pod.to_string()).as_deref(), expected),
            (Err(failure), Err(expected)) => assert!(failure.to_string().contains(expected), "{failure}"),
            (found, expected) => panic!("{words:?}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn words_after_get() {
        check(&[], Ok(None));
        check(&["pods"], Ok(None));
        check(&["shop/web"], Ok(Some("shop/web")));
        check(&["pods", "shop/web"], Ok(Some("shop/web")));
        check(&["nodes"], Err("\"nodes\" is not of the form namespace/name"));
        check(&["shop/web", "shop/db"], Err("one word too many"));
    }
}

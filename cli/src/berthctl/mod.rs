//! `berthctl`: what a person debugs one node by. Start with [`main`].

mod args;
mod doctor;
pub(crate) mod top;
mod why;

use crate::channel;
use crate::events;
use crate::failure::{Failure, Result};
use crate::output::{Output, now_ms, write_bytes};
use crate::program::{self, ask, request};
use crate::table;
use args::{Cli, Command, Doctor, Events, Leases, Logs, Top};
use berth_model::{OrderId, PodId};
use berth_proto::v1;
use clap::CommandFactory;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::Code;
use tonic::transport::Channel;
use top::{Look, Use};
use v1::finding::Level;
use v1::node_client::NodeClient;
use why::Why;

/// Largest answer: five hundred pods with all their controls.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// So long what was mended may take to be well, and how often it is looked at.
const MEND_TIME: Duration = Duration::from_secs(30);
const MEND_LOOK: Duration = Duration::from_secs(1);

/// Runs `berthctl` with these arguments, the program's name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    program::run(args, |cli: Cli| (cli.output, run(cli)))
}

async fn run(cli: Cli) -> Result<()> {
    if let Command::Generate(generate) = &cli.command {
        return generate.run(Cli::command());
    }
    let channel = channel::to_node(&cli.socket).await?;
    let client = NodeClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    let mut node = Node { client, output: Output::new(cli.output) };
    match cli.command {
        Command::Status => node.status().await,
        Command::Facts => node.facts().await,
        Command::Pods => node.pods().await,
        Command::Pod(one) => node.pod(&one.pod).await,
        Command::Why(one) => node.why(&one.pod).await,
        Command::Orders => node.orders().await,
        Command::Order(one) => node.order(&one.id).await,
        Command::Topology => node.topology().await,
        Command::Cgroup(cgroup) => node.cgroup(&cgroup.pod).await,
        Command::Top(top) => node.top(&top).await,
        Command::Leases(leases) => node.leases(&leases).await,
        Command::Disks => node.disks().await,
        Command::Images => node.images().await,
        Command::Logs(logs) => node.logs(&logs).await,
        Command::Events(events) => node.events(&events).await,
        Command::Doctor(asked) => node.doctor(&asked).await,
        Command::Generate(generate) => generate.run(Cli::command()),
    }
}

struct Node {
    client: NodeClient<Channel>,
    output: Output,
}

impl Node {
    async fn status(&mut self) -> Result<()> {
        let status = ask("get status", self.client.get_status(request(v1::GetStatusRequest {}))).await?;
        self.output.message(&status, |style| table::status(&status, now_ms(), style))
    }

    async fn facts(&mut self) -> Result<()> {
        let status = ask("get status", self.client.get_status(request(v1::GetStatusRequest {}))).await?;
        let facts = status.facts.ok_or_else(|| {
            Failure::refused("Unseen", "the host cannot be looked at")
                .remedy("berthctl doctor says what is wrong")
        })?;
        self.output.message(&facts, |style| table::node_facts(&facts, style))
    }

    async fn pods(&mut self) -> Result<()> {
        let pods = ask("list pods", self.client.list_pods(request(v1::ListLocalPodsRequest {}))).await?.pods;
        self.output.list(&pods, |style| table::local_pods(&pods, style))
    }

    async fn pod(&mut self, id: &PodId) -> Result<()> {
        let call = self.client.get_pod(request(v1::GetLocalPodRequest { pod: Some(id.into()) }));
        let pod = ask(&format!("get pod {id}"), call).await?;
        self.output.message(&pod, |style| table::local_pod(&pod, style))
    }

    async fn why(&mut self, id: &PodId) -> Result<()> {
        let call = self.client.get_pod(request(v1::GetLocalPodRequest { pod: Some(id.into()) }));
        let pod = ask(&format!("get pod {id}"), call).await?;
        let call = self.client.list_orders(request(v1::ListLocalOrdersRequest {}));
        let orders = ask("list orders", call).await?.orders;
        let question = v1::WatchLocalEventsRequest { pod: Some(id.into()), follow: false };
        let happened = events::all(ask("watch events", self.client.watch_events(question)).await?).await?;
        let findings = self.diagnose().await?;
        let why = Why::new(pod, orders, happened, findings);
        self.output.value(&why.to_json(), |style| why.text(style))
    }

    async fn orders(&mut self) -> Result<()> {
        let call = self.client.list_orders(request(v1::ListLocalOrdersRequest {}));
        let orders = ask("list orders", call).await?.orders;
        self.output.list(&orders, |style| table::local_orders(&orders, now_ms(), style))
    }

    async fn order(&mut self, id: &OrderId) -> Result<()> {
        let call = self.client.get_order(request(v1::GetLocalOrderRequest { id: id.to_string() }));
        let order = ask(&format!("get order {id}"), call).await?;
        self.output.message(&order, |style| table::local_order(&order, now_ms(), style))
    }

    async fn topology(&mut self) -> Result<()> {
        let topology =
            ask("get topology", self.client.get_topology(request(v1::GetTopologyRequest {}))).await?;
        self.output.message(&topology, |style| table::topology(&topology, style))
    }

    async fn cgroup(&mut self, id: &PodId) -> Result<()> {
        let call = self.client.get_cgroup(request(v1::GetCgroupRequest { pod: Some(id.into()) }));
        let response = ask(&format!("get cgroups of pod {id}"), call).await?;
        self.output.message(&response, |style| table::cgroup(&response, style))
    }

    async fn top(&mut self, top: &Top) -> Result<()> {
        let before = self.look().await?;
        let begun = Instant::now();
        sleep(Duration::from_secs(top.seconds)).await;
        let now = self.look().await?;
        let wanted = |row: &Use| row.container.is_some() == top.containers;
        let rows: Vec<_> = now.since(&before, begun.elapsed()).into_iter().filter(wanted).collect();
        self.output.value(&top::to_json(&rows), |style| table::top(&rows, style))
    }

    /// What every pod's cgroups say. A pod that goes meanwhile, or has not been looked at yet, is not told of.
    async fn look(&mut self) -> Result<Look> {
        let pods = ask("list pods", self.client.list_pods(request(v1::ListLocalPodsRequest {}))).await?.pods;
        let mut look = Look::default();
        for pod in pods.into_iter().filter_map(|pod| pod.status?.pod) {
            let name = table::identity(Some(&pod));
            let asked = self.client.get_cgroup(request(v1::GetCgroupRequest { pod: Some(pod) })).await;
            match asked {
                Ok(answer) => look.add(&name, answer.into_inner().cgroups),
                Err(status) if matches!(status.code(), Code::NotFound | Code::Unavailable) => {}
                Err(status) => {
                    return Err(Failure::from_status(&status, &format!("get cgroups of pod {name}")));
                }
            }
        }
        Ok(look)
    }

    async fn leases(&mut self, leases: &Leases) -> Result<()> {
        let question = v1::ListLeasesRequest { history: leases.history };
        let answer = ask("list leases", self.client.list_leases(request(question))).await?;
        if leases.history {
            return self
                .output
                .list(&answer.history, |style| table::tenures(&answer.history, now_ms(), style));
        }
        self.output.list(&answer.leases, |style| table::leases(&answer.leases, style))
    }

    async fn images(&mut self) -> Result<()> {
        let call = self.client.list_images(request(v1::ListImagesRequest {}));
        let images = ask("list images", call).await?.images;
        self.output.list(&images, |style| table::images(&images, style))
    }

    async fn disks(&mut self) -> Result<()> {
        let disks = ask("list disks", self.client.list_disks(request(v1::ListDisksRequest {}))).await?.disks;
        self.output.list(&disks, |style| table::disks(&disks, style))
    }

    async fn logs(&mut self, logs: &Logs) -> Result<()> {
        let what = format!("read logs of pod {}", logs.pod);
        let call = self.client.read_logs(v1::ReadLogsRequest {
            pod: Some((&logs.pod).into()),
            container: logs.container.as_ref().map(ToString::to_string).unwrap_or_default(),
            follow: logs.follow,
            tail_lines: logs.tail,
        });
        let mut chunks = ask(&what, call).await?;
        let failed = |status| Failure::from_status(&status, &what);
        while let Some(chunk) = chunks.message().await.map_err(failed)? {
            write_bytes(&chunk.data)?;
        }
        Ok(())
    }

    async fn events(&mut self, asked: &Events) -> Result<()> {
        let call = self.client.watch_events(v1::WatchLocalEventsRequest {
            pod: asked.pod.as_ref().map(Into::into),
            follow: asked.follow,
        });
        let stream = ask("watch events", call).await?;
        match asked.follow {
            true => events::follow(self.output, stream).await,
            false => events::show(self.output, stream).await,
        }
    }

    async fn diagnose(&mut self) -> Result<Vec<v1::Finding>> {
        let call = self.client.diagnose(request(v1::DiagnoseRequest {}));
        Ok(ask("diagnose", call).await?.findings)
    }

    async fn doctor(&mut self, asked: &Doctor) -> Result<()> {
        let mut findings = self.diagnose().await?;
        let chosen = doctor::chosen(&findings, &asked.fix)?;
        let checks: Vec<_> = chosen.iter().map(|finding| finding.check.clone()).collect();
        doctor::mend(&chosen)?;
        let deadline = Instant::now() + MEND_TIME;
        while !doctor::unmended(&findings, &checks).is_empty() && Instant::now() < deadline {
            sleep(MEND_LOOK).await;
            // Nobody answers while the daemon starts.
            findings = self.diagnose().await.unwrap_or(findings);
        }
        self.output.list(&findings, |style| table::findings(&findings, style))?;
        let unmended = doctor::unmended(&findings, &checks);
        if !unmended.is_empty() {
            let what = format!("still wrong after {} s: {}", MEND_TIME.as_secs(), unmended.join(", "));
            return Err(Failure::refused("NotMended", what).remedy("journalctl -u berthd -u containerd"));
        }
        let errors = findings.iter().filter(|finding| finding.level == i32::from(Level::Error)).count();
        match errors {
            0 => Ok(()),
            1 => Err(Failure::refused("Unhealthy", "one finding is an error")),
            many => Err(Failure::refused("Unhealthy", format!("{many} findings are errors"))),
        }
    }
}

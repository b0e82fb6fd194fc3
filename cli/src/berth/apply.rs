//! `berth apply`: a manifest, checked whole and then submitted document by document.

use super::Session;
use super::args::{Apply, WaitArgs};
use super::wait::{self, Goal};
use crate::failure::{Failure, Result};
use crate::json;
use crate::manifest::{self, EXAMPLE, MAX_BYTES, Manifest};
use crate::output::{self, Format};
use crate::program::{ask, request};
use crate::table::{self, Width};
use berth_model::{MAX_CONFIG_BYTES, PodId};
use berth_proto::v1;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use tonic::transport::Channel;
use v1::platform_client::PlatformClient;

pub(super) async fn apply(session: &Session, apply: &Apply) -> Result<()> {
    let path = match (&apply.file, apply.example) {
        (None, _) | (_, true) => return output::write(EXAMPLE),
        (Some(path), false) => path,
    };
    let manifests = read(path)?;
    if apply.check {
        let lines: Vec<_> = manifests.iter().map(|one| format!("{}: well-formed", one.title())).collect();
        return session.output.note(&lines.join("\n"));
    }
    let client = session.client().await?;
    let mut answers = Vec::new();
    let done = submit_and_wait(session, client, manifests, apply.wait, &mut answers).await;
    // What was done is told even where something failed after it.
    match session.output.format {
        Format::Json => output::line(&json::pretty(&answers.iter().map(Answer::to_json).collect()))?,
        Format::Table | Format::Wide => {}
    }
    done
}

async fn submit_and_wait(
    session: &Session,
    mut client: PlatformClient<Channel>,
    manifests: Vec<Manifest>,
    wait: WaitArgs,
    answers: &mut Vec<Answer>,
) -> Result<()> {
    for manifest in manifests {
        let answer = submit(&mut client, manifest).await?;
        session.output.note(&answer.title())?;
        answers.push(answer);
    }
    let pods: Vec<PodId> = answers.iter().filter_map(Answer::pod_id).collect();
    if !wait.wait || pods.is_empty() {
        return Ok(());
    }
    let ended = wait::until_all(client, pods, Goal::Running, wait.timeout).await?;
    answers.iter_mut().for_each(|answer| answer.update(&ended));
    session.output.note(&format!("\n{}", table::pods(&ended, Width::Narrow, session.output.style).trim_end()))
}

/// A file that becomes a configuration file.
///
/// # Errors
/// When it cannot be read, or is larger than all of a pod's configuration may be.
pub(super) fn read_config(path: &Path) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let most = MAX_CONFIG_BYTES as u64 + 1;
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut content))
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    match content.len() {
        0..=MAX_CONFIG_BYTES => Ok(content),
        _ => {
            let why = format!("{} is larger than {MAX_CONFIG_BYTES} bytes", path.display());
            Err(Failure::usage(why).remedy("what is larger belongs into the image, or on a data disk"))
        }
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<Manifest>> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let unreadable = |error: io::Error| Failure::usage(format!("cannot read {name}: {error}"));
    let mut text = String::new();
    // One byte more than is accepted, so that a file that is too large is seen to be.
    let most = MAX_BYTES as u64 + 1;
    match path == Path::new("-") {
        true => io::stdin().lock().take(most).read_to_string(&mut text),
        false => File::open(path).and_then(|file| file.take(most).read_to_string(&mut text)),
    }
    .map_err(unreadable)?;
    manifest::parse(&text).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(|error| format!("{name}:{error}")).collect();
        Failure::manifest(format!("nothing was sent:\n{}", lines.join("\n")))
            .remedy("berth apply --example prints a manifest with every field explained")
    })
}

/// What the control plane answered to one document.
enum Answer {
    Pod(Box<v1::Pod>),
    AddressPool(v1::AddressPool),
    Node(Box<v1::NodeRecord>, String),
}

async fn submit(client: &mut PlatformClient<Channel>, manifest: Manifest) -> Result<Answer> {
    let what = format!("apply {}", manifest.title());
    match manifest {
        Manifest::Pod(pod) => {
            let message = v1::SubmitPodRequest { pod: Some((&*pod).into()) };
            ask(&what, client.submit_pod(request(message))).await.map(|pod| Answer::Pod(Box::new(pod)))
        }
        Manifest::AddressPool(pool) => {
            ask(&what, client.put_pool(request(pool))).await.map(Answer::AddressPool)
        }
        Manifest::SharedCpus(shared) => {
            let pool = shared.pool.clone();
            let record = ask(&what, client.set_shared_cpus(request(shared))).await?;
            Ok(Answer::Node(Box::new(record), pool))
        }
    }
}

impl Answer {
    fn title(&self) -> String {
        match self {
            Self::Pod(pod) => {
                let node = pod.node.as_deref().map(|node| format!(" on {node}")).unwrap_or_default();
                let state = table::pod_state(pod.state);
                format!(
                    "pod {}: {state}{node}, incarnation {}",
                    table::identity(pod.pod.as_ref()),
                    pod.incarnation
                )
            }
            Self::AddressPool(pool) => {
                format!("address pool {}: {} of {} addresses assigned", pool.name, pool.assigned, pool.size)
            }
            Self::Node(record, pool) => {
                let set = record.shared_pools.iter().find(|shared| shared.pool == *pool);
                let cpus = set.map_or("", |set| &set.cpus);
                format!("shared CPUs {pool} on {}: {cpus}", record.name)
            }
        }
    }

    fn pod_id(&self) -> Option<PodId> {
        match self {
            Self::Pod(pod) => berth_proto::pod_from(pod.pod.clone()).ok(),
            Self::AddressPool(_) | Self::Node(..) => None,
        }
    }

    /// Puts in place of a pod what became of it while it was waited for.
    fn update(&mut self, ended: &[v1::Pod]) {
        match self {
            Self::Pod(pod) => {
                if let Some(later) = ended.iter().find(|later| later.pod == pod.pod) {
                    **pod = later.clone();
                }
            }
            Self::AddressPool(_) | Self::Node(..) => {}
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Pod(pod) => json!({ "kind": "Pod", "pod": json::to_json(pod.as_ref()) }),
            Self::AddressPool(pool) => {
                json!({ "kind": "AddressPool", "addressPool": json::to_json(pool) })
            }
            Self::Node(record, _) => {
                json!({ "kind": "SharedCpus", "node": json::to_json(record.as_ref()) })
            }
        }
    }
}

//! Readiness probes over the network: what they say is upstream, and nothing else comes of it.

use crate::{discard, fleet, idle_pod};
use berth_e2e::{Kernel, PodProcess};
use berth_lab::wait_until;
use std::time::Duration;

/// The fields of a pod's spec that these cases see.
pub(crate) const FIELDS: &[&str] = &[
    "containers.readiness.timeout_ms",
    "containers.readiness.http.port",
    "containers.readiness.http.path",
    "containers.readiness.tcp.port",
    "containers.readiness.grpc.port",
    "containers.readiness.grpc.service",
];

/// Until a change is upstream.
const REPORT_LIMIT: Duration = Duration::from_secs(60);

/// Waits until upstream has heard that the pod's container is ready, or why it is not.
fn await_readiness(pod: &str, ready: bool, why: &str) {
    let heard = wait_until(&format!("{pod} to be ready: {ready} {why}"), REPORT_LIMIT, || {
        let pod = fleet().pod(pod)?;
        let said = &pod["status"]["containers"][0]["readiness"];
        // JSON of protocol buffers leaves out what is false or empty.
        let (is_ready, words) =
            (said["ready"].as_bool() == Some(true), said["why"].as_str().unwrap_or_default());
        Ok((said.is_object() && is_ready == ready && words.contains(why)).then_some(()))
    });
    heard.expect("upstream hears of it");
}

fn run(name: &str, probe: &str) -> (Kernel, PodProcess) {
    let kernel = fleet().kernel(0);
    let probe = format!("readiness: {{{probe}, periodMs: 500, timeoutMs: 3000}}");
    fleet().apply(&idle_pod(name, "", &probe), &["--wait"]).expect("run the pod");
    let process = kernel.process(name).expect("find the container");
    (kernel, process)
}

/// Nothing was done about whatever the probe has said.
fn discard_untouched(kernel: &Kernel, name: &str, process: &PodProcess) {
    assert_eq!(kernel.process(name).expect("find the container again"), *process);
    discard(&format!("case/{name}"));
}

#[test]
fn http_and_whether_a_connection_is_taken() {
    let (kernel, process) = run("web", "http: {port: 8080, path: /ready}");
    await_readiness("case/web", false, "connect to");
    kernel
        .inside(&process, "mkdir /www && (httpd -p 8080 -h /www) && echo yes > /www/ready")
        .expect("serve something");
    await_readiness("case/web", true, "");
    kernel.inside(&process, "mv /www/ready /www/gone").expect("serve it no more");
    await_readiness("case/web", false, "status 404");
    kernel.inside(&process, "killall -STOP httpd").expect("answer no more");
    await_readiness("case/web", false, "no answer within 3000 ms");
    discard_untouched(&kernel, "web", &process);

    let (kernel, process) = run("port", "tcp: {port: 8080}");
    await_readiness("case/port", false, "connect to");
    kernel.inside(&process, "httpd -p 8080 -h /").expect("take connections");
    await_readiness("case/port", true, "");
    discard_untouched(&kernel, "port", &process);
}

/// The health service of containerd itself, passed on into the pod's network namespace.
fn serve_health(kernel: &Kernel, process: &PodProcess) {
    let script = format!(
        "systemd-run --collect --unit case-health nsenter --net=/proc/{}/ns/net systemd-socket-activate -l 9000 \
         /usr/lib/systemd/systemd-socket-proxyd /run/containerd/containerd.sock",
        process.pid
    );
    kernel.guest().run_ok(&script).expect("pass containerd's socket on");
}

#[test]
fn health_by_grpc() {
    let (kernel, process) = run("health", "grpc: {port: 9000}");
    await_readiness("case/health", false, "connect to");
    serve_health(&kernel, &process);
    await_readiness("case/health", true, "");
    kernel.guest().run_ok("systemctl stop case-health").expect("end the service");
    await_readiness("case/health", false, "connect to");
    discard_untouched(&kernel, "health", &process);

    let (kernel, process) = run("stranger", "grpc: {port: 9000, service: shop.Cart}");
    serve_health(&kernel, &process);
    await_readiness("case/stranger", false, "unknown service");
    kernel.guest().run_ok("systemctl stop case-health").expect("end the service");
    discard_untouched(&kernel, "stranger", &process);
}

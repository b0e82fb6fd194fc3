//! Good manifests and what they mean; bad ones and what is said about them.

use super::*;
use berth_model::{AppClass, Bytes, CpuRequest, MilliCpu, PodRequest, Ulimit, User};
use proptest::prelude::*;

const POD: &str = "kind: Pod\nmetadata: {namespace: shop, name: web}\nspec:\n";
const CONTAINERS: &str = "  containers:\n  - name: web\n    image: registry.example/web:1\n";

fn pod(text: &str) -> PodRequest {
    match parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors:?}")).remove(0) {
        Manifest::Pod(pod) => *pod,
        other @ (Manifest::AddressPool(_) | Manifest::SharedCpus(_)) => panic!("{other:?}"),
    }
}

/// What is said about a text, one line for each error.
fn said(text: &str) -> String {
    let errors = parse(text).err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn check(text: &str, expected: &str) {
    let said = said(text);
    assert!(
        said.starts_with(expected) && !expected.is_empty(),
        "{text}\nsaid:     {said}\nexpected: {expected}"
    );
}

/// A pod with this line in its spec (line 4), before its containers.
fn check_spec(line: &str, expected: &str) {
    check(&format!("{POD}  {line}\n{CONTAINERS}"), expected);
}

/// A pod with this line in its only container (line 7).
fn check_container(line: &str, expected: &str) {
    check(&format!("{POD}{CONTAINERS}    {line}\n"), expected);
}

#[test]
fn the_example_is_a_manifest() {
    let manifests = parse(EXAMPLE).unwrap();
    let titles: Vec<_> = manifests.iter().map(Manifest::title).collect();
    assert_eq!(titles, ["AddressPool blue", "SharedCpus default on node-1", "Pod shop/web"]);
    insta::assert_debug_snapshot!(manifests);
}

#[test]
fn what_is_left_out_has_defaults() {
    let pod = pod(&format!("{POD}{CONTAINERS}"));
    assert_eq!(pod.pod.to_string(), "shop/web");
    assert_eq!(pod.class, AppClass::Standard);
    assert_eq!(pod.cpu, CpuRequest::Shared { pool: "default".parse().unwrap(), request: MilliCpu(0) });
    assert_eq!(pod.stop_grace_ms, 30_000);
    assert_eq!(
        (pod.hostname, pod.address_pools, pod.node, pod.memory_request),
        (None, Vec::new(), None, None)
    );
    assert!(pod.containers[0].command.is_empty() && pod.containers[0].user.is_none());
}

#[test]
fn one_thing_said_in_two_ways() {
    let limits = |line: &str| pod(&format!("{POD}  limits: {{{line}}}\n{CONTAINERS}")).limits;
    assert_eq!(limits("cpus: 1500m").cpu_max, limits("cpuMax: 150ms/100ms").cpu_max);
    assert_eq!(limits("cpuShares: 1024").cpu_weight.unwrap().get(), 39);
    assert_eq!(limits("memory: {max: 1Gi}").memory.max, Some(Bytes(1 << 30)));
    let user = |line: &str| pod(&format!("{POD}{CONTAINERS}    user: {line}\n")).containers[0].user.clone();
    assert_eq!(user("redis"), Some(User::Name("redis".to_owned())));
    assert_eq!(user("{uid: 999}"), Some(User::Id { uid: 999, gid: None }));
    let cpu = |line: &str| pod(&format!("{POD}  cpu: {{{line}}}\n{CONTAINERS}")).cpu;
    assert_eq!(cpu("exclusive: 2"), CpuRequest::Exclusive { count: 2 });
    assert_eq!(cpu("request: 500m"), cpu("shared: default, request: 500m"));
    let exact = CpuRequest::Exact { cpus: "0-1".parse().unwrap(), mems: Some("0".parse().unwrap()) };
    assert_eq!(cpu("exact: '0-1', mems: 0"), exact);
    let ulimits = pod(&format!("{POD}{CONTAINERS}    ulimits: [{{name: core, soft: 1, hard: unlimited}}]\n"));
    assert_eq!(ulimits.containers[0].ulimits[0].hard, Ulimit::UNLIMITED);
}

#[test]
fn not_a_manifest() {
    check("", "holds no document");
    check("# nothing\n---\n", "holds no document");
    check("kind: Pod\nmetadata: {namespace: a", "2:11: metadata: unclosed bracket");
    check("just text", "1:1: must be a mapping");
    check("- kind: Pod\n", "1:1: must be a mapping");
    check("kind: Pod\nspec:\n\tx: 1\n", "3:2: tabs disallowed");
    check("metadata: {name: web}\n", "1:1: missing field `kind`");
    check(
        "kind: Deployment\n",
        "1:7: kind: unknown variant `Deployment`, expected one of Pod, AddressPool, SharedCpus",
    );
    check(&format!("{POD}{CONTAINERS}kind: Pod\n"), "7:1: kind is given twice");
    check(&"x".repeat(MAX_BYTES + 1), "has 4194305 bytes, at most 4194304 are read");
}

#[test]
fn shape() {
    check("kind: Pod\nmetadata: {namespace: a, name: b}\n", "2:1: missing field `spec`");
    check(&format!("kind: Pod\nspec:\n{CONTAINERS}"), "2:1: missing field `metadata`");
    check(&format!("apiVersion: v1\n{POD}{CONTAINERS}"), "1:1: apiVersion: unknown field `apiVersion`");
    check_spec(
        "memroy: {request: 1Gi}",
        "4:3: spec.memroy: unknown field `memroy`, expected one of hostname, class",
    );
    check_spec("memory: 1Gi", "4:11: spec.memory: must be a mapping");
    check_spec("memory: {requests: 1Gi}", "4:12: spec.memory.requests: unknown field `requests`");
    check_spec("dns: {servers: 10.0.0.2}", "4:18: spec.dns.servers: must be a list");
    check_spec("class: batch\n  class: batch", "5:3: spec: class is given twice");
    check_spec("class: Batch", "4:10: spec.class: unknown variant `Batch`, expected one of latency-critical");
    check_spec("restart: sometimes", "4:12: spec.restart: unknown variant `sometimes`");
    check_container("env: {A: b}", "7:10: spec.containers[0].env: must be a list");
    check_container("env: [{name: A}]", "7:12: spec.containers[0].env[0]: missing field `value`");
    check_container("limits: {cpu: 1}", "7:14: spec.containers[0].limits.cpu: unknown field `cpu`");
    let security = |line: &str| format!("security: {{{line}}}");
    let of = |at: &str, why: &str| format!("7:{at}: spec.containers[0].security.{why}");
    check_container(
        &security("seccomp: Some"),
        &of(
            "16",
            "seccomp: invalid value: string \"Some\", expected RuntimeDefault, Unconfined, or {localhost",
        ),
    );
    check_container(&security("seccomp: {path: a}"), &of("26", "seccomp.path: unknown field `path`"));
    check_container(
        &security("seccomp: {localhost: /a}"),
        &of("37", "seccomp.localhost: profile \"/a\" is no name"),
    );
    check_container(&security("privileged: true"), &of("16", "privileged: unknown field `privileged`"));
    check_container(
        &security("capabilities: {add: [net]}"),
        &of("37", "capabilities.add[0]: capability \"net\" is unknown"),
    );
    check_container(
        &security("capabilities: {add: [KILL], drop: [CAP_KILL]}"),
        "5:5: spec.containers[0]: security of container web: capability KILL is both added and dropped",
    );
    let signal = "7:29: spec.containers[0].lifecycle.stopSignal: signal \"Term\" is unknown";
    check_container("lifecycle: {stopSignal: Term}", signal);
    check_container(
        "lifecycle: {stopSignal: KILL}",
        "5:5: spec.containers[0]: lifecycle of container web: signal KILL cannot be caught",
    );
    check_container(
        "lifecycle: {preStop: ['']}",
        "5:5: spec.containers[0]: lifecycle of container web: the command before the stop names no program",
    );
    check_container("volumes: []", "7:5: spec.containers[0].volumes: unknown field `volumes`");
}

#[test]
fn configuration() {
    let folder = |files: &str| format!("config: [{{path: /etc/web, files: [{files}]}}]");
    let at = |place: &str, why: &str| format!("{place}: spec.containers[0].config[0].files[0]{why}");
    let file = |text: &str| folder(&format!("{{name: a, {text}}}"));
    check_container(&file("content: x, mode: '0644'"), &at("7:67", ".mode: mode 0644 of a file"));
    check_container(
        &file("content: x, mode: '0999'"),
        &at("7:67", ".mode: \"0999\" is no mode such as 0444"),
    );
    check_container(&file("base64: '!'"), &at("7:57", ".base64: no base64"));
    let both = ": file a: content and base64 exclude each other";
    check_container(&file("base64: YQ==, content: x"), &at("7:39", both));
    check_container(&folder("{name: a}"), &at("7:39", ": file a: neither content nor base64 is given"));
    let named = "5:5: spec.containers[0]: configuration of container web: file \"a/b\" of /etc/web is no name of a file";
    check_container(&folder("{name: a/b, content: x}"), named);
    let etc =
        "5:5: spec.containers[0]: configuration of container web: folder \"/etc\" is where the agent's own";
    check_container("config: [{path: /etc, files: []}]", etc);
}

#[test]
fn roles_and_probes() {
    check_container("role: Helper", "7:11: spec.containers[0].role: unknown variant `Helper`");
    let probe = |text: &str| format!("readiness: {{{text}}}");
    let one_of = "7:16: spec.containers[0].readiness: a probe has one of exec, http, tcp and grpc";
    check_container(&probe("periodMs: 100"), one_of);
    check_container(&probe("tcp: {port: 1}, grpc: {port: 1}"), one_of);
    check_container(
        &probe("tcp: {port: 65536}"),
        "7:29: spec.containers[0].readiness.tcp.port: 65536 is too large",
    );
    check_container(
        &probe("tcp: {port: 0}"),
        "5:5: spec.containers[0]: container web: readiness probe asks port 0",
    );
    check_container(
        &probe("http: {port: 80, path: ready}"),
        "5:5: spec.containers[0]: container web: readiness probe has a path that no request can carry",
    );
    check_container(
        "role: Init\n    readiness: {tcp: {port: 80}}",
        "5:5: spec.containers[0]: container web: an init container has no readiness probe",
    );
    check_container("role: Init", "5:5: spec.containers: no container has the role Main");
}

#[test]
fn names() {
    let metadata = |text: &str| format!("kind: Pod\nmetadata: {{{text}}}\nspec:\n{CONTAINERS}");
    check(&metadata("namespace: Shop, name: web"), "2:23: metadata.namespace: name \"Shop\" is no DNS label");
    check(&metadata("namespace: shop, name: we_b"), "2:35: metadata.name: name \"we_b\" is no DNS label");
    check(&metadata("namespace: shop, name: ''"), "2:35: metadata.name: name is empty");
    check(&metadata("namespace: shop"), "2:12: metadata: missing field `name`");
    check_spec("hostname: web.shop", "4:13: spec.hostname: name \"web.shop\" is no DNS label");
    check_spec("node: NODE-1", "4:9: spec.node: name \"NODE-1\" is no DNS label");
    check_spec("addressPool: -blue", "4:16: spec.addressPool: name \"-blue\" is no DNS label");
    check_spec("addressPools: [blue, -x]", "4:24: spec.addressPools[1]: name \"-x\" is no DNS label");
    check_spec("hostNetwork: yes please", "4:16: spec.hostNetwork:");
    check_spec(
        "hostNetwork: true\n  addressPool: blue",
        "4:3: spec: hostNetwork: a pod in its host's network has no",
    );
    check_spec(
        "hostNetwork: true\n  hostname: web",
        "4:3: spec: hostNetwork: a pod in its host's network has its",
    );
    check_spec("addressPools: []", "4:3: spec: addressPools is empty");
    check_spec(
        "addressPools: [a, b, c]",
        "4:3: spec: addressPools: a pod has at most one address of each family",
    );
    check_spec(
        "addressPool: blue\n  addressPools: [blue6]",
        "4:3: spec: addressPool and addressPools exclude each other",
    );
    check_spec(&format!("node: {}", "n".repeat(64)), "4:9: spec.node: name \"nnn");
    check_spec("nodeLabels: {'': r1}", "4:3: spec: nodeLabels holds an empty name");
    let two = format!("{POD}{CONTAINERS}  - name: web\n    image: registry.example/db:1\n");
    check(&two, "5:5: spec.containers: container name web is given twice");
    check(&format!("{POD}  containers: []\n"), "4:15: spec.containers: a pod has at least one container");
    check(
        &format!("{POD}  containers:\n  - {{name: Web, image: a.b/c:1}}\n"),
        "5:12: spec.containers[0].name: name \"Web\"",
    );
}

#[test]
fn quantities() {
    check_spec("memory: {request: -1}", "4:21: spec.memory.request: quantity \"-1\" is negative");
    check_spec(
        "memory: {request: 1.5Gi}",
        "4:21: spec.memory.request: quantity \"1.5Gi\" is no whole number",
    );
    check_spec(
        "memory: {request: 512MB}",
        "4:21: spec.memory.request: quantity \"512MB\" is no whole number",
    );
    check_spec(
        "memory: {request: 99999999Ti}",
        "4:21: spec.memory.request: quantity \"99999999Ti\" is too large",
    );
    check_spec("priority: -1", "4:13: spec.priority: -1 is negative");
    check_spec("priority: 4294967296", "4:13: spec.priority: 4294967296 is too large");
    check_spec("priority: high", "4:13: spec.priority: \"high\" is no whole number");
    check_spec("stopGrace: 30", "4:14: spec.stopGrace: \"30\" has no unit");
    check_spec("stopGrace: 30d", "4:14: spec.stopGrace: \"d\" in \"30d\" is no unit of time");
    check_spec("stopGrace: -30s", "4:14: spec.stopGrace: -30 is negative");
    check_spec("stopGrace: 1us", "4:14: spec.stopGrace: \"1us\" is no whole number of milliseconds");
    check_spec("stopGrace: 99999999999999999h", "4:14: spec.stopGrace: 99999999999999999h is too large");
    check_spec("cpu: {request: -500m}", "4:18: spec.cpu.request: quantity \"-500m\" is negative");
    check_spec("cpu: {request: 5000000}", "4:18: spec.cpu.request: quantity \"5000000\" is too large");
}

#[test]
fn cpus() {
    check_spec("cpu: {exclusive: 0}", "4:8: spec.cpu: exclusive is 0");
    check_spec("cpu: {exclusive: -2}", "4:20: spec.cpu.exclusive: -2 is negative");
    check_spec("cpu: {exclusive: 1, shared: default}", "4:8: spec.cpu: exclusive, exact and shared exclude");
    check_spec("cpu: {exclusive: 1, request: 1}", "4:8: spec.cpu: request goes with shared only");
    check_spec("cpu: {exclusive: 1, mems: 0}", "4:8: spec.cpu: mems goes with exact only");
    check_spec("cpu: {exact: ''}", "4:16: spec.cpu.exact: names no CPU");
    check_spec(
        "cpu: {exact: 3-1}",
        "4:16: spec.cpu.exact: range \"3-1\" in list \"3-1\" ends before it begins",
    );
    check_spec(
        "cpu: {exact: 0-99999}",
        "4:16: spec.cpu.exact: 99999 in list \"0-99999\" is above the highest",
    );
    check_spec("cpu: {exact: all}", "4:16: spec.cpu.exact: \"all\" in list");
    check_container("exclusiveCpus: 0", "5:5: spec.containers[0]: exclusiveCpus is 0");
    check_container(
        "exclusiveCpus: 1",
        "4:3: spec: a container has exclusiveCpus, but cpu asks for shared ones",
    );
    let over = format!("{POD}  cpu: {{exclusive: 1}}\n{CONTAINERS}    exclusiveCpus: 2\n");
    check(&over, "4:3: spec: the containers' exclusiveCpus add up to 2, cpu asks for 1");
}

#[test]
fn limits() {
    let limits = |line: &str, expected: &str| check_spec(&format!("limits: {{{line}}}"), expected);
    limits("cpuWeight: 0", "4:23: spec.limits.cpuWeight: cpu weight 0 is outside 1 to 10000");
    limits("cpuWeight: 10001", "4:23: spec.limits.cpuWeight: cpu weight 10001 is outside");
    limits("cpuShares: 1", "4:23: spec.limits.cpuShares: cpu shares 1 are outside 2 to 262144");
    limits("cpuShares: 2, cpuWeight: 1", "4:11: spec.limits: cpuWeight and cpuShares say the same thing");
    limits("cpus: 1, cpuMax: 1ms/1ms", "4:11: spec.limits: cpuMax and cpus say the same thing");
    limits("cpuMax: 50ms", "4:20: spec.limits.cpuMax: \"50ms\" is not of the form quota/period");
    limits("cpuMax: 50/100", "4:20: spec.limits.cpuMax: \"50\" has no unit");
    limits(
        "cpuMax: 1us/100ms",
        "4:11: spec.limits: cpu quota 1 us in 100000 us: quota and period are at least",
    );
    limits("cpus: 0", "4:11: spec.limits: cpu quota 0 us");
    limits("memory: {max: 0}", "4:11: spec.limits: memory.max is 0: nothing could run");
    limits(
        "memory: {low: 2Gi, max: 1Gi}",
        "4:11: spec.limits: memory.low is 2Gi and above memory.max, which is 1Gi",
    );
    limits("memory: {maximum: 1Gi}", "4:21: spec.limits.memory.maximum: unknown field");
    limits("swapMax: -1", "4:21: spec.limits.swapMax: quantity \"-1\" is negative");
    limits("pidsMax: 0", "4:11: spec.limits: pids.max is 0");
    limits("pidsMax: 99999999999999999999", "4:21: spec.limits.pidsMax: 99999999999999999999 is too large");
    limits("io: [{weight: 1}]", "4:18: spec.limits.io[0]: missing field `mountPoint`");
    limits(
        "io: [{mountPoint: data, weight: 1}]",
        "4:11: spec.limits: io mount point \"data\" is no absolute path",
    );
    limits("io: [{mountPoint: /, weight: 0}]", "4:41: spec.limits.io[0].weight: io weight 0 is outside");
    limits("io: [{mountPoint: /, readBytesPerSec: 0}]", "4:11: spec.limits: a rate in io.max is 0");
    limits("io: [{mountPoint: /}, {mountPoint: /}]", "4:11: spec.limits: / is limited twice");
    limits("hugetlb: [{pageSize: 3, max: 3}]", "4:11: spec.limits: huge page size 3 is no power of two");
    limits("hugetlb: [{pageSize: 2Mi, max: 3Mi}]", "4:11: spec.limits: hugetlb limit 3Mi is not a multiple");
}

#[test]
fn dns() {
    check_spec("dns: {servers: [localhost]}", "4:19: spec.dns.servers[0]: \"localhost\" is no IP address");
    check_spec("dns: {servers: [10.0.0.1, 10.0.0.2, 10.0.0.3, '::1']}", "4:8: spec.dns: dns: 4 servers");
    check_spec("dns: {searches: ['a b']}", "4:8: spec.dns: dns: \"a b\" is no printable word");
}

#[test]
fn containers() {
    check(&format!("{POD}  containers:\n  - name: web\n"), "5:5: spec.containers[0]: missing field `image`");
    let image = |image: &str| format!("{POD}  containers:\n  - name: web\n    image: {image}\n");
    check(&image("redis"), "6:12: spec.containers[0].image: image \"redis\" is not of the form");
    check(&image("a.example/redis@sha256:12"), "6:12: spec.containers[0].image: digest \"sha256:12\"");
    check_container(
        "digest: sha256:12",
        "7:13: spec.containers[0].digest: digest \"sha256:12\" is not sha256:",
    );
    let pinned = format!("a.example/web@sha256:{}\n    digest: sha256:{}", "a".repeat(64), "b".repeat(64));
    check(&image(&pinned), "5:5: spec.containers[0]: container web: image a.example/web@");
    check_container(
        "env: [{name: A=B, value: c}]",
        "5:5: spec.containers[0]: container web: environment variable",
    );
    check_container("args: [\"a\\0b\"]", "5:5: spec.containers[0]: container web: argument holds a NUL byte");
    check_container("workingDir: srv", "5:5: spec.containers[0]: container web: working directory \"srv\"");
    check_container("user: {uid: -1}", "7:17: spec.containers[0].user.uid: -1 is negative");
    check_container("user: {gid: 1}", "7:12: spec.containers[0].user: missing field `uid`");
    check_container("user: {uid: 1, group: 1}", "7:20: spec.containers[0].user.group: unknown field `group`");
    check_container("user: 999", "7:11: spec.containers[0].user: user 999 is a number: write {uid: 999}");
    check_container("user: '999:999'", "7:11: spec.containers[0].user: user \"999:999\" is no user's name");
    check_container("limits: {pidsMax: 0}", "7:13: spec.containers[0].limits: pids.max is 0");
}

#[test]
fn ulimits() {
    let ulimits = |line: &str, expected: &str| check_container(&format!("ulimits: [{line}]"), expected);
    ulimits(
        "{name: files, soft: 1}",
        "7:22: spec.containers[0].ulimits[0].name: ulimit \"files\" is unknown",
    );
    ulimits("{name: nofile}", "7:16: spec.containers[0].ulimits[0]: missing field `soft`");
    ulimits(
        "{name: nofile, soft: 2, hard: 1}",
        "7:14: spec.containers[0].ulimits: ulimit nofile: soft 2 is above",
    );
    ulimits(
        "{name: core, soft: 1}, {name: core, soft: 1}",
        "7:14: spec.containers[0].ulimits: ulimit core is given",
    );
    ulimits(
        "{name: core, soft: -1}",
        "7:34: spec.containers[0].ulimits[0].soft: -1 is negative; a ulimit is",
    );
}

#[test]
fn pools() {
    let pool = |spec: &str| format!("kind: AddressPool\nmetadata: {{name: blue}}\nspec: {{{spec}}}\n");
    check(&pool("network: 10.0.0.0"), "3:17: spec.network: \"10.0.0.0\" is no address with a prefix length");
    check(&pool("network: 10.0.0.0/33"), "3:17: spec.network: prefix length");
    check(
        &pool("network: 10.0.0.0/24, first: 10.0.1.1"),
        "3:7: spec: first 10.0.1.1 is not in network 10.0.0.0/24",
    );
    check(
        &pool("network: 10.0.0.0/24, first: 10.0.0.9, last: 10.0.0.8"),
        "3:7: spec: first 10.0.0.9 comes after",
    );
    check(&pool("network: 10.0.0.0/24, gateway: '::1'"), "3:7: spec: gateway ::1 is not in network");
    check(&pool("network: 10.0.0.0/24, size: 3"), "3:30: spec.size: unknown field `size`");
    let shared = |spec: &str| format!("kind: SharedCpus\nmetadata: {{name: default}}\nspec: {{{spec}}}\n");
    check(&shared("node: n1"), "3:8: spec: missing field `cpus`");
    check(&shared("node: n1, cpus: ''"), "3:24: spec.cpus: names no CPU");
    check(&shared("node: n1, cpus: -1"), "3:24: spec.cpus: \"-1\" in list \"-1\"");
}

#[test]
fn every_document_is_checked_and_lines_count_from_the_top() {
    let good = format!("{POD}{CONTAINERS}");
    let bad = "kind: AddressPool\nmetadata: {name: Blue}\nspec: {network: 10.0.0.0/24}\n";
    let said = said(&format!("{bad}---\n{good}---\n{bad}"));
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].starts_with("2:18: metadata.name: name \"Blue\""), "{said}");
    assert!(lines[1].starts_with("13:18: metadata.name: name \"Blue\""), "{said}");
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text =
        "kind: Pod\nmetadata: {namespace: shop, name: web}\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            .to_owned();
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", ")));
    }
    assert!(!said(&text).is_empty());
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn a_damaged_example_is_read_or_refused(
        line in 0..EXAMPLE.lines().count(),
        column in 0_usize..40,
        damage in "[-a-z0-9:{}\\[\\]#&*!|>'\"%@ \n\t]{0,5}",
    ) {
        let damaged: Vec<String> = EXAMPLE.lines().enumerate().map(|(number, text)| {
            let mut text = text.to_owned();
            if number == line {
                let at = text.char_indices().map(|(at, _)| at).nth(column).unwrap_or(text.len());
                text.insert_str(at, &damage);
            }
            text
        }).collect();
        match parse(&damaged.join("\n")) {
            Ok(manifests) => prop_assert!(!manifests.is_empty()),
            Err(errors) => prop_assert!(errors.iter().all(|error| error.line().is_some())),
        }
    }
}

#[test]
fn disks() {
    check_spec("disks: [{name: Data}]", "4:18: spec.disks[0].name: name \"Data\" is no DNS label");
    check_spec(
        "disks: [{name: data, size: 1Gi, device: {id: /dev/disk/by-id/a}}]",
        "4:11: spec.disks[0]: size goes with",
    );
    check_spec(
        "disks: [{name: data, size: 1Gi, memory: 1Gi}]",
        "4:11: spec.disks[0]: size goes with a directory only: memory says",
    );
    check_spec(
        "disks: [{name: data, memory: 1Gi, device: {id: /dev/disk/by-id/a}}]",
        "4:11: spec.disks[0]: device and memory exclude each other",
    );
    check_spec(
        "disks: [{name: data, scratch: true, movable: true}]",
        "4:11: spec.disks[0]: movable does not go with scratch",
    );
    check_spec(
        "disks: [{name: data, device: {id: /dev/sdb}}]",
        "4:37: spec.disks[0].device.id: device \"/dev/sdb\" is not named by",
    );
    check_container(
        "mounts: [{disk: data, path: /data}]",
        "4:3: spec: container web mounts data disk data, which the pod does not have",
    );
    check_container("systemDisk: {size: 0}", "4:3: spec: the system disk of container web has a size of 0");
    let text = "disks: [{name: raw, device: {id: /dev/disk/by-id/a}}]";
    check_spec(text, "4:3: spec: data disk on device /dev/disk/by-id/a: the request must name the node");
}

//! What goes over a node's link, both ways.

use super::Seed;
use super::fleet::{fleet, hello, node, requests, said};
use berth_model::{
    Disk, DiskFetch, DiskOffer, DiskPolicy, EvictDisposition, Generation, Incarnation, NodeOrder, NodeVerb,
    Order, OrderId, PodOrder, PodPhase, PodSpec, PodStatus, PodVerb, Seq, Target, Term,
};
use berth_proto::v1::control_message::Message as Down;
use berth_proto::v1::node_message::Message as Up;
use berth_proto::{Addressed, v1};
use prost::Message;

/// What the control plane orders for the pods of the fleet: the pool, and a Run for each.
pub(super) fn ordered() -> Vec<v1::Order> {
    let mut control = fleet();
    let greeted = control.hear(hello());
    let submitted = requests().into_iter().try_for_each(|request| control.submit(request));
    if let Err(why) = greeted.and(submitted) {
        panic!("the seeds' pods are not ordered: {why}");
    }
    // A pod's Run waits for its CPUs until the node has shrunk the pool.
    let mut ordered = control.open_orders();
    while let Some(order) = ordered.iter().find(|order| is_open(&control, &order.id)).cloned() {
        let outcome = v1::outcome::Outcome::Done(v1::outcome::Done {});
        let update =
            v1::OrderUpdate { order_id: order.id, outcome: Some(v1::Outcome { outcome: Some(outcome) }) };
        if let Err(why) = control.hear(said(Up::Update(update))) {
            panic!("the seeds' outcome is not taken: {why}");
        }
        let fresh = control.open_orders();
        ordered.extend(
            fresh
                .into_iter()
                .filter(|order| !ordered.iter().any(|known| known.id == order.id))
                .collect::<Vec<_>>(),
        );
    }
    ordered
}

fn is_open(control: &berth_control::Rehearsal, id: &str) -> bool {
    control.open_orders().iter().any(|order| order.id == id)
}

/// The spec of the first pod, as it is ordered.
pub(super) fn spec() -> Box<PodSpec> {
    let run = ordered().into_iter().find_map(|wire| match Addressed::try_from(wire).ok()?.order.target {
        Target::Pod(PodOrder { verb: PodVerb::Run { spec, .. }, .. }) if spec.containers.len() == 2 => {
            Some(spec)
        }
        Target::Pod(_) | Target::Node(_) => None,
    });
    run.expect("the seeds' first pod is run")
}

/// Each kind of order alone, and lives of several.
pub(super) fn orders() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = verbs()
        .into_iter()
        .enumerate()
        .map(|(number, (name, target))| {
            Seed::new("orders", name, stream(&[order(number as u64 + 1, target)]))
        })
        .collect();
    let life: Vec<_> =
        life().into_iter().enumerate().map(|(number, target)| order(number as u64 + 50, target)).collect();
    seeds.push(Seed::new("orders", "a-life", stream(&life)));
    let twice = [life[0].clone(), life[1].clone(), life[1].clone()];
    seeds.push(Seed::new("orders", "the-same-again", stream(&twice)));
    seeds.push(Seed::new("orders", "of-the-fleet", stream(&ordered())));
    seeds.push(Seed::new("orders", "other-messages", others()));
    seeds
}

fn verbs() -> Vec<(&'static str, Target)> {
    let evict = |disposition| PodVerb::Evict { grace_ms: 9, disposition };
    let pods = [
        ("run", run()),
        ("run-kept", PodVerb::Run { spec: spec(), disk: Disk::Kept { incarnation: Incarnation(4) } }),
        ("stop", PodVerb::Stop { grace_ms: 1 }),
        ("start", PodVerb::Start),
        ("evict-keep", evict(EvictDisposition::Keep)),
        ("evict-release", evict(EvictDisposition::Release)),
        ("release", PodVerb::Release),
        ("restart", PodVerb::Restart { disk: DiskPolicy::Rebuild, grace_ms: 3 }),
        ("upgrade", PodVerb::Upgrade { spec: spec(), settle_ms: 4 }),
        ("resize", PodVerb::Resize { spec: spec() }),
    ];
    let nodes = [
        ("pool", set_pool()),
        ("pull", NodeVerb::PullImage { image: parsed("registry.example/web:1"), digest: None }),
        ("inspect", NodeVerb::Inspect),
        ("offer", NodeVerb::OfferDisks(offer())),
        ("withdraw", NodeVerb::WithdrawDisks { pod: parsed("shop/web") }),
        ("fetch", NodeVerb::FetchDisk(Box::new(fetch()))),
    ];
    let pods = pods.into_iter().map(|(name, verb)| (name, pod(1, 1, verb)));
    pods.chain(nodes.into_iter().map(|(name, verb)| (name, Target::Node(NodeOrder { verb })))).collect()
}

/// A pod's life on one node, and what follows upon it.
fn life() -> Vec<Target> {
    let mut larger = spec();
    larger.limits.pids_max = Some(300);
    let mut newer = spec();
    newer.containers[0].args.push("--verbose".to_owned());
    let evict = PodVerb::Evict { grace_ms: 9, disposition: EvictDisposition::Keep };
    vec![
        Target::Node(NodeOrder { verb: set_pool() }),
        pod(1, 1, run()),
        pod(2, 1, PodVerb::Restart { disk: DiskPolicy::Reuse, grace_ms: 3 }),
        pod(3, 2, PodVerb::Resize { spec: larger }),
        pod(4, 3, PodVerb::Upgrade { spec: newer, settle_ms: 4 }),
        pod(5, 3, PodVerb::Stop { grace_ms: 1 }),
        pod(6, 3, PodVerb::Start),
        pod(7, 3, evict),
        Target::Node(NodeOrder { verb: NodeVerb::OfferDisks(offer()) }),
        pod(8, 3, PodVerb::Release),
    ]
}

fn run() -> PodVerb {
    PodVerb::Run { spec: spec(), disk: Disk::Fresh }
}

fn set_pool() -> NodeVerb {
    NodeVerb::SetSharedCpus {
        pool: parsed("default"),
        cpus: parsed("0"),
        mems: parsed("0-1"),
        generation: Generation(8),
    }
}

fn offer() -> DiskOffer {
    DiskOffer {
        pod: parsed("shop/web"),
        incarnation: Incarnation(1),
        disks: [parsed("data")].into(),
        to: parsed("node-2"),
    }
}

fn fetch() -> DiskFetch {
    DiskFetch {
        pod: parsed("shop/job"),
        incarnation: Incarnation(4),
        disk: parsed("data"),
        size: Some(berth_model::Bytes(1 << 20)),
        from: parsed("node-2"),
        at: vec![parsed("10.0.0.7:7445"), parsed("[2001:db8::7]:7445")],
    }
}

fn pod(seq: u64, generation: u64, verb: PodVerb) -> Target {
    Target::Pod(PodOrder {
        pod: parsed("shop/web"),
        incarnation: Incarnation(1),
        generation: Generation(generation),
        seq: Seq(seq),
        verb,
    })
}

pub(super) fn addressed(number: u64, target: Target) -> Addressed {
    let order = Order {
        id: order_id(number),
        term: Term(1),
        reason: "because".to_owned(),
        deadline_ms: 60_000,
        target,
    };
    Addressed { node: node(), order }
}

pub(super) fn order_id(number: u64) -> OrderId {
    parsed(&format!("01ARZ3NDEKTSV4RRFFQ6{number:06}"))
}

/// The pool and the pod's Run, as they are accepted.
pub(super) fn beginning() -> [Addressed; 2] {
    let mut life = life().into_iter();
    [1, 2].map(|number| addressed(number, life.next().expect("a life has two orders")))
}

fn order(number: u64, target: Target) -> v1::Order {
    v1::Order::from(&addressed(number, target))
}

fn stream(orders: &[v1::Order]) -> Vec<u8> {
    let message = |order: &v1::Order| v1::ControlMessage { message: Some(Down::Order(order.clone())) };
    orders.iter().flat_map(|order| message(order).encode_length_delimited_to_vec()).collect()
}

fn others() -> Vec<u8> {
    let welcome = v1::Welcome { term: 1, heartbeat_ms: 10_000, lease_ms: 40_000, events: true };
    let seen = v1::OutcomesSeen { order_ids: vec![order_id(1).to_string()] };
    let events_seen = v1::EventsSeen { last: 1 };
    [Down::Welcome(welcome), Down::OutcomesSeen(seen), Down::EventsSeen(events_seen)]
        .into_iter()
        .flat_map(|message| v1::ControlMessage { message: Some(message) }.encode_length_delimited_to_vec())
        .collect()
}

/// A Hello alone, and each kind of message after it.
pub(super) fn node_messages() -> Vec<Seed> {
    let after_hello = |messages: &[Up]| {
        let messages = messages.iter().cloned().map(said);
        std::iter::once(hello())
            .chain(messages)
            .flat_map(|message| message.encode_length_delimited_to_vec())
            .collect::<Vec<u8>>()
    };
    let seed = |name: &str, messages: &[Up]| Seed::new("node_messages", name, after_hello(messages));
    let answers: Vec<Up> =
        ordered().into_iter().flat_map(|order| [accepted(&order.id), done(&order.id)]).collect();
    let mut smaller = super::fleet::facts();
    smaller.reserved_cpus = "0-1".to_owned();
    let gone = v1::PodGone { pod: Some((&parsed::<berth_model::PodId>("shop/web")).into()), incarnation: 1 };
    let event = v1::Event {
        at_ms: 1,
        pod: gone.pod.clone(),
        container: Some("web".to_owned()),
        code: "ContainerReady".to_owned(),
        ..v1::Event::default()
    };
    let events = v1::EventBatch { last: 1, events: vec![event], lost: 0, agent_started_at_ms: 1 };
    vec![
        seed("hello", &[]),
        seed("heartbeat", &[Up::Heartbeat(v1::Heartbeat {})]),
        seed("answers", &answers),
        seed("refused", &[refused(&ordered()[0].id)]),
        seed("status", &[Up::PodStatus((&status()).into())]),
        seed("facts", &[Up::Facts(smaller)]),
        seed("gone", &[answers.clone(), vec![Up::PodGone(gone)]].concat()),
        seed("events", &[Up::Events(events)]),
        seed("hello-again", &[answers, hello().message.into_iter().collect()].concat()),
    ]
}

fn accepted(id: &str) -> Up {
    let answer = v1::order_ack::Answer::Accepted(v1::order_ack::Accepted {});
    Up::Ack(v1::OrderAck { order_id: id.to_owned(), answer: Some(answer) })
}

fn refused(id: &str) -> Up {
    let reason = v1::Reason { code: "Invalid".to_owned(), message: "no".to_owned(), ..v1::Reason::default() };
    Up::Ack(v1::OrderAck { order_id: id.to_owned(), answer: Some(v1::order_ack::Answer::Refused(reason)) })
}

fn done(id: &str) -> Up {
    let outcome = v1::Outcome { outcome: Some(v1::outcome::Outcome::Done(v1::outcome::Done {})) };
    Up::Update(v1::OrderUpdate { order_id: id.to_owned(), outcome: Some(outcome) })
}

fn status() -> PodStatus {
    use berth_model::{
        Applied, Attempt, ContainerPhase, ContainerStatus, Control, ControlValue, ProbeAnswer,
    };
    let control = Control {
        file: "pids.max".to_owned(),
        ordered: "200".to_owned(),
        read: ControlValue::Text("200".to_owned()),
    };
    let container = ContainerStatus {
        name: parsed("web"),
        id: Some("abc".to_owned()),
        attempt: Attempt(1),
        image_digest: None,
        phase: ContainerPhase::Running { started_at_ns: 5, pid: 6 },
        applied: Some(Applied { cgroup: "berth.slice".to_owned(), controls: vec![control] }),
        readiness: Some(ProbeAnswer::NotReady("status 503".to_owned())),
    };
    PodStatus {
        pod: parsed("shop/web"),
        incarnation: Incarnation(1),
        generation: Generation(1),
        phase: PodPhase::Running,
        message: String::new(),
        sandbox_id: Some("s".to_owned()),
        addresses: spec().addresses,
        containers: vec![container],
        applied: None,
        open_order: Some(order_id(2)),
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a seed's text makes sense")
}

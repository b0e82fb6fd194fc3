//! Init containers and sidecars: who starts before whom, who ends after whom, told by what each has written down.

use crate::{discard, fleet};
use berth_e2e::{Kernel, image};

/// The fields of a pod's spec that these cases see.
pub(crate) const FIELDS: &[&str] = &["containers.role"];

/// `main` is served by `proxy`, and `prepare` works before both of them; each writes into a common journal what happens
/// to it. The proxy says that it is ready two seconds after it has begun.
fn pod(name: &str, restart: &str, prepare: &str) -> String {
    let image = image("busybox");
    let mount = "mounts: [{disk: journal, path: /journal}]";
    let idle = |who: &str, begin: &str| {
        format!(
            "echo {who} begins >> /journal/all; trap 'echo {who} ends >> /journal/all; exit 0' TERM; {begin} \
             while :; do sleep 1; done"
        )
    };
    let (proxy, main) = (idle("proxy", "sleep 2; touch /ready;"), idle("main", ""));
    format!(
        "kind: Pod\nmetadata: {{namespace: case, name: {name}}}\nspec:\n  addressPool: pods\n  stopGrace: 5s\n\
         \x20 restart: {restart}\n  disks: [{{name: journal}}]\n  containers:\n\
         \x20 - name: main\n    image: {image}\n    command: [sh, -c, \"{main}\"]\n    {mount}\n\
         \x20   env: [{{name: CASE, value: {name}}}]\n\
         \x20 - name: prepare\n    role: Init\n    image: {image}\n    command: [sh, -c, \"{prepare}\"]\n    {mount}\n\
         \x20 - name: proxy\n    role: Sidecar\n    image: {image}\n    command: [sh, -c, \"{proxy}\"]\n    {mount}\n\
         \x20   readiness: {{exec: [test, -e, /ready], periodMs: 500}}\n"
    )
}

const PREPARE: &str = "echo prepare begins >> /journal/all; sleep 2; echo prepare ends >> /journal/all";

/// What has been written down since the last time.
fn journal(kernel: &Kernel, name: &str) -> Vec<String> {
    let process = kernel.process(name).expect("find the container");
    let read = kernel.inside(&process, "cat /journal/all; : > /journal/all").expect("read the journal");
    read.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn what_prepares_and_serves_comes_first_and_what_serves_goes_last() {
    let kernel = fleet().kernel(0);
    fleet().apply(&pod("staged", "Always", PREPARE), &["--wait"]).expect("run the pod");
    let begun = ["prepare begins", "prepare ends", "proxy begins", "main begins"];
    assert_eq!(journal(&kernel, "staged"), begun);
    let said = fleet().pod("case/staged").expect("look at the pod");
    assert_eq!(
        (&said["status"]["phase"], &said["status"]["message"]),
        (&"Running".into(), &"".into()),
        "{said}"
    );

    // What works is replaced, what prepared is not asked again.
    fleet().berth_ok(&["restart", "case/staged", "--wait"]).expect("restart the pod");
    assert_eq!(journal(&kernel, "staged"), ["proxy ends", "proxy begins", "main ends", "main begins"]);

    fleet().berth_ok(&["stop", "case/staged", "--wait"]).expect("stop the pod");
    fleet().berth_ok(&["start", "case/staged", "--wait"]).expect("start the pod");
    let expected: Vec<_> = ["main ends", "proxy ends"].into_iter().chain(begun).collect();
    assert_eq!(journal(&kernel, "staged"), expected);
    discard("case/staged");
}

#[test]
fn what_was_not_prepared_is_not_started() {
    let manifest = pod("unprepared", "Never", "exit 3");
    let run = fleet().try_apply(&manifest, &["--wait"]).expect("submit the pod");
    assert!(!run.success() && run.stderr.contains("prepare") && run.stderr.contains("code 3"), "{run:?}");
    assert!(!fleet().kernel(0).has_process("unprepared").expect("look for it"));
    discard("case/unprepared");
}

//! Logs are kept within their limits while a container writes, and nothing of what is kept is missing.

use crate::{discard, fleet, idle_pod};
use std::time::Duration;

/// Writes numbered lines, about thirty KiB a second, and says when it is through.
const CHATTY: &str = "command: [sh, -c, \"i=0; while [ $i -lt 9000 ]; do i=$((i+1)); \
     echo line $i of many that say nothing but their number, each some hundred bytes long; \
     [ $((i % 300)) = 0 ] && sleep 1; done; echo through; trap 'exit 0' TERM; while :; do sleep 1; done\"]";
/// Thirty seconds of writing, and what an emulated host takes longer.
const THROUGH_LIMIT: Duration = Duration::from_secs(240);
/// Of everything that `berthctl logs` says, whether a number is missing or twice.
const IN_ORDER: &str = "awk '$1 == \"line\" { if (last && $2 != last + 1) { print \"after\", last, \"comes\", $2; \
     exit 1 } last = $2 } END { if (!last) { print \"nothing\"; exit 1 } print last }'";

#[test]
fn logs_are_rotated_and_nothing_that_is_kept_is_missing() {
    let kernel = fleet().kernel(0);
    let guest = kernel.guest();
    let run = |script: &str| guest.run_ok(script).expect(script).trim().to_owned();
    run(
        "sed -i '1i log_max_bytes = \"64Ki\"\\nlog_files = 3' /etc/berth/berthd.toml && systemctl restart berthd",
    );
    let pod = idle_pod("chatty", "", "");
    let idle =
        pod.lines().find(|line| line.contains("command:")).expect("it has a command").trim().to_owned();
    fleet().apply(&pod.replace(&idle, CHATTY), &["--wait"]).expect("run the pod");
    let before = kernel.process("chatty").expect("find the container");
    run("nohup berthctl logs case/chatty --follow > /root/followed 2>&1 < /dev/null &");
    let through = "berthctl logs case/chatty --tail 1 | grep -x through";
    guest.wait_until(through, THROUGH_LIMIT).expect("it has written everything");

    let files = "ls /var/log/berth/pods/case_chatty_*/main | sort -V | tr '\\n' ' '";
    let packed = format!("{files} | grep -E '^1.log 1.log.[0-9]+.gz 1.log.[0-9]+ $'");
    let names = guest.wait_until(&packed, Duration::from_secs(60)).expect("three files, one of them packed");
    assert!(!names.contains("1.log.1.gz"), "nothing was removed: {names}");
    assert_eq!(run(&format!("berthctl logs case/chatty | {IN_ORDER}")), "9000");
    guest
        .wait_until("tail -n 1 /root/followed | grep -x through", Duration::from_secs(60))
        .expect("it followed");
    assert_eq!(run(&format!("{IN_ORDER} /root/followed")), "9000");
    assert_eq!(run("grep -c ^line /root/followed"), "9000", "whoever followed missed nothing");
    assert_eq!(kernel.process("chatty").expect("find the container again"), before);

    run("pkill -x berthctl; rm /root/followed");
    run("sed -i '/^log_max_bytes\\|^log_files/d' /etc/berth/berthd.toml && systemctl restart berthd");
    discard("case/chatty");
    // They stay for a day, and would be in the way of the next time.
    run("rm -r /var/log/berth/pods/case_chatty_*");
}

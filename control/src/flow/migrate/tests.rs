use super::*;

const BEFORE: [Phase; 2] = [Phase::Preparing, Phase::Stopping];
const BETWEEN: [Phase; 2] = [Phase::Offering, Phase::Copying];

fn after() -> [Phase; 3] {
    [Phase::Starting, Phase::Releasing, Phase::Returning { why: "no room".to_owned() }]
}

/// A row for each phase, state of the orders, source and target; pools and what stays behind matter in one phase each.
fn table(phases: &[Phase], luggage: Luggage<'_>) -> String {
    let orders = [OrderFact::Open, OrderFact::Done, OrderFact::Failed("it broke".to_owned())];
    let nodes = [NodeFact::Ready, NodeFact::Silent, NodeFact::Dead];
    let mut table = String::new();
    for phase in phases {
        for order in &orders {
            let id = OrderId::new("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
            let orders = BTreeMap::from([(id, order.clone())]);
            for source in nodes {
                for target in nodes {
                    let facts = Facts {
                        source,
                        target,
                        pool: PoolFact::Settled,
                        orders: &orders,
                        left_behind: LeftBehind::Nothing,
                        luggage,
                    };
                    let next = next(phase, &facts);
                    // The rules that all else is for.
                    let stopped = *order == OrderFact::Done || source == NodeFact::Dead;
                    let starts = matches!(next, Next::Start | Next::StartWithout);
                    assert!(!starts || stopped, "{phase:?} {facts:?}");
                    let copied = *phase == Phase::Copying && *order == OrderFact::Done;
                    assert!(
                        next != Next::Start || luggage == Luggage::Nothing || copied,
                        "{phase:?} {facts:?}"
                    );
                    table.push_str(&format!(
                        "{:9} {order:?} {source:?} {target:?} -> {next:?}\n",
                        phase.name()
                    ));
                }
            }
        }
    }
    table
}

#[test]
fn what_is_next() {
    insta::assert_snapshot!(table(&[&BEFORE[..], &after()[..]].concat(), Luggage::Nothing));
}

#[test]
fn what_is_next_with_disks_to_copy() {
    let disks = BTreeSet::from(["data".parse().unwrap(), "logs".parse().unwrap()]);
    let phases = [&BEFORE[..], &BETWEEN[..]].concat();
    insta::assert_snapshot!(table(&phases, Luggage::Needed(&disks)));
    // Who may begin without them differs in nothing else.
    let needed = table(&[&phases[..], &after()[..]].concat(), Luggage::Needed(&disks));
    let wanted = table(&[&phases[..], &after()[..]].concat(), Luggage::Wanted(&disks));
    for (needed, wanted) in needed.lines().zip(wanted.lines()) {
        let without = wanted.ends_with("-> StartWithout");
        assert_eq!(without, needed.contains("data disks that the pod takes along are there: data, logs"));
        assert!(without || needed == wanted, "{needed} / {wanted}");
    }
    let late = table(&after(), Luggage::Needed(&disks));
    assert_eq!(late, table(&after(), Luggage::Nothing));
}

#[test]
fn a_copy_that_failed_waits_for_the_others() {
    let disks = BTreeSet::from(["data".parse().unwrap()]);
    let id = |last: char| OrderId::new(format!("01ARZ3NDEKTSV4RRFFQ69G5FA{last}")).unwrap();
    let failed = OrderFact::Failed("no room".to_owned());
    let mut orders = BTreeMap::from([(id('V'), failed), (id('W'), OrderFact::Open)]);
    let look = |orders: &BTreeMap<OrderId, OrderFact>| {
        let facts = Facts {
            source: NodeFact::Ready,
            target: NodeFact::Ready,
            pool: PoolFact::Settled,
            orders,
            left_behind: LeftBehind::Nothing,
            luggage: Luggage::Needed(&disks),
        };
        next(&Phase::Copying, &facts)
    };
    assert!(matches!(look(&orders), Next::Wait(_)));
    orders.insert(id('W'), OrderFact::Done);
    assert_eq!(look(&orders), Next::Return("no room".to_owned()));
}

#[test]
fn pools_and_what_stays_behind() {
    let none = BTreeMap::new();
    let facts = |pool, left_behind| Facts {
        source: NodeFact::Ready,
        target: NodeFact::Ready,
        pool,
        orders: &none,
        left_behind,
        luggage: Luggage::Nothing,
    };
    let pending = next(&Phase::Preparing, &facts(PoolFact::Pending, LeftBehind::Nothing));
    assert!(matches!(pending, Next::Wait(_)), "{pending:?}");
    let refused = next(&Phase::Preparing, &facts(PoolFact::Refused, LeftBehind::Nothing));
    assert!(matches!(refused, Next::Failed(_)), "{refused:?}");
    for (left_behind, expected) in [
        (LeftBehind::Nothing, Next::Release),
        (LeftBehind::Discarded, Next::Release),
        (LeftBehind::Kept, Next::Done),
    ] {
        assert_eq!(next(&Phase::Starting, &facts(PoolFact::Settled, left_behind)), expected);
    }
}

//! # Healing
//!
//! From here on nothing is lost and all clocks run. Then somebody must lead,
//! commit something new, leave a joint configuration, and bring every member
//! to its own state.
//!
//! - Owns: nothing.

use raft_core::{Flow, NodeId, RoleKind};

use super::run::{Failure, Run, Step, Unwell};
use crate::environment::Node;
use crate::invariants::Sighting;

/// In which a healed cluster must get well. Nearly all do in a few. But without
/// a pre-vote a server whose configuration is old can be ahead in terms of the
/// one that needs its vote, whose requests it then passes over and which it
/// does not ask: only chance ends that race.
const ROUNDS_MAX: usize = 2_000;

/// Who is stranded is looked for so often.
const ROUNDS_BETWEEN_LOOKS: usize = 100;

/// After which nodes that are no members any more stand still: without a
/// pre-vote they may disturb an election for ever.
const ROUNDS_WITH_ALL: usize = 50;

/// What proposals of the healing begin with.
const PROPOSAL: &str = "healed";

pub(super) fn heal(run: &mut Run) -> Result<(), Failure> {
    // Shrinking may have left nobody who could work.
    let nodes = run.environment().nodes();
    if nodes
        .iter()
        .all(|node| node.raw.membership().ids().is_empty())
    {
        return Ok(());
    }
    run.step(Step::new("stabilize"))?;
    // Whoever lost a snapshot says so, once. Later ones are not lost.
    let reports: Vec<Step> = run
        .environment()
        .nodes()
        .iter()
        .flat_map(|leader| awaited(leader).map(move |id| (leader.id(), id)))
        .map(|(leader, id)| Step::new(format!("report-snapshot {leader} {id} failed")))
        .collect();
    for step in reports {
        run.step(step)?;
    }
    run.step(Step::new("stabilize"))?;
    let mut what = unwell(run);
    for round in 0..ROUNDS_MAX {
        for id in who_ticks(run, round) {
            run.step(Step::new(format!("tick-heartbeat {id}")))?;
            run.step(Step::new("stabilize"))?;
            what = unwell(run);
            if what.is_none() {
                return Ok(());
            }
        }
        help(run, round)?;
        let looks = round % ROUNDS_BETWEEN_LOOKS == ROUNDS_BETWEEN_LOOKS - 1;
        if looks && is_stranded(run) {
            return Ok(());
        }
    }
    match what {
        None => Ok(()),
        Some(what) => Err(Failure::NotLive {
            rounds: ROUNDS_MAX,
            what,
        }),
    }
}

/// What only users do: leave what was entered explicitly, propose.
fn help(run: &mut Run, round: usize) -> Result<(), Failure> {
    let Some(leader) = leader(run) else {
        return Ok(());
    };
    let id = leader.id();
    let membership = leader.raw.membership();
    if membership.is_joint() && !membership.auto_leave() {
        run.step(Step::new(format!("propose-conf-change {id}")))?;
    }
    run.step(Step::new(format!("propose {id} {PROPOSAL}{round}")))?;
    run.step(Step::new("stabilize"))
}

fn who_ticks(run: &Run, round: usize) -> Vec<NodeId> {
    let nodes = run.environment().nodes();
    let newest = nodes
        .iter()
        .map(|node| &node.raw.storage().state.metadata)
        .max_by_key(|metadata| metadata.index);
    nodes
        .iter()
        .map(Node::id)
        .filter(|id| {
            round < ROUNDS_WITH_ALL || newest.is_none_or(|newest| newest.conf_state.contains(*id))
        })
        .collect()
}

fn leader(run: &Run) -> Option<&Node> {
    run.environment()
        .nodes()
        .iter()
        .filter(|node| node.raw.role() == RoleKind::Leader)
        .max_by_key(|node| node.raw.term())
}

/// Who applied its own removal does not campaign any more. The voters that have
/// not heard of it may still need its vote; if its log ends with an entry that
/// they lack, it votes for none of them. So it is in etcd, where configurations
/// count once they are applied; only users can help. A leader of an older
/// configuration, which leads on although it was removed, is no help either.
fn is_stranded(run: &Run) -> bool {
    let nodes = run.environment().nodes();
    let last = |node: &Node| Sighting::of(node).log.last();
    let leads = |node: &Node| node.raw.role() == RoleKind::Leader;
    nodes.iter().any(|removed| {
        let membership = removed.raw.membership();
        let members = membership.voters().ids();
        !members.is_empty()
            && !leads(removed)
            && !membership.voters().contains(removed.id())
            && nodes
                .iter()
                .filter(|node| members.contains(&node.id()))
                .all(|member| !leads(member) && !last(member).is_up_to_date_with(last(removed)))
    })
}

fn awaited(leader: &Node) -> impl Iterator<Item = NodeId> {
    let progress = leader.raw.status().progress.into_iter();
    progress
        .filter(|(_, progress)| matches!(progress.flow, Flow::Snapshot { .. }))
        .map(|(id, _)| id)
}

fn unwell(run: &Run) -> Option<Unwell> {
    let Some(leader) = leader(run) else {
        return Some(Unwell::NoLeader);
    };
    if leader.raw.membership().is_joint() {
        return Some(Unwell::Joint);
    }
    let wanted = &leader.raw.storage().state;
    let is_new = wanted
        .data
        .windows(PROPOSAL.len())
        .any(|part| part == PROPOSAL.as_bytes());
    if !is_new || wanted.metadata.index != leader.raw.last_index() {
        return Some(Unwell::NoCommit);
    }
    if let Some(id) = awaited(leader).next() {
        return Some(Unwell::AwaitsSnapshot(id));
    }
    let members = leader.raw.membership().ids();
    let behind = members.into_iter().find(|id| {
        let mut nodes = run.environment().nodes().iter();
        nodes
            .find(|node| node.id() == *id)
            .is_none_or(|node| node.raw.storage().state != *wanted)
    });
    behind.map(Unwell::Behind)
}

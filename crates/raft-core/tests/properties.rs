//! # Properties against naive models
//!
//! Majorities, windows, runs of entries and configurations, each compared with
//! the simplest thing that could be right.

use bytes::Bytes;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use raft_core::{
    AppendResponse, Body, ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType,
    ConfState, Config, Entries, Entry, EntryId, EntrySequence, InflightLimits, Inflights,
    JointConfig, LogIndex, MajorityConfig, Membership, MemoryStorage, Message, NodeId, RawNode,
    Term, VoteResult,
};

use crate::support::{id, index, term};

fn ids(numbers: impl IntoIterator<Item = u64>) -> MajorityConfig {
    numbers.into_iter().map(id).collect()
}

/// Whether the servers in `set` may decide in `membership`.
fn decides(membership: &Membership, set: &[NodeId]) -> bool {
    let voters = membership.voters();
    voters.vote_result(|id| Some(set.contains(&id))) == VoteResult::Won
}

/// Two groups of which the one decides in `after` while the other, which has
/// nobody in common with it, decides in `before`.
fn sides(before: &Membership, after: &Membership) -> Option<(Vec<NodeId>, Vec<NodeId>)> {
    (0_u32..1 << 6)
        .map(|mask| {
            (1..=6)
                .map(id)
                .partition(|id| mask >> (id.get() - 1) & 1 == 1)
        })
        .find(|(some, others): &(Vec<NodeId>, Vec<NodeId>)| {
            decides(after, some) && decides(before, others)
        })
}

proptest! {
    #[test]
    fn who_votes_is_found_among_few_and_among_many(
        voters in btree_set(1_u64..60, 0..50),
        wanted in 1_u64..60,
    ) {
        let config = ids(voters.iter().copied());
        prop_assert_eq!(config.contains(id(wanted)), voters.contains(&wanted));
    }

    #[test]
    fn a_majority_commits_the_largest_index_that_more_than_half_have(
        voters in btree_set(1_u64..10, 0..7),
        acked in vec(proptest::option::of(0_u64..6), 10),
    ) {
        let has = |id: NodeId| acked[usize::try_from(id.get()).unwrap()];
        let config = ids(voters.iter().copied());
        let naive = (!voters.is_empty()).then(|| {
            (0..6).rev().find(|value| {
                let there = voters.iter().filter(|v| has(id(**v)).unwrap_or(0) >= *value);
                there.count() * 2 > voters.len()
            }).unwrap_or(0)
        });
        prop_assert_eq!(config.committed(has), naive);
    }

    #[test]
    fn a_vote_is_won_lost_or_open_as_counting_says(
        voters in btree_set(1_u64..10, 0..7),
        votes in vec(proptest::option::of(any::<bool>()), 10),
    ) {
        let vote = |id: NodeId| votes[usize::try_from(id.get()).unwrap()];
        let count = |wanted| voters.iter().filter(|v| vote(id(**v)) == wanted).count();
        let (yes, open) = (count(Some(true)), count(None));
        let naive = if voters.is_empty() || yes * 2 > voters.len() {
            VoteResult::Won
        } else if (yes + open) * 2 > voters.len() {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        };
        prop_assert_eq!(ids(voters.iter().copied()).vote_result(vote), naive);
    }

    #[test]
    fn a_joint_configuration_decides_what_both_halves_decide(
        incoming in btree_set(1_u64..8, 0..5),
        outgoing in btree_set(1_u64..8, 0..5),
        acked in vec(proptest::option::of(0_u64..6), 10),
        votes in vec(proptest::option::of(any::<bool>()), 10),
    ) {
        let has = |id: NodeId| acked[usize::try_from(id.get()).unwrap()];
        let vote = |id: NodeId| votes[usize::try_from(id.get()).unwrap()];
        let joint = JointConfig { incoming: ids(incoming), outgoing: ids(outgoing) };
        // An empty half agrees with everything.
        let half = |half: &MajorityConfig| half.committed(has).unwrap_or(u64::MAX);
        let both = half(&joint.incoming).min(half(&joint.outgoing));
        prop_assert_eq!(joint.committed(has).unwrap_or(u64::MAX), both);
        let results = [joint.incoming.vote_result(vote), joint.outgoing.vote_result(vote)];
        let naive = if results.contains(&VoteResult::Lost) {
            VoteResult::Lost
        } else if results.contains(&VoteResult::Pending) {
            VoteResult::Pending
        } else {
            VoteResult::Won
        };
        prop_assert_eq!(joint.vote_result(vote), naive);
    }

    #[test]
    fn the_window_holds_what_was_sent_and_not_acknowledged(
        messages_max in 1_usize..6,
        bytes_max in 1_u64..40,
        steps in vec((any::<bool>(), 1_u64..4, 0_u64..12), 0..40),
    ) {
        let mut window = Inflights::new(InflightLimits { messages_max, bytes_max });
        let mut model: Vec<(u64, u64)> = Vec::new();
        let (mut last, mut acked) = (0, 0);
        for (sends, entries, bytes) in steps {
            if sends && !window.is_full() {
                last += entries;
                window.add(index(last), bytes);
                model.push((last, bytes));
            } else if !sends {
                acked = (acked + entries).min(last);
                window.free_to(index(acked));
                model.retain(|(last, _)| *last > acked);
            }
            let sum: u64 = model.iter().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!(window.len(), model.len());
            prop_assert_eq!(window.bytes(), sum);
            prop_assert_eq!(window.is_full(), model.len() >= messages_max || sum >= bytes_max);
        }
        window.clear();
        prop_assert!(window.is_empty() && window.bytes() == 0);
    }

    #[test]
    fn a_sequence_of_entries_is_a_vector_of_entries(
        first in 1_u64..5,
        steps in vec((0_u8..4, 0_u64..12, 1_u64..4, 0_u64..60), 0..40),
    ) {
        let mut sequence = EntrySequence::starting_at(index(first));
        let mut start = first;
        let mut model: Vec<Entry> = Vec::new();
        for (round, (kind, at, count, bytes_max)) in (1..).zip(steps) {
            let end = start + u64::try_from(model.len()).unwrap();
            match kind {
                0 | 1 => {
                    let from = if kind == 0 { end } else { at + 1 };
                    let batch: Vec<Entry> = (from..from + count)
                        .map(|i| Entry::normal(term(round), index(i), Bytes::from_static(b"data")))
                        .collect();
                    let taken = sequence.append(Entries::from_batch(batch.clone()).unwrap());
                    prop_assert_eq!(taken, from <= end);
                    if taken {
                        if from < start {
                            start = from;
                            model.clear();
                        }
                        model.truncate(usize::try_from(from - start).unwrap());
                        model.extend(batch);
                    }
                }
                2 => {
                    sequence.truncate_from(index(at));
                    let kept = at.saturating_sub(start);
                    model.truncate(usize::try_from(kept).unwrap());
                }
                _ => {
                    sequence.drop_before(index(at));
                    if at > start {
                        let gone = usize::try_from(at - start).unwrap();
                        model.drain(..gone.min(model.len()));
                        start = at;
                    }
                }
            }
            let end = start + u64::try_from(model.len()).unwrap();
            prop_assert_eq!(sequence.first_index(), index(start));
            prop_assert_eq!(sequence.next_index(), index(end));
            let (low, high) = (at.max(start), (at + count).min(end));
            let expected: Vec<&Entry> = model
                .iter()
                .filter(|e| (low..high).contains(&e.index().get()))
                .collect();
            let part = sequence.between(index(low), index(high));
            prop_assert!(part.iter().eq(expected.iter().copied()));
            for i in 0..15 {
                let there = model.iter().find(|e| e.index() == index(i));
                prop_assert_eq!(sequence.term(index(i)), there.map(Entry::term));
            }
            // The longest prefix that fits, but one entry at least.
            let limited = sequence.limited_between(index(low), index(high), bytes_max);
            let mut sum = 0;
            let fitting = expected.iter().take_while(|e| {
                sum += e.encoded_len();
                sum <= bytes_max
            }).count().max(usize::from(!expected.is_empty()));
            prop_assert!(limited.iter().eq(expected.iter().take(fitting).copied()));
        }
    }

    #[test]
    fn a_part_of_entries_is_that_part(
        batches in vec(1_u64..4, 0..5),
        low in 0_u64..14,
        high in 0_u64..14,
    ) {
        let mut all = Entries::new();
        let mut model = Vec::new();
        let mut next = 1;
        for count in batches {
            let batch: Vec<Entry> = (next..next + count)
                .map(|i| Entry::normal(term(1), index(i), Bytes::new()))
                .collect();
            next += count;
            model.extend(batch.clone());
            all.extend(Entries::from_batch(batch).unwrap());
        }
        model.retain(|entry| (low..high).contains(&entry.index().get()));
        let part = all.between(index(low), index(high));
        prop_assert_eq!(part.len(), model.len());
        prop_assert_eq!(part.encoded_bytes(), model.iter().map(Entry::encoded_len).sum::<u64>());
        prop_assert!(part.iter().eq(model.iter()));
    }

    /// Raft §5.3: whatever the two logs are, answers lead the leader to the
    /// match, with at most one question per term of either log.
    #[test]
    fn a_leader_finds_the_match_with_one_question_per_term(
        common in vec(1_u64..3, 0..6),
        leaders in vec(1_u64..4, 0..30),
        followers in vec(1_u64..4, 0..30),
    ) {
        let leader_terms = ascending(&common, &leaders, 0);
        let follower_terms = ascending(&common, &followers, 1);
        let mut leader = node_with_log(1, &leader_terms);
        let mut follower = node_with_log(2, &follower_terms);
        let last_term = leader_terms.iter().chain(&follower_terms).max().copied().unwrap_or(0);
        become_leader(&mut leader, last_term + 1);
        let mut questions = 0_usize;
        let mut to_follower: Vec<Message> = drain(&mut leader, 2);
        loop {
            let mut to_leader = Vec::new();
            for message in to_follower.drain(..) {
                follower.step(message).unwrap();
                to_leader.extend(drain(&mut follower, 1));
            }
            if to_leader.is_empty() {
                break;
            }
            for message in to_leader {
                if let Body::AppendResponse(AppendResponse::Rejected { .. }) = message.body {
                    questions += 1;
                }
                leader.step(message).unwrap();
                to_follower.extend(drain(&mut leader, 2));
            }
        }
        prop_assert_eq!(follower.last_index(), leader.last_index());
        prop_assert_eq!(follower.commit_index(), leader.commit_index());
        let mut terms: Vec<u64> = leader_terms.iter().chain(&follower_terms).copied().collect();
        terms.sort_unstable();
        terms.dedup();
        prop_assert!(questions <= terms.len() + 1, "{questions} questions");
    }

    /// Thesis §4.1, §4.3: any two majorities of successive configurations have
    /// a server in common, so no two leaders can be elected side by side.
    #[test]
    fn valid_changes_keep_overlapping_majorities(
        voters in btree_set(1_u64..6, 1..5),
        changes in vec(any_change(), 0..12),
    ) {
        let conf_state = ConfState::of_voters(voters.into_iter().map(id));
        let mut membership = Membership::restore(&conf_state).unwrap();
        for change in changes {
            let before = membership.clone();
            let direct = membership.simple(&change.changes);
            if let Ok(direct) = direct {
                prop_assert_eq!(sides(&before, &direct.membership), None);
            }
            let Ok(next) = membership.changed(&change) else {
                // What cannot be done changes nothing.
                prop_assert_eq!(&membership, &before);
                continue;
            };
            membership = next.membership;
            prop_assert_eq!(membership.check(), Ok(()));
            prop_assert!(!membership.voters().incoming.is_empty());
            let restored = Membership::restore(&membership.conf_state());
            prop_assert_eq!(restored.as_ref(), Ok(&membership));
            for id in &next.joined {
                prop_assert!(membership.contains(*id));
            }
            prop_assert_eq!(sides(&before, &membership), None);
        }
    }

    #[test]
    fn what_is_restored_is_what_was_stored_or_an_error(
        voters in vec(1_u64..5, 0..4),
        outgoing in vec(1_u64..5, 0..4),
        learners in vec(1_u64..5, 0..3),
        learners_next in vec(1_u64..5, 0..3),
        auto_leave in any::<bool>(),
    ) {
        let set = |numbers: Vec<u64>| numbers.into_iter().map(id).collect::<Vec<_>>();
        let state = ConfState {
            voters: set(voters),
            voters_outgoing: set(outgoing),
            learners: set(learners),
            learners_next: set(learners_next),
            auto_leave,
        };
        if let Ok(membership) = Membership::restore(&state) {
            prop_assert!(membership.conf_state().is_equivalent_to(&state));
            prop_assert_eq!(membership.check(), Ok(()));
        }
    }

    #[test]
    fn a_configuration_change_survives_its_encoding(change in any_change()) {
        let read = change.to_proposal().conf_change();
        prop_assert_eq!(read, Ok(Some(change)));
    }
}

fn any_change() -> impl Strategy<Value = ConfChange> {
    let kind = prop_oneof![
        Just(ConfChangeType::AddNode),
        Just(ConfChangeType::RemoveNode),
        Just(ConfChangeType::UpdateNode),
        Just(ConfChangeType::AddLearnerNode),
    ];
    let single =
        (kind, 1_u64..7).prop_map(|(kind, number)| ConfChangeSingle::new(kind, id(number)));
    let transition = prop_oneof![
        Just(ConfChangeTransition::Auto),
        Just(ConfChangeTransition::JointImplicit),
        Just(ConfChangeTransition::JointExplicit),
    ];
    let change = (transition, vec(single, 0..4)).prop_map(|(transition, changes)| ConfChange {
        transition,
        changes,
        context: Bytes::new(),
    });
    prop_oneof![3 => change, 1 => Just(ConfChange::leave_joint())]
}

/// Terms of a log: a common start, then steps of its own. `parity` keeps the
/// terms of two logs apart, as no two leaders share a term.
fn ascending(common: &[u64], own: &[u64], parity: u64) -> Vec<u64> {
    let mut at = 1;
    let mut terms: Vec<u64> = Vec::new();
    for step in common {
        at += step / 2 * 2;
        terms.push(at);
    }
    at = at / 2 * 2 + 2 + parity;
    for step in own {
        // Long runs of a term, sometimes a later one.
        at += step / 3 * 2;
        terms.push(at);
    }
    terms
}

fn node_with_log(number: u64, terms: &[u64]) -> RawNode<MemoryStorage> {
    let conf_state = ConfState::of_voters([id(1), id(2)]);
    let mut storage = MemoryStorage::with_conf_state(conf_state);
    let batch = (1..)
        .zip(terms)
        .map(|(at, number)| Entry::normal(term(*number), index(at), Bytes::new()))
        .collect();
    storage.append(Entries::from_batch(batch).unwrap()).unwrap();
    storage.set_hard_state(raft_core::HardState {
        term: Term::new(terms.last().copied().unwrap_or(0).max(1)),
        ..raft_core::HardState::EMPTY
    });
    RawNode::new(Config::protected(id(number)), storage).unwrap()
}

fn become_leader(node: &mut RawNode<MemoryStorage>, at_least: u64) {
    use raft_core::{Round, VoteResponse};
    // An append of a later term brings the node there; the other then votes.
    node.step(Message {
        to: id(1),
        from: id(2),
        term: term(at_least),
        body: Body::RequestVote {
            round: Round::Vote,
            last: EntryId::new(Term::ZERO, LogIndex::ZERO),
            transfer: false,
        },
    })
    .unwrap();
    drain(node, 2);
    node.campaign().unwrap();
    for round in [Round::PreVote, Round::Vote] {
        drain(node, 2);
        let asked = match round {
            Round::PreVote => node.term().next(),
            Round::Vote => node.term(),
        };
        node.step(Message {
            to: id(1),
            from: id(2),
            term: asked,
            body: Body::VoteResponse {
                round,
                vote: VoteResponse::Granted,
            },
        })
        .unwrap();
    }
    assert_eq!(node.leader(), Some(id(1)));
}

/// Carries out everything, and returns what is for `to`.
fn drain(node: &mut RawNode<MemoryStorage>, to: u64) -> Vec<Message> {
    let mut out = Vec::new();
    while node.has_ready() {
        let ready = node.ready().unwrap();
        out.extend(ready.messages);
        if let Some(append) = ready.append {
            node.storage_mut().append(append.entries).unwrap();
            if let Some(hard_state) = append.hard_state {
                node.storage_mut().set_hard_state(hard_state);
            }
            for outcome in append.responses {
                if let raft_core::AppendOutcome::Send(message) = outcome {
                    out.push(message);
                }
            }
        }
        node.advance().unwrap();
        node.check().unwrap();
    }
    out.retain(|message| message.to == id(to));
    out
}

//! # `raft-kv member`
//!
//! Finds the leader among nodes, has it change the members, and shows how far a
//! new node has caught up meanwhile.
//!
//! - Reads: the pages of the nodes.
//! - Emits: orders for the leader.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use raft_tokio::NodeId;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::http::{HttpError, fetch, send};
use super::status::{self, Statuses};
use crate::serve::{
    Complaint, ComplaintKind, MEMBERS_PATH, MemberId, MemberOrder, Members, StatusPage,
};

/// How often the leader is asked how far a new node is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long it may take until a leader is elected: a few election timeouts.
const ELECTED_WITHIN: Duration = Duration::from_secs(6);

/// How long a node may take to answer. It answers an order that waits for somebody
/// to catch up after some seconds, however far that is.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to become of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A node comes, and votes once it has caught up.
    Add {
        /// The node.
        id: NodeId,
        /// Where other nodes connect to it.
        address: String,
    },
    /// A node leaves.
    Remove {
        /// The node.
        id: NodeId,
    },
    /// A node comes, and another one leaves once it has caught up.
    Replace {
        /// Who leaves.
        old: NodeId,
        /// Who comes.
        new: NodeId,
        /// Where other nodes connect to it.
        address: String,
    },
    /// A node is reached at another address.
    Move {
        /// The node.
        id: NodeId,
        /// Where other nodes connect to it from now on.
        address: String,
    },
    /// Another node leads.
    Transfer {
        /// Which.
        to: NodeId,
    },
}

/// The members were not changed, or it is not known whether they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// No node answers.
    #[error("no node answers: {0}; give --http for nodes that run")]
    NobodyAnswers(String),
    /// The nodes that answer know of no leader.
    #[error(
        "there is no leader: a majority of the voters has to run; \
         what was asked for can be tried again then"
    )]
    NoLeader,
    /// The leader is none of the nodes that were named.
    #[error("node {leader} leads; give its --http too")]
    LeaderElsewhere {
        /// Who leads.
        leader: u64,
    },
    /// The leader says why not.
    #[error("{0}")]
    Refused(String),
    /// The leader does not know what has become of it, or its answer was lost.
    #[error("it may have happened: {0}; look at `raft-kv status` before you try again")]
    OutcomeUnknown(String),
}

/// Who is in the cluster after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberReport {
    /// The members.
    #[serde(flatten)]
    pub members: Members,
    /// Who leads now, as far as the nodes that were named know.
    pub leader: Option<u64>,
}

/// Has the leader make a change, and waits until it is in effect. A node that comes
/// may take `catch_up` to catch up; if that is too short it stays a learner, and the
/// same change goes on from there.
///
/// # Errors
/// The change was refused or is impossible, or its outcome is unknown.
///
/// # Cancel safety
/// What the leader was asked for may happen all the same.
pub async fn change(
    nodes: &[SocketAddr],
    change: MemberChange,
    catch_up: Duration,
) -> Result<MemberReport, MemberError> {
    let (address, page) = await_leader(nodes).await?;
    let leader = Leader { address };
    let members = match change {
        MemberChange::Add { id, address } => {
            leader.introduce(&page, id, address).await?;
            let order = MemberOrder::Promote { id: MemberId(id) };
            leader.once_caught_up(id, &order, catch_up).await?
        }
        MemberChange::Replace { old, new, address } => {
            leader.introduce(&page, new, address).await?;
            let order = MemberOrder::Replace {
                old: MemberId(old),
                new: MemberId(new),
            };
            leader.once_caught_up(new, &order, catch_up).await?
        }
        MemberChange::Remove { id } => {
            let id = MemberId(id);
            leader.obeyed(&MemberOrder::Remove { id }).await?
        }
        MemberChange::Move { id, address } => {
            let id = MemberId(id);
            leader.obeyed(&MemberOrder::Move { id, address }).await?
        }
        MemberChange::Transfer { to } => {
            let to = MemberId(to);
            leader.obeyed(&MemberOrder::Transfer { to }).await?
        }
    };
    let leader = match find_leader(&status::ask(nodes).await) {
        Ok((_, page)) => Some(page.id),
        Err(MemberError::LeaderElsewhere { leader }) => Some(leader),
        Err(_) => None,
    };
    Ok(MemberReport { members, leader })
}

/// The leader among nodes. An election may be under way: one has a while to end.
async fn await_leader(nodes: &[SocketAddr]) -> Result<(SocketAddr, StatusPage), MemberError> {
    let deadline = Instant::now() + ELECTED_WITHIN;
    loop {
        match find_leader(&status::ask(nodes).await) {
            Err(MemberError::NoLeader | MemberError::LeaderElsewhere { .. })
                if Instant::now() < deadline => {}
            found => return found,
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The leader of the highest term among nodes.
fn find_leader(statuses: &Statuses) -> Result<(SocketAddr, StatusPage), MemberError> {
    let pages = || {
        let page = |node: &status::NodeStatus| Some((node.address, node.status.clone()?));
        statuses.nodes.iter().filter_map(page)
    };
    if pages().next().is_none() {
        let errors = statuses.nodes.iter().filter_map(|node| {
            let error = node.error.as_ref()?;
            Some(format!("{}: {error}", node.address))
        });
        let errors: Vec<String> = errors.collect();
        return Err(MemberError::NobodyAnswers(errors.join("; ")));
    }
    let newest = pages().map(|(_, page)| page.term).max();
    let mut of_newest = pages().filter(|(_, page)| Some(page.term) == newest);
    if let Some(leader) = of_newest.clone().find(|(_, page)| page.is_leader()) {
        return Ok(leader);
    }
    match of_newest.find_map(|(_, page)| page.leader) {
        Some(leader) => Err(MemberError::LeaderElsewhere { leader }),
        None => Err(MemberError::NoLeader),
    }
}

/// Why an order got no members for an answer.
#[derive(Debug)]
enum Failed {
    Complaint(Complaint),
    /// It was not sent, or there was no answer that could be read.
    Exchange(HttpError),
    TimedOut,
}

impl Failed {
    fn into_error(self) -> MemberError {
        match self {
            Self::Complaint(complaint) => match complaint.kind {
                ComplaintKind::OutcomeUnknown => MemberError::OutcomeUnknown(complaint.error),
                _ => MemberError::Refused(complaint.error),
            },
            Self::Exchange(HttpError::Unreachable(error)) => MemberError::Refused(format!(
                "the leader cannot be reached: {error}; nothing was changed"
            )),
            Self::Exchange(error) => MemberError::OutcomeUnknown(error.to_string()),
            Self::TimedOut => MemberError::OutcomeUnknown("the leader does not answer".to_owned()),
        }
    }
}

/// The node that carries orders out.
#[derive(Clone, Copy, Debug)]
struct Leader {
    address: SocketAddr,
}

impl Leader {
    async fn order(self, order: &MemberOrder) -> Result<Members, Failed> {
        let answer = timeout(PATIENCE, send(self.address, MEMBERS_PATH, order)).await;
        let answer = answer.map_err(|_| Failed::TimedOut)?;
        let answer = answer.map_err(Failed::Exchange)?;
        if answer.status.is_success() {
            return answer.parse().map_err(Failed::Exchange);
        }
        Err(match answer.parse() {
            Ok(complaint) => Failed::Complaint(complaint),
            Err(error) => Failed::Exchange(error),
        })
    }

    async fn obeyed(self, order: &MemberOrder) -> Result<Members, MemberError> {
        self.order(order).await.map_err(Failed::into_error)
    }

    /// Makes a node a learner unless it is one already.
    async fn introduce(
        self,
        page: &StatusPage,
        id: NodeId,
        address: String,
    ) -> Result<(), MemberError> {
        let number = id.get();
        if page.learners.contains(&number) {
            return Ok(());
        }
        let id = MemberId(id);
        self.obeyed(&MemberOrder::AddLearner { id, address })
            .await?;
        Ok(())
    }

    /// Gives an order that waits for `id` to catch up, again and again until
    /// `catch_up` is over, and shows how far `id` is.
    async fn once_caught_up(
        self,
        id: NodeId,
        order: &MemberOrder,
        catch_up: Duration,
    ) -> Result<Members, MemberError> {
        let deadline = Instant::now() + catch_up;
        let ordered = async {
            loop {
                match self.order(order).await {
                    Err(Failed::Complaint(complaint))
                        if complaint.kind == ComplaintKind::NotCaughtUp
                            && Instant::now() < deadline => {}
                    answered => return answered.map_err(Failed::into_error),
                }
            }
        };
        tokio::select! {
            answered = ordered => answered,
            never = self.show_catching_up(id) => match never {},
        }
    }

    async fn show_catching_up(self, id: NodeId) -> Infallible {
        let bar = ProgressBar::new(0);
        let template = "{bar:40.cyan/blue} {pos} of {len} entries  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        loop {
            // A bar is no reason to fail: the next look may succeed.
            if let Ok(Ok(answer)) = timeout(PATIENCE, fetch(self.address, "/status")).await
                && let Ok(page) = answer.parse::<StatusPage>()
                && let Some(row) = page.progress.iter().find(|row| row.id == id.get())
            {
                bar.set_length(page.last_index);
                bar.set_position(row.matched);
                let sends = match (row.silent, row.flow.as_str()) {
                    (true, _) => "it does not answer; does it run, and is its address right?",
                    (false, "snapshot") => "it gets a snapshot",
                    (false, _) => "it gets the log",
                };
                bar.set_message(format!("node {id}: {sends}"));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

impl fmt::Display for MemberReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |numbers: &[u64]| {
            let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
            if numbers.is_empty() {
                "none".to_owned()
            } else {
                numbers.join(" ")
            }
        };
        let Members { voters, learners } = &self.members;
        writeln!(f, "voters    {}", list(voters))?;
        writeln!(f, "learners  {}", list(learners))?;
        match self.leader {
            Some(leader) => write!(f, "leader    {leader}"),
            None => write!(f, "leader    not known yet"),
        }
    }
}

//! What happens to servers, disks, the network and the clock.

use std::time::Duration;

use fastrand::Rng;
use raft_tokio::NodeId;

use crate::clients::ends;
use crate::{Servers, leader_of};

/// How often what happened.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    kills: u64,
    restarts: u64,
    pauses: u64,
    freezes: u64,
    isolations: u64,
    cuts: u64,
    losses: u64,
    stalls: u64,
    transfers: u64,
    transfers_failed: u64,
}

impl Trouble {
    pub(crate) async fn make(&mut self, servers: &mut Servers, random: &mut Rng) {
        let ids = servers.ids();
        let victim = ids[random.usize(..ids.len())];
        let other = ids[random.usize(..ids.len())];
        // Half of what is done to somebody is done to whoever leads.
        let leader = leader_of(servers);
        let victim = match &leader {
            Some(leader) if random.bool() => leader.id(),
            _ => victim,
        };
        let network = servers.cluster.network();
        match random.u8(..12) {
            0..3 => {
                servers.kill(victim).await;
                self.kills += 1;
            }
            3 => {
                servers.restart(victim).await;
                self.restarts += 1;
            }
            4 => {
                network.isolate(victim);
                self.isolations += 1;
            }
            5 => {
                network.cut(victim, other);
                self.cuts += 1;
            }
            6 => {
                network.drop_rate(random.u64(..), random.u32(10..200));
                self.losses += 1;
            }
            7 => {
                let disk = servers.cluster.disk(victim).clone();
                let length = Duration::from_millis(random.u64(50..3000));
                disk.stall();
                tokio::spawn(async move {
                    tokio::time::sleep(length).await;
                    disk.resume();
                });
                self.stalls += 1;
            }
            8 => {
                if let Some(leader) = leader {
                    let transfer = leader.transfer_leadership(other);
                    match ends("transfer", transfer).await {
                        Ok(()) => self.transfers += 1,
                        Err(_) => self.transfers_failed += 1,
                    }
                }
            }
            9 => {
                pause(servers, victim, random).await;
                self.pauses += 1;
            }
            // The whole machine stood still: every tick of that time is late.
            10 => {
                tokio::time::advance(Duration::from_millis(random.u64(100..3000))).await;
                self.freezes += 1;
            }
            _ => network.heal(),
        }
    }
}

/// What a process that stops for a while looks like to the others: nothing comes
/// from it, and then everything at once, and late.
async fn pause(servers: &Servers, paused: NodeId, random: &mut Rng) {
    let disk = servers.cluster.disk(paused);
    let network = servers.cluster.network();
    disk.stall();
    for peer in servers.ids().into_iter().filter(|peer| *peer != paused) {
        network.hold(paused, peer);
        network.hold(peer, paused);
    }
    tokio::time::sleep(Duration::from_millis(random.u64(50..3000))).await;
    disk.resume();
    network.release();
}

//! The faults, one module for each thing that breaks.

mod caller_cut_off;
mod clock;
mod cold_start;
mod drained;
mod instances;
mod members;
mod operators;
mod outages;
mod restored;
mod secrets;
mod superseded;
mod upgrade;

use anyhow::Result;
use futures_util::{FutureExt as _, future::LocalBoxFuture};

use crate::{outcome::Seen, scene::Pace, thousands};

/// A fault, and what must hold when it is there.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) must_hold: &'static str,
    pub(crate) bring_about: fn(Pace) -> LocalBoxFuture<'static, Result<Seen>>,
}

macro_rules! fault {
    ($name:literal, $what:literal, $must_hold:literal, $bring_about:path) => {
        Fault {
            name: $name,
            what: $what,
            must_hold: $must_hold,
            bring_about: |pace| $bring_about(pace).boxed_local(),
        }
    };
}

/// All of them.
pub(crate) const FAULTS: &[Fault] = &[
    fault!(
        "killed",
        "an instance gets SIGKILL",
        "no call fails; its key goes with its lease",
        instances::killed
    ),
    fault!(
        "stopped",
        "an instance gets SIGTERM",
        "no call fails; its key goes at once",
        instances::stopped
    ),
    fault!(
        "hangs",
        "an instance gets SIGSTOP, and goes on later",
        "at most a call for each caller fails; it is back within 2 s",
        instances::hangs
    ),
    fault!(
        "rolling-restart",
        "every instance is restarted, one after another",
        "no call fails",
        instances::rolling_restart
    ),
    fault!(
        "scaling",
        "the fleet is scaled from 3 to 30 and back",
        "no call fails",
        instances::scaling
    ),
    fault!(
        "leader-killed",
        "the leader of etcd is killed",
        "no call fails; no registration is lost",
        members::leader_killed
    ),
    fault!(
        "members-killed",
        "each member is killed in turn",
        "no call fails; no registration is lost",
        members::each_killed
    ),
    fault!(
        "member-paused",
        "a member hangs for ten seconds",
        "no call fails; no registration is lost",
        members::paused
    ),
    fault!(
        "members-upgraded",
        "each member is stopped and started by the etcd in $ETCD_NEXT_BIN_DIR, or by the same",
        "no call fails; no registration is lost; doctor tells of versions that differ",
        upgrade::each_upgraded
    ),
    fault!(
        "quorum-lost",
        "two of three members are down for longer than the leases",
        "no call fails; all are registered again within 2 s of quorum",
        outages::quorum_lost
    ),
    fault!(
        "all-down",
        "all members are down for longer than the leases",
        "no call fails; all are registered again within 5 s",
        outages::all_down
    ),
    fault!(
        "wiped",
        "all members are wiped and started empty",
        "no call fails; all are registered again within 5 s",
        outages::wiped
    ),
    fault!(
        "restored",
        "all members are lost with their data and restored from a backup, as docs/operations.md has it",
        "no call fails; who runs is registered and nobody else within 10 s; what operators want is as in the backup",
        restored::restored
    ),
    fault!(
        "leases-revoked",
        "every lease is revoked",
        "no call fails; all are registered again within 2 s",
        operators::leases_revoked
    ),
    fault!(
        "keys-deleted",
        "every key is deleted by hand",
        "no call fails; all are back within 1 s",
        operators::keys_deleted
    ),
    fault!(
        "drained",
        "an operator drains an instance; it is started anew, all of etcd is wiped, and then all keys and leases go",
        "no call fails; it stays drained until it is given back",
        drained::drained
    ),
    fault!(
        "superseded",
        "two processes are started on one address and id",
        "the later serves, the earlier says that it is superseded, nothing flaps",
        superseded::superseded
    ),
    fault!(
        "compacted",
        "the caller's watch falls behind a compaction, and the fleet moves meanwhile",
        "no call fails; the new fleet takes calls",
        caller_cut_off::compacted
    ),
    fault!(
        "no-registry",
        "the caller is cut off from etcd, while an instance dies",
        "no call fails",
        caller_cut_off::from_etcd
    ),
    fault!(
        "no-servers",
        "the caller is cut off from the servers, and then no longer",
        "calls succeed again within 2 s",
        caller_cut_off::from_servers
    ),
    fault!(
        "secrets",
        "tokens are forgotten, the password is changed, and certificates are rotated",
        "no call fails; no registration is lost; who comes later is let in",
        secrets::change
    ),
    fault!(
        "clock-jumps",
        "the wall clock jumps an hour ahead and back",
        "no call fails; nothing happens",
        clock::jumps
    ),
    fault!(
        "cold-start",
        "a caller starts while all of etcd is down, with a cache directory",
        "it is answered within 1 s, and says that its list is stale",
        cold_start::cold_start
    ),
    fault!(
        "thousands",
        "10,000 instances of 100 services, of which 100 flap each second",
        "the follower's memory stays flat; every snapshot is right at the end",
        thousands::flap
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::FAULTS;

    #[test]
    fn no_two_faults_have_one_name() {
        let names: HashSet<_> = FAULTS.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), FAULTS.len());
    }
}

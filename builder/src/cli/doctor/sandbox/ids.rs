//! Which ids jobs get on this machine, and what a plain user lacks for a range of them. Pure.

use crate::cli::doctor::cure;
use crate::cli::doctor::row::Row;
use crate::cli::doctor::row::State;
use crate::cli::doctor::sandbox::Facts;
use crate::sandbox::id_helper::IdHelper;
use crate::sandbox::id_helper::Right;
use crate::sandbox::identity;
use crate::sandbox::identity::Identity;
use crate::sandbox::inventory::Tried;
use crate::sandbox::subordinate_ids;

/// Ids that a job needs beside 0.
pub(super) const IDS: u32 = 65_536;

impl Facts {
    /// Which ids a job gets.
    pub(super) fn ids(&self) -> Row {
        let name = "ids";
        let entered = self.inventory.identity;
        if let Tried::Refused(_) = entered {
            let found = "a job's ids cannot be mapped, though all that it needs is there";
            return Row::new(name, State::Fail, found)
                .cures([cure::id_helper_rights(&self.inventory.id_helpers)]);
        }
        let surroundings = &self.surroundings;
        match self.climbed.best.map(|best| best.identity) {
            Some(Identity::Root) => Row::new(name, State::Ok, "root: each job gets 65536 ids of its own"),
            Some(Identity::Nested | Identity::Contained) => {
                Row::new(name, State::Ok, "root of a container: jobs share its 65536 ids")
            }
            Some(Identity::RootAlone) => Row::new(
                name,
                State::Warn,
                "root without a user namespace: a job's ids are the machine's",
            ),
            Some(Identity::Rootless { uid, .. }) => {
                let first = surroundings.subordinate_uids.map_or(0, |range| range.first);
                let found = format!("user {uid} has {IDS} subordinate ids, from {first} on");
                Row::new(name, State::Ok, found)
            }
            Some(Identity::Single { uid: 0, .. }) => {
                let ids = identity::end_of_ids(&surroundings.uid_map);
                let found = format!("{ids} ids are mapped, {IDS} are needed: every id of a job is one");
                Row::new(name, State::Warn, found).cure(
                    "ids for jobs",
                    "start the container with a user namespace of at least 65536 ids",
                )
            }
            Some(Identity::Single { .. }) | None if surroundings.uid != 0 => self.ids_of_a_user(),
            _ => Row::new(name, State::Info, "root"),
        }
    }

    fn ids_of_a_user(&self) -> Row {
        let name = "ids";
        let surroundings = &self.surroundings;
        let uid = surroundings.uid;
        let missing: Vec<&str> = [
            ("/etc/subuid", surroundings.subordinate_uids),
            ("/etc/subgid", surroundings.subordinate_gids),
        ]
        .into_iter()
        .filter_map(|(file, range)| range.is_none().then_some(file))
        .collect();
        let nor = |file: &&str| format!(", nor does `{file}`");
        let [first, rest @ ..] = missing.as_slice() else {
            let found = format!("user {uid} has {IDS} subordinate ids, which nothing can map yet");
            return Row::new(name, State::Warn, found);
        };
        let found = format!(
            "`{first}` gives user {uid} no range of {IDS} ids{}: every id of a job would be this user",
            rest.iter().map(nor).collect::<String>()
        );
        let [users, groups, passwd] = &self.accounts;
        let end = identity::end_of_ids(&surroundings.uid_map);
        let free = subordinate_ids::free_range(&[users, groups], passwd, IDS, end);
        let number = uid.to_string();
        let user = self.login_name.as_deref().unwrap_or(&number);
        Row::new(name, State::Warn, found).cures([cure::subordinate_ids(user, free)])
    }

    /// Only plain users need them.
    pub(super) fn id_helpers(&self) -> Option<Row> {
        if self.surroundings.uid == 0 {
            return None;
        }
        let name = "newuidmap";
        let helpers = &self.inventory.id_helpers;
        let absent = ["newuidmap", "newgidmap"]
            .iter()
            .zip(helpers)
            .find(|(_, helper)| helper.is_none());
        if let Some((name, _)) = absent {
            let found = format!("the program `{name}` is not there: no more than one id can be mapped");
            return Some(Row::new(name, State::Warn, found).cures([cure::id_helper_package()]));
        }
        if !helpers.iter().all(|helper| cure::has_right(helper.as_ref())) {
            let found = "newuidmap or newgidmap has neither a file capability nor the set-user-id bit";
            return Some(Row::new(name, State::Warn, found).cures([cure::id_helper_rights(helpers)]));
        }
        let right = |helper: &Option<_>| match helper.as_ref().map(|helper: &IdHelper| helper.right) {
            Some(Right::FileCapability) => "by a file capability",
            _ => "by its set-user-id bit",
        };
        let worked = match (
            self.inventory.identity,
            self.climbed.best.map(|best| best.identity),
        ) {
            (Tried::Works, Some(Identity::Rootless { .. })) => "; both were tried",
            _ => "",
        };
        let found = format!(
            "newuidmap has its right {}, newgidmap {}{worked}",
            right(&helpers[0]),
            right(&helpers[1])
        );
        Some(Row::new(name, State::Ok, found))
    }
}

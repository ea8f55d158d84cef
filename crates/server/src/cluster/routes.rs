//! Which users have sessions at which server, and which are online there: soft, told in small steps, and asked for
//! whole when the sums that come with the heartbeats do not agree.

use std::collections::{HashMap, HashSet};

use tidings_core::UserId;
use xxhash_rust::xxh3::xxh3_64;

use super::message::{NodeId, Summary};

/// The users of one server.
#[derive(Debug, Default)]
pub(super) struct UsersOf {
    users: HashSet<UserId>,
    sum: u64,
}

impl UsersOf {
    pub(super) fn insert(&mut self, user: UserId) -> bool {
        let is_new = self.users.insert(user);
        if is_new {
            self.sum = self.sum.wrapping_add(xxh3_64(&user.0));
        }
        is_new
    }

    pub(super) fn remove(&mut self, user: UserId) -> bool {
        let was_there = self.users.remove(&user);
        if was_there {
            self.sum = self.sum.wrapping_sub(xxh3_64(&user.0));
        }
        was_there
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            count: self.users.len() as u64,
            sum: self.sum,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = UserId> {
        self.users.iter().copied()
    }
}

/// The users of all other servers.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    nodes: HashMap<NodeId, UsersOf>,
    of_user: HashMap<UserId, Vec<NodeId>>,
}

impl Routes {
    pub(crate) fn came(&mut self, node: NodeId, user: UserId) {
        if self.nodes.entry(node).or_default().insert(user) {
            self.of_user.entry(user).or_default().push(node);
        }
    }

    pub(crate) fn went(&mut self, node: NodeId, user: UserId) {
        if self
            .nodes
            .get_mut(&node)
            .is_some_and(|users| users.remove(user))
        {
            self.forget(node, user);
        }
    }

    /// The server is gone, or tells all its users anew. Answers those it had.
    pub(crate) fn clear(&mut self, node: NodeId) -> impl Iterator<Item = UserId> + use<> {
        let users = self.nodes.remove(&node).unwrap_or_default();
        for user in users.all() {
            self.forget(node, user);
        }
        users.users.into_iter()
    }

    fn forget(&mut self, node: NodeId, user: UserId) {
        if let Some(nodes) = self.of_user.get_mut(&user) {
            nodes.retain(|of| *of != node);
            if nodes.is_empty() {
                self.of_user.remove(&user);
            }
        }
    }

    /// Whether what is known of a server's users is what it says of them.
    pub(crate) fn agrees(&self, node: NodeId, summary: Summary) -> bool {
        let known = self.nodes.get(&node).map(UsersOf::summary);
        known.unwrap_or_default() == summary
    }

    /// Whether any server has this user.
    pub(crate) fn has(&self, user: UserId) -> bool {
        self.of_user.contains_key(&user)
    }

    /// The servers at which any of these users has sessions.
    pub(super) fn nodes_of(&self, users: &mut dyn Iterator<Item = UserId>) -> Vec<NodeId> {
        let mut found: Vec<NodeId> = Vec::new();
        for user in users {
            for node in self.of_user.get(&user).into_iter().flatten() {
                if !found.contains(node) {
                    found.push(*node);
                }
            }
            if found.len() == self.nodes.len() {
                break;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: u8) -> UserId {
        UserId([number; 16])
    }

    fn nodes(routes: &Routes, users: &[u8]) -> Vec<NodeId> {
        let mut found = routes.nodes_of(&mut users.iter().copied().map(user));
        found.sort_unstable();
        found
    }

    #[test]
    fn news_go_to_the_servers_with_sessions_alone() {
        let mut routes = Routes::default();
        routes.came([1; 16], user(1));
        routes.came([2; 16], user(1));
        routes.came([2; 16], user(2));
        assert_eq!(nodes(&routes, &[1]), [[1; 16], [2; 16]]);
        assert_eq!(nodes(&routes, &[2, 3]), [[2; 16]]);
        routes.went([2; 16], user(1));
        routes.went([2; 16], user(1));
        assert_eq!(nodes(&routes, &[1]), [[1; 16]]);
        assert_eq!(routes.clear([2; 16]).collect::<Vec<_>>(), [user(2)]);
        assert!(routes.has(user(1)) && !routes.has(user(2)));
        assert_eq!(nodes(&routes, &[1, 2]), [[1; 16]]);
    }

    #[test]
    fn a_missed_step_shows_in_the_sum() {
        let mut here = UsersOf::default();
        let mut there = Routes::default();
        assert!(there.agrees([1; 16], here.summary()));
        for number in [1, 2] {
            here.insert(user(number));
            there.came([1; 16], user(number));
        }
        assert!(there.agrees([1; 16], here.summary()));
        here.remove(user(1));
        here.insert(user(3));
        assert!(
            !there.agrees([1; 16], here.summary()),
            "as many, but others"
        );
        drop(there.clear([1; 16]));
        here.all().for_each(|user| there.came([1; 16], user));
        assert!(there.agrees([1; 16], here.summary()));
    }
}

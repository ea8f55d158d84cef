//! Which users have sessions at which server: soft, told in small steps, and asked for whole when the sums that
//! come with the heartbeats do not agree.

use std::collections::{HashMap, HashSet};

use tidings_core::UserId;
use xxhash_rust::xxh3::xxh3_64;

use super::message::NodeId;

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

    /// How many, and the sum of their hashes.
    pub(super) fn summary(&self) -> (u64, u64) {
        (self.users.len() as u64, self.sum)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = UserId> {
        self.users.iter().copied()
    }
}

/// The users of all other servers.
#[derive(Debug, Default)]
pub(super) struct Routes {
    nodes: HashMap<NodeId, UsersOf>,
    of_user: HashMap<UserId, Vec<NodeId>>,
}

impl Routes {
    pub(super) fn came(&mut self, node: NodeId, user: UserId) {
        if self.nodes.entry(node).or_default().insert(user) {
            self.of_user.entry(user).or_default().push(node);
        }
    }

    pub(super) fn went(&mut self, node: NodeId, user: UserId) {
        if self
            .nodes
            .get_mut(&node)
            .is_some_and(|users| users.remove(user))
        {
            self.forget(node, user);
        }
    }

    /// The server is gone, or tells all its users anew.
    pub(super) fn clear(&mut self, node: NodeId) {
        let users = self.nodes.remove(&node).unwrap_or_default();
        for user in users.all() {
            self.forget(node, user);
        }
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
    pub(super) fn agrees(&self, node: NodeId, summary: (u64, u64)) -> bool {
        self.nodes.get(&node).map_or((0, 0), UsersOf::summary) == summary
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
        routes.clear([2; 16]);
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
        there.clear([1; 16]);
        here.all().for_each(|user| there.came([1; 16], user));
        assert!(there.agrees([1; 16], here.summary()));
    }
}

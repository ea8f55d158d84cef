//! Which node is asked to coordinate a conditional request.
//!
//! Two coordinators of one partition get in each other's way until both time out, so all servers must choose
//! the same one: the first replica on the ring that is connected. The driver has such an order for what
//! ScyllaDB tells it is conditional, and for nothing else; its "do not shuffle" is an order of each program's own.

use scylla::cluster::{ClusterState, NodeRef};
use scylla::policies::load_balancing::{FallbackPlan, LoadBalancingPolicy, RoutingInfo};
use scylla::routing::Shard;

/// Replicas in the order of the ring, those of our data centre first, beginning with one of them.
#[derive(Debug)]
pub(crate) struct RingOrder {
    /// How many connected replicas are passed over: a request that is repeated goes to the next.
    pub(crate) passed_over: usize,
    /// The data centre whose nodes come first.
    pub(crate) data_centre: Option<String>,
}

impl RingOrder {
    fn replicas<'a>(
        &self,
        request: &RoutingInfo<'_>,
        cluster: &'a ClusterState,
    ) -> Vec<(NodeRef<'a>, Option<Shard>)> {
        let (Some(token), Some(table)) = (request.token, request.table) else {
            return Vec::new();
        };
        let Some(keyspace) = cluster.get_keyspace(table.ks_name()) else {
            return Vec::new();
        };
        cluster
            .replica_locator()
            .replicas_for_token(token, &keyspace.strategy, None, table)
            .into_replicas_ordered()
            .into_iter()
            .map(|(node, shard)| (node, Some(shard)))
            .collect()
    }

    /// Nodes that are likely to answer soon.
    fn is_near(&self, node: NodeRef<'_>) -> bool {
        let wanted = self.data_centre.as_ref();
        let is_here = wanted.is_none_or(|wanted| node.datacenter.as_ref() == Some(wanted));
        node.is_connected() && is_here
    }
}

impl LoadBalancingPolicy for RingOrder {
    fn pick<'a>(
        &'a self,
        _request: &'a RoutingInfo<'_>,
        _cluster: &'a ClusterState,
    ) -> Option<(NodeRef<'a>, Option<Shard>)> {
        // The whole order is asked for then.
        None
    }

    fn fallback<'a>(
        &'a self,
        request: &'a RoutingInfo<'_>,
        cluster: &'a ClusterState,
    ) -> FallbackPlan<'a> {
        let mut plan = self.replicas(request, cluster);
        plan.sort_by_key(|(node, _)| !self.is_near(node));
        let near = plan.iter().filter(|(node, _)| self.is_near(node)).count();
        if let Some(passed_over) = self.passed_over.checked_rem(near) {
            plan[..near].rotate_left(passed_over);
        }
        // No replica may be known (of a table in tablets, before the first answer) or connected.
        let all = cluster.replica_locator().unique_nodes_in_global_ring();
        let others: Vec<_> = all
            .iter()
            .filter(|node| plan.iter().all(|(one, _)| one.host_id != node.host_id))
            .map(|node| (node, None))
            .collect();
        Box::new(plan.into_iter().chain(others))
    }

    fn name(&self) -> String {
        "RingOrder".to_owned()
    }
}

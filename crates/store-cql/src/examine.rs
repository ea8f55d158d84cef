//! What there is of a cluster, for whoever wants to know whether it is as it should be: its nodes with their versions,
//! settings and clocks; the keyspace with its copies and the version of its tables. Changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::cluster::Node;
use scylla::deserialize::row::DeserializeRow;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::{Consistency, Statement};
use scylla::value::CqlTimestamp;
use tidings_store::StoreError;

use crate::cql;
use crate::schema;
use crate::settings::Settings;

/// The settings of Cassandra that matter here.
const MATTER: [&str; 4] = [
    "paxos_variant",
    "commitlog_sync",
    "disk_failure_policy",
    "commit_failure_policy",
];

/// A cluster as it was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examined {
    /// Its nodes, in the order of their addresses.
    pub nodes: Vec<ExaminedNode>,
    /// How the keyspace is laid over the nodes, as Cassandra says it (`class`, and copies by data centre);
    /// `None` if there is no such keyspace.
    pub replication: Option<BTreeMap<String, String>>,
    /// The version of the tables; `None` if they were never made.
    pub format: Option<i32>,
    /// Whether all nodes agree about the tables.
    pub agrees: bool,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExaminedNode {
    /// Address and port.
    pub address: String,
    /// Its data centre.
    pub data_centre: String,
    /// Its version; `None` if it does not answer.
    pub version: Option<String>,
    /// Those of its settings that matter, by name. Empty if it does not tell them (ScyllaDB).
    pub settings: BTreeMap<String, String>,
    /// How far its clock is ahead of this machine's, in milliseconds.
    pub ahead_ms: Option<i64>,
}

/// Looks at the cluster.
///
/// # Errors
/// When no node can be reached.
pub async fn examine(settings: &Settings) -> Result<Examined, StoreError> {
    let session = cql::connect(settings).await?;
    let mut nodes = Vec::new();
    for node in session.get_cluster_state().get_nodes_info() {
        nodes.push(examine_node(&session, node, settings).await);
    }
    nodes.sort_by(|one, other| one.address.cmp(&other.address));
    let replication = replication_of(&session, &settings.keyspace).await?;
    let mut format = None;
    if replication.is_some()
        && cql::use_keyspace(&session, &settings.keyspace)
            .await
            .is_ok()
    {
        format = schema::format(&session).await?;
    }
    let agreed = session.check_schema_agreement().await;
    Ok(Examined {
        nodes,
        replication,
        format,
        agrees: agreed.is_ok_and(|version| version.is_some()),
    })
}

async fn replication_of(
    session: &Session,
    keyspace: &str,
) -> Result<Option<BTreeMap<String, String>>, StoreError> {
    let statement = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let failed = |error: String| StoreError::Unavailable(error);
    let answer = session.query_unpaged(statement, (keyspace,)).await;
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    let rows = answer.into_rows_result();
    let rows = rows.map_err(|error| failed(error.to_string()))?;
    let row = rows.maybe_first_row::<(BTreeMap<String, String>,)>();
    Ok(row
        .map_err(|error| failed(error.to_string()))?
        .map(|(options,)| options))
}

async fn examine_node(session: &Session, node: &Arc<Node>, settings: &Settings) -> ExaminedNode {
    let mut examined = ExaminedNode {
        address: node.address.to_string(),
        data_centre: node.datacenter.clone().unwrap_or_default(),
        ..ExaminedNode::default()
    };
    let asks = At {
        session,
        profile: at(node, settings),
    };
    let before = now_ms();
    let told = asks
        .rows::<(String, CqlTimestamp)>(
            "SELECT release_version, toTimestamp(now()) FROM system.local",
        )
        .await;
    if let Some((version, CqlTimestamp(theirs))) = told.and_then(|rows| rows.into_iter().next()) {
        let ours = before + (now_ms() - before) / 2;
        examined.version = Some(version);
        examined.ahead_ms = Some(theirs - ours);
    }
    let told = asks
        .rows::<(String, Option<String>)>("SELECT name, value FROM system_views.settings")
        .await;
    let matter = |(name, value): (String, Option<String>)| {
        MATTER
            .contains(&name.as_str())
            .then(|| Some((name, value?)))?
    };
    examined.settings = told.into_iter().flatten().filter_map(matter).collect();
    examined
}

/// Requests to one node.
struct At<'a> {
    session: &'a Session,
    profile: ExecutionProfile,
}

impl At<'_> {
    /// The rows; `None` if the node does not answer, or has no such table.
    async fn rows<R>(&self, text: &str) -> Option<Vec<R>>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let mut statement = Statement::new(text);
        statement.set_execution_profile_handle(Some(self.profile.clone().into_handle()));
        let answer = self.session.query_unpaged(statement, ()).await.ok()?;
        let rows = answer.into_rows_result().ok()?;
        rows.rows::<R>().ok()?.collect::<Result<_, _>>().ok()
    }
}

fn at(node: &Arc<Node>, settings: &Settings) -> ExecutionProfile {
    let target = NodeIdentifier::Node(node.clone());
    ExecutionProfile::builder()
        .consistency(Consistency::One)
        .request_timeout(Some(settings.request_timeout * 3))
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .load_balancing_policy(SingleTargetLoadBalancingPolicy::new(target, None))
        .build()
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

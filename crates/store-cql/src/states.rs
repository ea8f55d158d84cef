//! States and members: one partition per log, written whole and only upwards.

use tidings_core::UserId;
use tidings_core::log::LogId;
use tidings_store::{MemberQuery, StateSnapshot, StoreError, StoredMember};

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::cql::{Conditional, big, blob, log_value, seq_number};
use crate::rows;
use crate::store::Inner;

impl Inner {
    /// [`tidings_store::Store::write_state`].
    pub(crate) async fn write_state(
        &self,
        log: LogId,
        state: StateSnapshot,
    ) -> Result<(), StoreError> {
        let statements = &self.cql.statements;
        let seq = seq_number(state.seq);
        let head = vec![big(seq), blob(state.state.clone()), log_value(log)];
        let mut next = head.clone();
        next.push(big(seq));
        let members: Vec<_> = state
            .members
            .iter()
            .map(|(user, data)| {
                (
                    &statements.put_member,
                    vec![log_value(log), blob(user.0), blob(data.clone())],
                )
            })
            .collect();
        // Two batches, of which one finds its condition: a null is neither below nor above.
        let batches = [
            (&statements.next_state, next),
            (&statements.first_state, head),
        ]
        .map(|first| [vec![first], members.clone()].concat());
        let end = Instant::now() + self.cql.settings.patience;
        let mut pause = Duration::from_millis(10);
        let mut tries = 0;
        loop {
            let mut unknown = None;
            for batch in &batches {
                match self.cql.conditional(batch, tries).await? {
                    Conditional::Applied => return Ok(()),
                    Conditional::Refused => {}
                    Conditional::Unknown(why) => unknown = Some(why),
                }
            }
            let stored: Option<(Option<i64>,)> = self
                .cql
                .first_serial(&statements.state, (log.to_bytes(),))
                .await?
                .map(|(seq, _): (Option<i64>, Option<Vec<u8>>)| (seq,));
            if stored
                .and_then(|(stored,)| stored)
                .is_some_and(|stored| stored >= seq)
            {
                return Ok(());
            }
            if Instant::now() + pause >= end {
                let why = unknown.unwrap_or_else(|| "the state moved all the time".to_owned());
                return Err(StoreError::Unavailable(why));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(300));
            tries += 1;
        }
    }

    /// [`tidings_store::Store::read_state`].
    pub(crate) async fn read_state(&self, log: LogId) -> Result<Option<StateSnapshot>, StoreError> {
        let row: Option<(Option<i64>, Option<Vec<u8>>)> = self
            .cql
            .first(&self.cql.statements.state, (log.to_bytes(),))
            .await?;
        let Some((Some(seq), Some(state))) = row else {
            return Ok(None);
        };
        Ok(Some(StateSnapshot {
            seq: rows::seq(seq),
            state,
            members: Vec::new(),
        }))
    }

    /// [`tidings_store::Store::read_members`].
    pub(crate) async fn read_members(
        &self,
        log: LogId,
        query: MemberQuery,
    ) -> Result<Vec<StoredMember>, StoreError> {
        let statements = &self.cql.statements;
        let rows: Vec<(Vec<u8>, Vec<u8>)> = match query {
            MemberQuery::Named(users) => {
                let users: BTreeSet<UserId> = users.into_iter().collect();
                let reads = users.into_iter().map(|user| {
                    self.cql
                        .first::<(Vec<u8>, Vec<u8>)>(&statements.member, (log.to_bytes(), user.0))
                });
                futures_util::future::try_join_all(reads)
                    .await?
                    .into_iter()
                    .flatten()
                    .collect()
            }
            MemberQuery::From { after, limit } => {
                let limit = i32::try_from(limit.max(1)).unwrap_or(i32::MAX);
                match after {
                    Some(after) => {
                        let values = (log.to_bytes(), after.0.to_vec(), limit);
                        self.cql.rows(&statements.members, values).await?
                    }
                    None => {
                        let values = (log.to_bytes(), Vec::<u8>::new(), limit);
                        self.cql.rows(&statements.members_all, values).await?
                    }
                }
            }
        };
        rows.into_iter()
            .map(|(member, data)| Ok((UserId(rows::id(&member)?), data)))
            .collect()
    }
}

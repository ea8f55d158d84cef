//! The rules that never break, and the cases that usually go wrong, each by name, against the real program.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod accounts;
mod bad_input;
mod devices;
mod erasing;
mod groups;
mod large_group;
mod membership;
mod order;
mod owed;
mod pages;
mod presence;
mod retention;
mod retries;
mod scripts;
mod unread;

use tidings_core::{ClientId, ConversationId};
use tidings_protocol::send::{Action, Send, Sent};
use tidings_protocol::{ClientFrame, Code, ServerFrame};
use tidings_testing::wire::Connection;

/// The tests that run on every way to the server.
mod way {
    pub(crate) use super::devices::{
        new_device_gets_conversations_and_pages_history,
        private_map_is_pushed_to_the_other_devices, read_on_one_clears_the_badge_on_the_others,
        revoked_device_is_cut_off_within_a_second,
    };
    pub(crate) use super::membership::{leave_and_rejoin, removed_member_is_served_nothing};
    pub(crate) use super::order::{behind_one_that_was_refused, cancelled_send};
    pub(crate) use super::pages::page_around_an_old_message_that_was_altered;
    pub(crate) use super::presence::read_receipts_are_mutual;
    pub(crate) use super::retries::{
        retry_after_a_restart, retry_after_removal, retry_from_two_connections_at_once,
    };
}

tidings_testing::each_way! {
    read_on_one_clears_the_badge_on_the_others;
    new_device_gets_conversations_and_pages_history;
    private_map_is_pushed_to_the_other_devices;
    revoked_device_is_cut_off_within_a_second;
    leave_and_rejoin;
    removed_member_is_served_nothing;
    behind_one_that_was_refused;
    cancelled_send;
    page_around_an_old_message_that_was_altered;
    read_receipts_are_mutual;
    retry_after_removal;
    retry_after_a_restart;
    retry_from_two_connections_at_once;
}

/// A send into a conversation.
fn send(conversation: ConversationId, client_id: ClientId, action: Action) -> ClientFrame {
    ClientFrame::Send(Send {
        id: 0,
        conversation: Some(conversation),
        to: None,
        client_id,
        after: None,
        if_epoch: None,
        action,
        first: false,
    })
}

/// The same send, said to have nothing before it.
fn first(frame: ClientFrame) -> ClientFrame {
    match frame {
        ClientFrame::Send(send) => ClientFrame::Send(Send {
            first: true,
            ..send
        }),
        other => other,
    }
}

/// Sends and expects that it becomes an entry.
async fn sent(connection: &mut Connection, frame: ClientFrame) -> Sent {
    match connection.ask(frame).await.unwrap() {
        ServerFrame::Sent(sent) => sent,
        other => panic!("{other:?}"),
    }
}

/// Asks and expects to be refused.
async fn refused(connection: &mut Connection, frame: ClientFrame) -> Code {
    connection.refused(frame).await.unwrap().code
}

//! A small server without sockets: people, their devices and sessions.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_core::{ClientId, ConversationId, Time, UserId, digest};
use tidings_protocol::account::{LogIn, SignUp};
use tidings_protocol::entry::{Content, Settings};
use tidings_protocol::mark::MarkUpdate;
use tidings_protocol::send::{
    Action, CreateAction, InviteAction, MemberAction, MessageAction, NoDetail, Position, Send, Sent,
};
use tidings_protocol::sync::{
    Conversation as Summary, ConversationRequest, HistoryPage, HistoryRequest, InboxRequest,
};
use tidings_protocol::{Encoding, Problem, ServerFrame};
use tidings_store::memory::MemoryStore;
use tokio::sync::oneshot;

use crate::chat::{Chat, Reply};
use crate::clock::{Clock, random};
use crate::config::{ChatSettings, UsersSettings};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::session::{Caller, Drained, QueueLimits, Session};
use crate::users::Users;

const PASSWORD: &str = "correct horse";

pub(super) struct World {
    pub store: MemoryStore,
    pub hub: Arc<Hub>,
    pub users: Arc<Users>,
    pub chat: Arc<Chat>,
    pub settings: ChatSettings,
    clock: Arc<AtomicU64>,
}

/// A device and, if it is connected, its session.
#[derive(Clone)]
pub(super) struct Device {
    pub caller: Caller,
    pub session: Option<Arc<Session>>,
}

impl World {
    pub(super) fn new() -> World {
        World::with(ChatSettings {
            trim_delay_ms: 1,
            gather_marks_ms: 1,
            ..ChatSettings::default()
        })
    }

    pub(super) fn with(settings: ChatSettings) -> World {
        let clock = Arc::new(AtomicU64::new(1_795_262_400_000));
        World::on(MemoryStore::new(), settings, clock)
    }

    fn on(store: MemoryStore, settings: ChatSettings, millis: Arc<AtomicU64>) -> World {
        let hub = Arc::new(Hub::new(
            QueueLimits {
                frames_max: 10_000,
                bytes_max: 1 << 24,
            },
            4,
        ));
        let metrics = Arc::new(Metrics::default());
        let clock = Clock::Manual(millis.clone());
        let users_settings = UsersSettings {
            password_memory_kib: 8,
            password_passes: 1,
            address_sign_up_interval_ms: 0,
            ..UsersSettings::default()
        };
        let shared: Arc<dyn tidings_store::Store> = Arc::new(store.clone());
        let users = Users::new(
            shared.clone(),
            hub.clone(),
            clock.clone(),
            users_settings,
            Vec::new(),
            metrics.clone(),
        );
        let chat = Chat::new(
            shared,
            hub.clone(),
            users.clone(),
            clock,
            settings.clone(),
            metrics,
        );
        World {
            store,
            hub,
            users,
            chat,
            settings,
            clock: millis,
        }
    }

    /// The same store under a new server: everything in memory is forgotten.
    pub(super) fn restarted(&self) -> World {
        World::on(
            self.store.clone(),
            self.settings.clone(),
            self.clock.clone(),
        )
    }

    pub(super) fn advance(&self, millis: u64) {
        self.clock.fetch_add(millis, Ordering::Relaxed);
    }

    pub(super) async fn person(&self, username: &str) -> Device {
        let sign_up = SignUp {
            username: username.to_owned(),
            password: PASSWORD.to_owned(),
            display_name: String::new(),
            device_name: "first".to_owned(),
        };
        let logged_in = self
            .users
            .sign_up(sign_up, IpAddr::V4(Ipv4Addr::LOCALHOST))
            .await
            .unwrap();
        self.device(Caller {
            user: logged_in.profile.user,
            device: logged_in.device,
        })
        .await
    }

    pub(super) async fn another_device(&self, username: &str) -> Device {
        let log_in = LogIn {
            username: username.to_owned(),
            password: PASSWORD.to_owned(),
            device_name: "another".to_owned(),
            cookie: false,
        };
        let logged_in = self
            .users
            .log_in(log_in, IpAddr::V4(Ipv4Addr::LOCALHOST))
            .await
            .unwrap();
        let caller = Caller {
            user: logged_in.profile.user,
            device: logged_in.device,
        };
        self.chat.device_added(caller).await.unwrap();
        self.device(caller).await
    }

    async fn device(&self, caller: Caller) -> Device {
        let mut device = Device {
            caller,
            session: None,
        };
        self.connect(&mut device).await;
        device
    }

    pub(super) async fn connect(&self, device: &mut Device) {
        let session = self.hub.open(device.caller, Encoding::Json);
        self.chat.attach(&session, Vec::new()).await.unwrap();
        device.session = Some(session);
    }

    pub(super) fn disconnect(&self, device: &mut Device) {
        if let Some(session) = device.session.take() {
            self.chat.detach(&session);
            self.hub.close(&session);
        }
    }

    pub(super) async fn send(&self, device: &Device, send: Send) -> Result<Sent, Problem> {
        self.send_later(device, send).await.unwrap()
    }

    /// Hands the send over without waiting for its answer.
    pub(super) fn send_later(
        &self,
        device: &Device,
        send: Send,
    ) -> oneshot::Receiver<Result<Sent, Problem>> {
        let (reply, answer) = oneshot::channel();
        self.chat.send(device.caller, send, Reply::Once(reply));
        answer
    }

    pub(super) async fn say(&self, device: &Device, to: Where, text: &str) -> Sent {
        self.send(device, said(to, text)).await.unwrap()
    }

    pub(super) async fn group(
        &self,
        owner: &Device,
        others: &[&Device],
        settings: Settings,
    ) -> ConversationId {
        let users = others.iter().map(|device| device.caller.user).collect();
        let create = Action::Create(CreateAction {
            users,
            settings,
            kind: None,
        });
        self.send(owner, act(None, create))
            .await
            .unwrap()
            .conversation
    }

    pub(super) async fn invite(&self, by: &Device, group: ConversationId, who: &Device) {
        let invite = Action::Invite(InviteAction {
            users: vec![who.caller.user],
        });
        self.send(by, act(Some(group), invite)).await.unwrap();
    }

    pub(super) async fn remove(&self, by: &Device, group: ConversationId, who: &Device) {
        let remove = Action::Remove(MemberAction {
            user: who.caller.user,
        });
        self.send(by, act(Some(group), remove)).await.unwrap();
    }

    pub(super) async fn leave(&self, who: &Device, group: ConversationId) {
        self.send(who, act(Some(group), Action::Leave(NoDetail {})))
            .await
            .unwrap();
    }

    pub(super) async fn mark(
        &self,
        device: &Device,
        conversation: ConversationId,
        delivered: u64,
        read: u64,
    ) {
        let some = |seq: u64| Some(seq).filter(|seq| *seq > 0);
        let update = MarkUpdate {
            conversation,
            delivered: some(delivered),
            read: some(read),
            generation: None,
        };
        self.chat
            .mark(device.caller, None, &[update])
            .await
            .unwrap();
    }

    pub(super) async fn conversation(
        &self,
        device: &Device,
        conversation: ConversationId,
    ) -> Result<Summary, Problem> {
        let request = ConversationRequest {
            id: 1,
            conversation,
        };
        Ok(self
            .chat
            .conversation(device.caller, request)
            .await?
            .conversation)
    }

    pub(super) async fn inbox(&self, device: &Device) -> Vec<Summary> {
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let request = InboxRequest {
                id: 1,
                cursor,
                limit: Some(2),
            };
            let page = self.chat.inbox(device.caller, request).await.unwrap();
            all.extend(page.conversations);
            cursor = page.next;
            if cursor.is_none() {
                return all;
            }
        }
    }

    pub(super) async fn after(
        &self,
        device: &Device,
        conversation: ConversationId,
        after: u64,
    ) -> Result<HistoryPage, Problem> {
        self.chat
            .history(
                device.caller,
                HistoryRequest {
                    after: Some(after),
                    ..history(conversation)
                },
            )
            .await
    }

    pub(super) async fn texts(&self, device: &Device, conversation: ConversationId) -> Vec<String> {
        let (mut texts, mut after) = (Vec::new(), 0);
        loop {
            let page = self.after(device, conversation, after).await.unwrap();
            after = page.to;
            texts.extend(
                page.entries
                    .into_iter()
                    .filter_map(|entry| entry.content.map(|content| content.text)),
            );
            if !page.more {
                return texts;
            }
        }
    }

    /// The digest as a client computes it from its inbox.
    pub(super) async fn digest_of_inbox(&self, device: &Device) -> u64 {
        let me = device.caller.user;
        let mut sum = 0;
        for one in self.inbox(device).await {
            let id = one.conversation;
            sum = digest::add(sum, digest::head(id, one.generation, one.head, one.at));
            sum = digest::add(sum, digest::read(id, me, one.read.seq));
            if one.member_count <= 32 {
                for member in one.members.iter().filter(|member| member.user != me) {
                    sum = digest::add(
                        sum,
                        digest::delivered(id, member.user, member.marks.delivered),
                    );
                    sum = digest::add(sum, digest::shown(id, member.user, member.marks.shown));
                }
            }
        }
        sum
    }

    pub(super) fn digest(&self, device: &Device) -> u64 {
        self.hub
            .user(device.caller.user)
            .map_or(0, |hub| hub.digest())
    }

    /// Lets gathered marks, trims and the like happen.
    pub(super) async fn settle(&self) {
        for _ in 0..20 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            tokio::task::yield_now().await;
        }
    }
}

/// In which conversation, or with whom.
#[derive(Clone, Copy)]
pub(super) enum Where {
    To(UserId),
    In(ConversationId),
}

pub(super) fn said(to: Where, text: &str) -> Send {
    let content = Content {
        text: text.to_owned(),
        ..Content::default()
    };
    let mut send = act(
        None,
        Action::Message(MessageAction {
            content,
            ..MessageAction::default()
        }),
    );
    match to {
        Where::To(user) => send.to = Some(user),
        Where::In(conversation) => send.conversation = Some(conversation),
    }
    send
}

pub(super) fn act(conversation: Option<ConversationId>, action: Action) -> Send {
    Send {
        id: 1,
        conversation,
        to: None,
        client_id: ClientId::new(Time(0), random()),
        after: None,
        if_epoch: None,
        action,
        first: false,
    }
}

pub(super) fn after(sent: &Sent) -> Position {
    Position {
        generation: sent.generation,
        seq: sent.seq,
    }
}

pub(super) fn history(conversation: ConversationId) -> HistoryRequest {
    HistoryRequest {
        id: 1,
        conversation,
        after: None,
        before: None,
        around: None,
        limit: None,
        generation: None,
        hash: None,
    }
}

impl Device {
    /// The frames that wait for this device.
    pub(super) fn frames(&self) -> Vec<ServerFrame> {
        let session = self.session.as_ref().unwrap();
        let mut buffer = VecDeque::new();
        session.linger_no_more();
        while session.drain(&mut buffer, usize::MAX) == Drained::Frames {}
        buffer
            .iter()
            .map(|bytes| Encoding::Json.decode(bytes).unwrap())
            .collect()
    }
}

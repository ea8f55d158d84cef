//! A server on a free port, and clients as plain as they come.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tidings_core::{DeviceId, UserId};
use tidings_protocol::account::SignUp;
use tidings_protocol::{ClientFrame, Encoding, Problem, ServerFrame};
use tidings_store::Store;
use tidings_store::memory::MemoryStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::chat::Chat;
use crate::clock::Clock;
use crate::config::Settings;
use crate::gateway::listener::{BoundedListener, Bounds};
use crate::gateway::{App, router, serving};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::session::Caller;
use crate::users::{Neighbours, Users};

pub(super) const PASSWORD: &str = "correct horse";
/// Long enough for a busy machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct World {
    pub(super) address: SocketAddr,
    pub(super) app: Arc<App>,
}

pub(super) struct Person {
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    pub(super) token: String,
}

struct Together {
    chat: Arc<Chat>,
    presence: Arc<Presence>,
}

impl Neighbours for Together {
    fn device_added(&self, caller: Caller) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(self.chat.device_added(caller))
    }

    fn device_removed(&self, caller: Caller) -> BoxFuture<'_, ()> {
        Box::pin(self.chat.device_removed(caller))
    }

    fn share_conversation(
        &self,
        one: UserId,
        other: UserId,
    ) -> BoxFuture<'_, Result<bool, Problem>> {
        Box::pin(async move { self.chat.share_conversation(one, other).await })
    }

    fn visibility_changed(&self, user: UserId) {
        self.presence.visibility_changed(user);
    }
}

impl World {
    pub(super) async fn new() -> World {
        World::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Settings)) -> World {
        let mut settings = Settings::default();
        settings.users.password_memory_kib = 8;
        settings.users.password_passes = 1;
        change(&mut settings);
        let settings = Arc::new(settings);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let sessions = &settings.sessions;
        let hub = Arc::new(Hub::new(
            sessions.queue_limits(),
            sessions.sessions_per_device_max,
        ));
        let metrics = Arc::new(Metrics::default());
        let clock = Clock::System;
        let users = Users::new(
            store.clone(),
            hub.clone(),
            clock.clone(),
            settings.users.clone(),
            Vec::new(),
            metrics.clone(),
        );
        let chat = Chat::new(
            store,
            hub.clone(),
            users.clone(),
            clock.clone(),
            settings.chat.clone(),
            metrics.clone(),
        );
        let presence = Presence::new(
            hub.clone(),
            users.clone(),
            clock.clone(),
            settings.presence.clone(),
        );
        users.set_neighbours(Arc::new(Together {
            chat: chat.clone(),
            presence: presence.clone(),
        }));
        let app = App::new(
            chat,
            users,
            presence,
            hub,
            metrics,
            settings,
            clock,
            Arc::default(),
        );
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Bounds {
            connections_max: 1_000,
            address_connections_max: None,
        };
        let listener = BoundedListener::new(listener, bounds);
        let request_within = Duration::from_millis(app.settings.limits.request_within_ms);
        let forever = std::future::pending();
        tokio::spawn(serving::serve(
            listener,
            router(app.clone()),
            request_within,
            forever,
        ));
        World { address, app }
    }

    pub(super) async fn person(&self, username: &str) -> Person {
        let sign_up = SignUp {
            username: username.to_owned(),
            password: PASSWORD.to_owned(),
            display_name: String::new(),
            device_name: "first".to_owned(),
        };
        let logged_in = self
            .app
            .users
            .sign_up(sign_up, IpAddr::V4(Ipv4Addr::LOCALHOST))
            .await
            .unwrap();
        Person {
            user: logged_in.profile.user,
            device: logged_in.device,
            token: logged_in.token.unwrap(),
        }
    }

    /// The handshake, with more headers.
    pub(super) async fn handshake(
        &self,
        protocol: Option<&str>,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, Error> {
        let mut request = format!("ws://{}/v1/connect", self.address)
            .into_client_request()
            .unwrap();
        if let Some(protocol) = protocol {
            let value = protocol.parse().unwrap();
            request
                .headers_mut()
                .insert("sec-websocket-protocol", value);
        }
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        let encoding = protocol.and_then(Encoding::from_subprotocol);
        Ok(Client {
            socket,
            encoding: encoding.unwrap_or(Encoding::Json),
        })
    }

    /// A connection that has not said hello.
    pub(super) async fn open(&self, encoding: Encoding) -> Client {
        self.handshake(Some(encoding.subprotocol()), &[])
            .await
            .unwrap()
    }

    /// A connection with a session.
    pub(super) async fn connect(&self, person: &Person, encoding: Encoding) -> Client {
        let mut client = self.open(encoding).await;
        client.hello(&person.token).await;
        client
    }

    /// One HTTP request.
    pub(super) async fn http(&self, request: Request<'_>) -> Answer {
        let mut stream = self.start(request).await;
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
            .await
            .unwrap()
            .unwrap();
        Answer::read(&bytes)
    }

    /// Sends an HTTP request and leaves the answer to be read.
    pub(super) async fn start(&self, request: Request<'_>) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut head = format!(
            "{} {} HTTP/1.1\r\nconnection: close\r\n",
            request.method, request.path
        );
        if !request.headers.iter().any(|(name, _)| *name == "host") {
            head += &format!("host: {}\r\n", self.address);
        }
        for (name, value) in &request.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", request.body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        // The answer may come before the body is read.
        let _ = stream.write_all(&request.body).await;
        stream
    }
}

/// The address of the poll that follows on this answer, and waits so many seconds.
pub(super) fn next_poll(poll: &Value, wait: u64) -> String {
    format!(
        "/v1/events?session={}&after={}&wait={wait}",
        poll["session"].as_str().unwrap(),
        poll["last"]
    )
}

impl Person {
    pub(super) fn get<'r>(&'r self, path: &'r str) -> Request<'r> {
        self.ask("GET", path)
    }

    pub(super) fn post<'r>(&'r self, path: &'r str, body: &Value) -> Request<'r> {
        self.ask("POST", path).json(body)
    }

    pub(super) fn ask<'r>(&'r self, method: &'r str, path: &'r str) -> Request<'r> {
        let token = format!("Bearer {}", self.token);
        Request::new(method, path).header("authorization", &token)
    }
}

pub(super) struct Request<'r> {
    method: &'r str,
    path: &'r str,
    headers: Vec<(&'r str, String)>,
    body: Vec<u8>,
}

impl<'r> Request<'r> {
    pub(super) fn new(method: &'r str, path: &'r str) -> Request<'r> {
        Request {
            method,
            path,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(super) fn header(mut self, name: &'r str, value: &str) -> Request<'r> {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn json(self, body: &Value) -> Request<'r> {
        self.json_bytes(body.to_string().into_bytes())
    }

    /// A body that says it is JSON.
    pub(super) fn json_bytes(self, body: Vec<u8>) -> Request<'r> {
        self.bytes(body).header("content-type", "application/json")
    }

    pub(super) fn bytes(mut self, body: Vec<u8>) -> Request<'r> {
        self.body = body;
        self
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn read(bytes: &[u8]) -> Answer {
        let split = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Answer {
            status: status.parse().unwrap(),
            headers,
            body: bytes[split + 4..].to_vec(),
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The name of the problem, of a proper problem document.
    #[track_caller]
    pub(super) fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        let name = problem["type"].as_str().unwrap();
        name.strip_prefix("tidings:").unwrap().to_owned()
    }
}

pub(super) struct Client {
    pub(super) socket: WebSocketStream<TcpStream>,
    encoding: Encoding,
}

impl Client {
    pub(super) async fn send(&mut self, frame: &Value) {
        self.send_raw(self.message(frame)).await;
    }

    /// Several frames in one write.
    pub(super) async fn send_all(&mut self, frames: &[Value]) {
        for frame in frames {
            let message = self.message(frame);
            self.socket.feed(message).await.unwrap();
        }
        self.socket.flush().await.unwrap();
    }

    pub(super) async fn send_raw(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    fn message(&self, frame: &Value) -> Message {
        match self.encoding {
            Encoding::Json => Message::text(frame.to_string()),
            Encoding::Cbor => {
                let frame: ClientFrame = serde_json::from_value(frame.clone()).unwrap();
                Message::binary(self.encoding.encode(&frame).unwrap())
            }
        }
    }

    /// Says hello and reads `welcome`.
    pub(super) async fn hello(&mut self, token: &str) -> Value {
        self.send(&json!({ "hello": { "id": 1, "token": token } }))
            .await;
        let welcome = self.next().await;
        assert_eq!(welcome["welcome"]["id"], 1, "{welcome}");
        welcome
    }

    /// The next frame, in JSON whatever the encoding.
    pub(super) async fn next(&mut self) -> Value {
        match self.read().await {
            Ok(frame) => frame,
            Err(close) => panic!("closed: {close:?}"),
        }
    }

    /// The next frame, or how the connection was closed.
    pub(super) async fn read(&mut self) -> Result<Value, Option<CloseFrame>> {
        let message = tokio::time::timeout(PATIENCE, self.socket.next())
            .await
            .expect("nothing came");
        let bytes = match message {
            Some(Ok(Message::Text(text))) => {
                assert_eq!(self.encoding, Encoding::Json);
                return Ok(serde_json::from_str(&text).unwrap());
            }
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Close(close))) => return Err(close),
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(_)) | None => return Err(None),
        };
        assert_eq!(self.encoding, Encoding::Cbor);
        let frame: ServerFrame = self.encoding.decode(&bytes).unwrap();
        Ok(serde_json::to_value(frame).unwrap())
    }

    /// The frames until `name` comes, and it.
    pub(super) async fn until(&mut self, name: &str) -> Value {
        loop {
            let frame = self.next().await;
            if let Some(content) = frame.get(name) {
                return content.clone();
            }
        }
    }

    /// Reads to the end: the reason of `bye` and the close code.
    pub(super) async fn end(&mut self) -> (String, u16) {
        let mut reason = String::new();
        loop {
            match self.read().await {
                Ok(frame) => {
                    if let Some(bye) = frame.get("bye") {
                        reason = bye["reason"].as_str().unwrap().to_owned();
                    }
                }
                Err(close) => {
                    let code = close.map_or(0, |close| close.code.into());
                    return (reason.replace("tidings:", ""), code);
                }
            }
        }
    }
}

/// A message to somebody, as a frame.
pub(super) fn message(id: u64, to: UserId, text: &str) -> Value {
    json!({ "send": {
        "id": id,
        "to": to,
        "client_id": client_id(id),
        "action": { "message": { "content": { "text": text } } },
    }})
}

pub(super) fn client_id(number: u64) -> String {
    format!("01900000-0000-7000-8000-{number:012x}")
}

//! `tidings chat`: the screen of the terminal.
//!
//! In: keys, and changes that the client tells. Next: [`app`] decides what they do, [`view`] draws.

mod app;
mod clock;
mod command;
mod editor;
mod keys;
mod lookup;
mod messages;
mod model;
mod screen;
mod terminal;
mod view;
mod wrap;

use std::io::{self, Write};
use std::time::Duration;

use crossterm::event::{Event as TerminalEvent, EventStream, KeyEventKind, MouseEventKind};
use futures_util::StreamExt;
use http::Method;
use jiff::tz::TimeZone;
use tidings_client::{Change, Config, Limits, Status};
use tidings_protocol::account::Devices;
use tidings_protocol::{Code, Problem, Retry};
use tokio::sync::mpsc;

use crate::account::{self, Account, AccountError, AccountFiles};
use crate::args::ChatArgs;
use crate::driver::connection::Dialling;
use crate::driver::http::{Http, HttpError};
use crate::driver::{self, Driver, now};
use crate::store::{Store, StoreError};
use app::App;
use clock::Clock;
use keys::{Typing, Wish};
use model::Model;
use screen::Overlay;
use terminal::Terminal;
use view::Shown;

/// So often what depends on the time is drawn anew.
const TICK: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Lines that one turn of the wheel scrolls.
const WHEEL_LINES: isize = 3;

/// Why there is no chat (any more).
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// Nobody is logged in.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The local history has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The terminal has failed.
    #[error("the terminal: {0}")]
    Terminal(#[from] io::Error),
    /// This device was logged out.
    #[error("{0} Start again to log in; the history stays.")]
    LoggedOut(String),
    /// The system has no randomness.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Everything that can wake the chat.
#[allow(
    clippy::large_enum_variant,
    reason = "lives for the moment between two calls"
)]
enum Event {
    Driver(driver::Event),
    Terminal(TerminalEvent),
    Devices(Result<Devices, HttpError>),
    Tick,
    Stop,
}

/// Talks in the terminal until the user has had enough.
///
/// # Errors
/// When nobody is logged in, the history cannot be opened, or the terminal goes.
pub async fn chat(args: ChatArgs) -> Result<(), ChatError> {
    let (account, files, network) = account::open(&args.server).await?;
    let store = Store::open(&files.history())?;
    let dialling = Dialling {
        network,
        token: account.token.clone(),
        encoding: args.transport.encoding(),
        transport: args.transport.transport,
    };
    let config = Config {
        user: account.user,
        device: account.device,
        token: Some(account.token.clone()),
        client: concat!("tidings chat ", env!("CARGO_PKG_VERSION")).to_owned(),
        seed: getrandom::u64().map_err(ChatError::Random)?,
        limits: Limits::default(),
    };
    let mut driver = Driver::new(config, store, dialling.clone());
    let model = Model::new(
        account.user,
        account.username.clone(),
        args.server.server.authority(),
    );
    let mut app = App::new(
        model,
        Clock {
            now: now(),
            zone: TimeZone::system(),
        },
    );
    let title = format!("Tidings · {}", account.username);
    let ended = {
        let mut terminal = Terminal::take(&title, args.mouse)?;
        run(&mut app, &mut driver, &mut terminal, &dialling).await
    };
    let finished = driver.finish().await;
    ended?;
    finished?;
    logged_out(&app, &account, &files)
}

/// If the server does not know the token any more, it is of no use here either.
fn logged_out(app: &App, account: &Account, files: &AccountFiles) -> Result<(), ChatError> {
    match stopped(app) {
        Some(code) if Problem::new(code).retry == Retry::LogIn => {
            files
                .forget()
                .map_err(|error| AccountError::File(files.session(), error))?;
            let title = Problem::new(code).title;
            Err(ChatError::LoggedOut(format!(
                "{} on {}: {title}",
                account.username, account.server
            )))
        }
        _ => Ok(()),
    }
}

fn stopped(app: &App) -> Option<Code> {
    match app.screen.model.status {
        Status::Stopped(code) => code,
        _ => None,
    }
}

async fn run(
    app: &mut App,
    driver: &mut Driver,
    terminal: &mut Terminal,
    dialling: &Dialling,
) -> Result<(), ChatError> {
    let mut keys = EventStream::new();
    let (devices_sender, mut devices) = mpsc::channel(1);
    let mut tick = tokio::time::interval(TICK);
    let mut stop = std::pin::pin!(stop_signal());
    let mut unread = 0;
    loop {
        settle(app, driver);
        if app.quits || stopped(app).is_some_and(|code| Problem::new(code).retry == Retry::LogIn) {
            return Ok(());
        }
        if std::mem::take(&mut app.repaints) {
            terminal.repaint()?;
        }
        let shown = terminal.draw(|frame| view::draw(frame, &app.screen))?;
        app.shown(driver.client(), &shown, now());
        settle(app, driver);
        let unread_now = app
            .screen
            .model
            .conversations
            .iter()
            .map(|view| view.unread)
            .sum::<u64>();
        if unread_now != unread {
            unread = unread_now;
            let count = if unread == 0 {
                String::new()
            } else {
                format!("({unread}) ")
            };
            terminal.set_title(&format!("{count}Tidings · {}", app.screen.model.username))?;
        }
        if std::mem::take(&mut app.bell) {
            io::stdout().write_all(b"\x07")?;
            io::stdout().flush()?;
        }
        if std::mem::take(&mut app.wants_devices) {
            tokio::spawn(ask_devices(dialling.clone(), devices_sender.clone()));
        }
        let event = tokio::select! {
            event = driver.next_event() => Event::Driver(event),
            event = keys.next() => match event {
                Some(event) => Event::Terminal(event?),
                None => Event::Stop,
            },
            Some(answer) = devices.recv() => Event::Devices(answer),
            _ = tick.tick() => Event::Tick,
            () = &mut stop => Event::Stop,
        };
        match event {
            Event::Driver(event) => driver.handle(event)?,
            Event::Terminal(event) => handle_terminal(app, driver, event, &shown),
            Event::Devices(answer) => show_devices(app, answer),
            Event::Tick => {}
            Event::Stop => app.quits = true,
        }
    }
}

/// Does what the client asks for, until it asks for nothing more, and takes over what it says.
fn settle(app: &mut App, driver: &mut Driver) {
    loop {
        let mut changes: Vec<Change> = Vec::new();
        changes.extend(std::iter::from_fn(|| driver.poll_change()));
        let why = driver.why_offline().map(str::to_owned);
        let now = now();
        let settled = changes.is_empty();
        for change in changes {
            app.handle_change(driver.client(), change, now);
        }
        app.refresh(driver.client(), now, why.as_deref());
        if settled {
            // `refresh` may have asked for something: it is done before the next event, at the latest.
            while let Some(change) = driver.poll_change() {
                app.handle_change(driver.client(), change, now);
            }
            return;
        }
    }
}

fn handle_terminal(app: &mut App, driver: &mut Driver, event: TerminalEvent, shown: &Shown) {
    let now = now();
    app.screen.set_now(now);
    let client = driver.client();
    match event {
        TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => {
            // Who types looks; not every terminal tells when it gets the focus back.
            app.screen.focused = true;
            if let Some(wish) = keys::wish(key, &app.screen) {
                app.handle_wish(client, wish, shown, now);
            }
        }
        TerminalEvent::Paste(text) => {
            app.handle_wish(client, Wish::Type(Typing::Insert(text)), shown, now)
        }
        TerminalEvent::FocusGained => {
            app.screen.focused = true;
            client.reconnect_now(now);
        }
        TerminalEvent::FocusLost => app.screen.focused = false,
        TerminalEvent::Mouse(mouse) => match mouse.kind {
            MouseEventKind::ScrollUp => {
                app.handle_wish(client, Wish::Scroll(WHEEL_LINES), shown, now)
            }
            MouseEventKind::ScrollDown => {
                app.handle_wish(client, Wish::Scroll(-WHEEL_LINES), shown, now)
            }
            MouseEventKind::Down(_) if mouse.column < shown.list_width => {
                let hit = shown
                    .list
                    .iter()
                    .find(|(_, row)| mouse.row == *row || mouse.row == row + 1);
                let index = hit.and_then(|(id, _)| {
                    app.screen
                        .model
                        .conversations
                        .iter()
                        .position(|view| view.conversation == *id)
                });
                if let Some(index) = index {
                    app.handle_wish(client, Wish::Go(index), shown, now);
                }
            }
            _ => {}
        },
        TerminalEvent::Key(_) | TerminalEvent::Resize(..) => {}
    }
}

async fn ask_devices(dialling: Dialling, answer: mpsc::Sender<Result<Devices, HttpError>>) {
    let mut http = Http::new(dialling.network, Some(dialling.token));
    let devices = http
        .json(Method::GET, "/v1/devices", None::<&()>, ANSWER_WITHIN)
        .await;
    // Nobody waits if the chat has ended.
    let _ = answer.send(devices).await;
}

fn show_devices(app: &mut App, answer: Result<Devices, HttpError>) {
    match answer {
        Err(error) => app.screen.complain(error.to_string()),
        Ok(devices) => {
            let clock = &app.screen.clock;
            let line = |device: &tidings_protocol::account::Device| {
                let here = if device.current { " (this one)" } else { "" };
                let seen = clock.last_seen(device.last_seen);
                format!(
                    "{}{here}: {seen}, logged in {}",
                    crate::plain::name(&device.name, 60),
                    clock.short(device.created)
                )
            };
            let text = devices
                .devices
                .iter()
                .map(line)
                .collect::<Vec<_>>()
                .join("\n");
            app.screen.overlay = Some(Overlay::Text {
                title: "My devices".to_owned(),
                text,
                scroll: 0,
            });
        }
    }
}

/// Comes when the system wants the program to end.
async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut terminate), Ok(mut hang_up)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::hangup()),
        ) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            return;
        }
    }
    // In raw mode Ctrl+C is a key; this is for whoever sends the signal.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
